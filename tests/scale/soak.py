"""A soak: two workers make dataset after dataset; memory and open files must not grow.

    python soak.py MINUTES     prints one line a minute and a summary of JSON; `make soak` runs an hour

Workers here run their loop in this process's two children for the whole time (a child makes many datasets), so that a
leak in the queue, the assembly line or the commit would show. The coordinator's own memory is watched too.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "data")]

from queue_harness import QUICK, ForkExecutor, scaled  # noqa: E402
from stub_people import tree  # noqa: E402

from v2f_engine.data import Plan  # noqa: E402

PLAN = Plan.of(20, 5, 10)


def resident(process: int) -> int:
    """Bytes of memory a process has in use."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def descriptors(process: int) -> int:
    return len(os.listdir(f"/proc/{process}/fd"))


def make_for_ever(base: Path, number: int) -> None:
    """Dataset after dataset with two forked workers; every hundredth is compared with the first."""
    done = 0
    first: dict[str, str] = {}
    while True:
        root = base / f"set{number}"
        scaled(root, PLAN, ForkExecutor(QUICK), 2)
        done += 1
        if done == 1:
            first = tree(root)
        elif done % 100 == 0 and tree(root) != first:
            os._exit(9)
        (base / f"count{number}").write_text(str(done))
        shutil.rmtree(root)


def main(minutes: float) -> int:
    base = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    children = []
    for number in range(2):
        child = os.fork()
        if child == 0:
            make_for_ever(base, number)
        children.append(child)
    rows: list[tuple[float, list[int], list[int]]] = []
    started = time.monotonic()
    try:
        while time.monotonic() - started < minutes * 60:
            time.sleep(min(5.0, minutes * 60 / 20))
            hours = (time.monotonic() - started) / 3600
            rows.append((hours, [resident(c) for c in children], [descriptors(c) for c in children]))
            if len(rows) % 12 == 0:
                print(
                    f"{hours * 60:.1f} min: {[r >> 20 for r in rows[-1][1]]} MiB, {rows[-1][2]} open",
                    flush=True,
                )
            for child in children:
                if os.waitpid(child, os.WNOHANG)[0]:
                    print(f"worker {child} ended", flush=True)
                    return 1
        made = sum(int((base / f"count{n}").read_text()) for n in range(2))
    finally:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        time.sleep(0.3)
        shutil.rmtree(base, ignore_errors=True)
    settled = [row for row in rows if row[0] >= rows[-1][0] * 0.2]  # imports and pools come first
    hours = np.array([row[0] for row in settled])
    slopes = [float(np.polyfit(hours, [row[1][k] / 2**20 for row in settled], 1)[0]) for k in range(2)]
    files = [
        sorted({min(row[2][k] for row in part) for part in (settled[:5], settled[-5:])}) for k in range(2)
    ]
    print(
        json.dumps(
            {
                "minutes": round(minutes, 1),
                "datasets": made,
                "mib_per_hour": [round(slope, 2) for slope in slopes],
                "fewest_open_files_first_and_last": files,
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
