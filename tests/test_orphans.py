"""Children of a parent that was killed are gone within seconds: every kind of process that this engine starts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "OMP_NUM_THREADS": "1"}
LIMIT_S = 5.0
INSPECT = """
import sys
from v2f_engine.data import inspect_file
inspect_file.inspect_file(sys.argv[1])
"""
PARENTS = {
    "render": ("-m", "v2f_engine", "render", "--ids", "3000", "--images", "4", "--out", "{folder}/set"),
    "local workers": ("-m", "v2f_engine", "generate", "--ids", "400", "--images", "50", "--executor", "local",
                      "--workers", "2", "--images-per-shard", "2000", "--out", "{folder}/set"),
    "inspect": ("-c", INSPECT, "{folder}/large.npy"),
}  # fmt: skip
CHILDREN = {"render": 2, "local workers": 2, "inspect": 1}


def children(parent: int) -> set[int]:
    """Processes that descend from `parent`, multiprocessing's resource tracker aside."""
    found: set[int] = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            stat = (folder / "stat").read_text()
            words = (folder / "cmdline").read_bytes()
            if int(stat[stat.rindex(")") + 2 :].split()[1]) == parent and b"resource_tracker" not in words:
                found |= {int(folder.name)} | children(int(folder.name))
    return found


def alive(process: int) -> bool:
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{process}/stat").read_text()
        return stat[stat.rindex(")") + 2] not in "ZX"
    return False


@contextlib.contextmanager
def started(kind: str, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], set[int]]]:
    words = [
        sys.executable,
        *(word.format(folder=folder) if "{folder}" in word else word for word in PARENTS[kind]),
    ]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    known: set[int] = set()
    try:
        limit = time.monotonic() + 60
        while len(known) < CHILDREN[kind] and time.monotonic() < limit and process.poll() is None:
            known = children(process.pid)
            time.sleep(0.05)
        yield process, known
    finally:
        process.kill()
        process.wait()
        for child in known:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
@pytest.mark.parametrize("settle_s", [0.0, 6.0], ids=["while they begin", "at work"])
@pytest.mark.parametrize("kind", PARENTS)
def test_children_of_a_killed_parent_are_gone_within_seconds(
    kind: str, settle_s: float, tmp_path: Path
) -> None:
    if kind == "inspect":
        if settle_s:
            pytest.skip("it is done sooner")
        with open(tmp_path / "large.npy", "wb") as file:
            file.truncate(1 << 30)
    with started(kind, tmp_path) as (parent, first):
        assert len(first) >= CHILDREN[kind]
        time.sleep(settle_s)
        known = children(parent.pid) | first
        parent.kill()
        parent.wait()
        killed = time.monotonic()
        while any(map(alive, known)) and time.monotonic() < killed + 4 * LIMIT_S:
            time.sleep(0.02)
        took = time.monotonic() - killed
        print(f"{kind}: {len(known)} children gone {took:.2f} s after their parent was killed")
        assert not any(map(alive, known))
        assert took < LIMIT_S


def test_a_child_does_not_pass_its_parent_s_name_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from v2f_engine import orphans

    monkeypatch.setenv(orphans.VARIABLE, "17")
    assert orphans.told() == 17
    assert orphans.VARIABLE not in os.environ
    assert orphans.told() is None
