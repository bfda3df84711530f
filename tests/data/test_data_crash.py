"""`kill -9` at any moment, then the same command again: the same bytes as an undisturbed run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORMATS = ("imagefolder", "webdataset", "lmdb", "recordio", "parquet")


def harness(format: str, steps: int, moments: int, seed: int) -> dict[str, int]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "OMP_NUM_THREADS": "1"}
    script = str(Path(__file__).with_name("crash_harness.py"))
    command = [sys.executable, script, format, str(steps), str(moments), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    outcome: dict[str, int] = json.loads(done.stdout)
    assert outcome["unequal"] == 0, (outcome, done.stderr)
    assert outcome["torn"] == 0, outcome
    return outcome


@pytest.mark.parametrize("format", FORMATS)
def test_killed_runs_resume_to_the_same_bytes(format: str) -> None:
    outcome = harness(format, steps=12, moments=6, seed=len(format))
    assert outcome["kills"] >= 12
    assert outcome["unfinished"] >= 10
    sys.stdout.write(f"{outcome}\n")


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_killed_at_every_operation(format: str) -> None:
    outcome = harness(format, steps=0, moments=100, seed=1)
    assert outcome["points"] == outcome["operations"]
    assert outcome["kills"] >= outcome["operations"]
    sys.stdout.write(f"{outcome}\n")
