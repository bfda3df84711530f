"""What a CUDA graph of a training step would hold, on a GPU that is imagined: nothing asks the device for a number,
nothing comes from the host or goes there. On a CPU other backends run, so only this sees what a step is on a card.

    python tests/train/test_captured_on_a_card.py TRAINER SIZE [FAULT]      prints the crossings of a step, as JSON

A process each: an imagined GPU is good for one (`bench.training.trace`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves

ROOT = Path(__file__).parents[2]
FAULT = "asks for its loss"


def crossings(trainer: str, size: str, faulty: bool) -> list[str]:
    """Operators that read a number of the device, make a tensor of host data, or move one between both, in a step after
    the first, which makes the optimisers' slots."""
    from bench.training.trace import steps
    from bench.training.trace.imagined import Mode, imagined

    aten = torch.ops.aten
    asks = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default}
    found: list[str] = []

    class Crossings(Mode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            seen = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
            kinds = {
                t.device.type for t in seen if t.ndim or func in (aten._to_copy.default, aten.copy_.default)
            }
            if func in asks or func is aten.lift_fresh.default or {"cpu", "cuda"} <= kinds:
                found.append(f"{func}: {[(t.device.type, tuple(t.shape)) for t in seen]}")
            return out

    if faulty:
        update: Any = steps.GeneratorTrainer.update

        def asking(*given: Any) -> Any:
            terms = update(*given)
            terms["pixel"].item()
            return terms

        steps.GeneratorTrainer.update = asking  # type: ignore[method-assign]
    with imagined():
        with torch.device("cuda"):
            step = steps.TRAINERS[trainer](size, 2, "6 one CUDA graph")
        step.run()
        with Crossings():
            step.run()
    return found


def asked(*arguments: str) -> list[str]:
    if shutil.which("g++") is None:
        pytest.skip("a GPU is imagined by a few lines of C++: no g++ here")
    done = subprocess.run(
        [sys.executable, __file__, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=280,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    ("trainer", "size"),
    [
        ("generator", "tiny"),
        pytest.param("generator", "base", marks=pytest.mark.slow),
        pytest.param("recogniser", "base", marks=pytest.mark.slow),
    ],
)
def test_a_captured_step_stays_on_the_card(trainer: str, size: str) -> None:
    assert asked(trainer, size) == []


def test_a_number_that_is_asked_for_is_seen() -> None:
    (found,) = asked("generator", "tiny", FAULT)
    assert found.startswith("aten._local_scalar_dense.default")


if __name__ == "__main__":
    print(json.dumps(crossings(sys.argv[1], sys.argv[2], FAULT in sys.argv)), flush=True)
    os._exit(0)  # its interpreter's end is where torch, whose hooks were lent, may crash
