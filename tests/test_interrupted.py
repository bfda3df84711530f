"""Commands in real processes, ended by real signals: never a 0, never a file named that does not exist."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from v2f_engine.data.layout import MANIFEST, WORK

V2F = (sys.executable, "-m", "v2f_engine")
ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "OMP_NUM_THREADS": "1"}
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def begun(*words: str, ignoring: tuple[int, ...] = ()) -> subprocess.Popen[str]:
    def settle() -> None:
        for number in STATUS:
            signal.signal(number, signal.SIG_IGN if number in ignoring else signal.SIG_DFL)

    return subprocess.Popen(
        [*V2F, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, preexec_fn=settle
    )  # fmt: skip


def wait_for(what: Callable[[], object], process: subprocess.Popen[str]) -> None:
    start = time.monotonic()
    while not what() and process.poll() is None:
        assert time.monotonic() - start < 120, "not begun within two minutes"
        time.sleep(0.02)


def generation(out: Path, ids: int = 30) -> tuple[str, ...]:
    return ("generate", "--ids", str(ids), "--images", "20", "--images-per-shard", "20", "--out", str(out))


def committed(out: Path) -> int:
    found = out.glob(
        f"{WORK}/ledger/[!.]*.jsonl"
    )  # a name that begins with a dot is being written, and may be gone
    return sum(len(path.read_bytes().splitlines()) for path in found)


@pytest.mark.parametrize("number", STATUS, ids=lambda number: number.name)
def test_a_stopped_generation_says_what_is_kept_and_the_same_command_resumes(
    number: signal.Signals, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    process = begun(*generation(out))
    wait_for(lambda: committed(out) >= 2, process)
    process.send_signal(number)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == STATUS[number], errors
    assert said == "", "an unfinished set told as a finished one"
    last = errors.strip().splitlines()[-1]
    found = re.fullmatch(
        rf"stopped by {number.name}: (\d+) of 600 images \((\d+) of 30 shards\) kept in {out}; "
        "the same command resumes.",
        last,
    )
    assert found, last
    assert int(found[2]) == committed(out)
    assert not (out / MANIFEST).exists()
    if number == signal.SIGINT:
        done = subprocess.run(
            [*V2F, *generation(out)], capture_output=True, text=True, env=ENVIRONMENT, check=True
        )
        written = int(re.search(r"\((\d+) written now", done.stdout)[1])  # type: ignore[index]
        assert written == 600 - int(found[1])
        assert (out / MANIFEST).is_file()


@pytest.mark.parametrize("command", ["{v2f} &", "nohup {v2f} &"])
def test_what_the_shell_has_ignored_stays_ignored(command: str, tmp_path: Path) -> None:
    """A script's `command &` begins with SIGINT ignored, `nohup` with SIGHUP: the set is finished, with status 0."""
    out = tmp_path / "set"
    words = " ".join([*V2F, *generation(out, 8)])
    script = f"{command.format(v2f=words)} child=$!; echo $child; wait $child; echo status $?"
    process = subprocess.Popen(
        ["sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=tmp_path
    )  # fmt: skip
    assert process.stdout is not None
    child = int(process.stdout.readline())
    wait_for(lambda: committed(out) >= 1, process)
    os.kill(child, signal.SIGINT)
    if "nohup" in command:
        os.kill(child, signal.SIGHUP)
    said, _ = process.communicate(timeout=120)
    assert "status 0" in said
    assert (out / MANIFEST).is_file()
    for path in re.findall(r"^(?:contact sheet|manifest)\s+(.+)$", said, re.MULTILINE):
        assert Path(path).is_file()


def test_a_signal_while_everything_is_still_being_imported(tmp_path: Path) -> None:
    for number, (signum, status) in enumerate(STATUS.items()):
        out = tmp_path / str(number)
        process = begun(*generation(out))
        time.sleep(0.4 + 0.5 * number)
        process.send_signal(signum)
        _, errors = process.communicate(timeout=60)
        assert process.returncode in (status, -signum), errors
        assert not (out / MANIFEST).exists()


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from v2f_engine.batch import ImageBatch
    from v2f_engine.data import Plan, write_dataset

    def batches(identities: range):  # type: ignore[no-untyped-def]
        for identity in identities:
            dice = np.random.default_rng(identity)
            images = dice.integers(0, 255, (40, 112, 112, 3), np.uint8)
            yield ImageBatch(images, np.full(40, identity), np.arange(40), {})

    root = tmp_path_factory.mktemp("faces") / "set"
    write_dataset(root, {"seed": 1}, Plan.of(60, 40), batches, format="lmdb")
    return root


COMMANDS = {
    "features": "features {faces} --out {out}.npy",
    "evaluate": "evaluate consistency {faces} --out {out}.json",
    "ids sample": "ids sample 400000 --source gaussian --max-cosine 0.2 --out {out}.safetensors",
    "render": "render --ids 2000 --images 4 --out {out}",
    "train": "train recogniser {faces} --out {out} --steps 100000",
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_every_long_command_ends_with_the_signal_s_status(
    command: str, number: signal.Signals, faces: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = begun(*COMMANDS[command].format(faces=faces, out=out).split())
    time.sleep(6)
    assert process.poll() is None, process.communicate()[1]
    process.send_signal(number)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == STATUS[number], errors
    assert f"stopped by {number.name}" in errors.strip().splitlines()[-1]
    assert str(out) not in said
