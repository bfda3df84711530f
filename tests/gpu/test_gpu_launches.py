"""Every Triton kernel on hardware at odd shapes under every launch in reach: see `bench/kernels/launches.py`.

The same code is rehearsed with injected faults by `tests/kernels/test_launches_interpreted.py`.
"""

from __future__ import annotations

import warnings

import pytest
import torch

from bench.kernels.launches import attempt, gate_of, in_child, problems
from bench.kernels.odd_shapes import trials

pytestmark = pytest.mark.gpu
DEVICE = "cuda"


@pytest.fixture(autouse=True)
def full_fp32_in_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuDNN's fp32 convolutions use TF32 by default; the yardstick must be fp32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("group", dict.fromkeys(trial.group for trial in trials(DEVICE)))
def test_every_configuration_is_right_and_the_same_each_time(group: str) -> None:
    gate = gate_of(DEVICE)
    first = [one for trial in trials(DEVICE) if trial.group == group for one in attempt(trial, DEVICE, gate)]
    for one in first:
        if one.status == "skipped":
            warnings.warn(f"not run: {one.place}: {one.words}", stacklevel=1)
    wrong = problems(first, in_child(group, DEVICE))
    assert not wrong, "\n".join(wrong)
