"""Kills `v2f generate` with the embedded model at random moments, resumes it, and compares every byte.

`python kill_generate.py KILLS SEED` prints one line per kill and a summary; exit status 1 if any tree differs.
Run by test_scale_slow.py; standing alone it needs `PYTHONPATH=.:kernels`.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OPTIONS = "--ids 16 --images 4 --images-per-shard 8 --format webdataset --seed 5 --device cpu --out"
COMMAND = [sys.executable, "-c", "from v2f_engine.cli import main; main()", "generate", *OPTIONS.split()]


def tree(root: Path) -> dict[str, str]:
    """Path -> sha256 of every file below `root`, hidden ones included."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def start(root: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*COMMAND, str(root)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def run(root: Path) -> float:
    started = time.perf_counter()
    process = start(root)
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"generate ended with {process.returncode}: {errors.decode()[-2000:]}")
    return time.perf_counter() - started


def main(kills: int, seed: int) -> int:
    base = Path(tempfile.mkdtemp())
    dice = random.Random(seed)
    try:
        seconds = run(base / "undisturbed")
        expected = tree(base / "undisturbed")
        first = Path(base / "undisturbed")
        print(f"undisturbed: {seconds:.1f} s, {len(expected)} files in {first.name}", flush=True)
        killed = unequal = midway = 0
        for number in range(kills):
            root = base / "killed"
            started = time.perf_counter()
            process = start(root)
            # Importing torch and loading weights takes most of a small run: aim at the part that writes too.
            moment = dice.uniform(0.25, 1.0) * seconds
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
            assert process.stderr is not None
            process.stderr.close()
            hit = process.returncode == -signal.SIGKILL
            if not hit:  # the machine has become quicker: aim by what a run takes now
                seconds = min(seconds, time.perf_counter() - started)
            left = sorted(str(p.relative_to(root)) for p in root.rglob("*.tar")) if root.exists() else []
            run(root)
            equal = tree(root) == expected
            killed += hit
            midway += hit and root.exists() and bool(left)
            unequal += not equal
            print(f"{number}: at {moment:.1f} s, {len(left)} shards there, equal {equal}", flush=True)
            shutil.rmtree(root)
        print(f"{killed} killed of {kills}, {midway} of them with shards committed, {unequal} trees unequal")
        return int(unequal > 0)
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
