"""A step takes nothing from the host but its batch: a tensor made of Python numbers would be a copy to the GPU in every
step, which waits for the device and which no CUDA graph can hold."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from graph_replay import PROGRESS, opened, wanted
from torch.utils._python_dispatch import TorchDispatchMode

from v2f_engine.models import bind_ops
from v2f_engine.train.generator import GeneratorTrainer


class HostData(TorchDispatchMode):
    """Where tensors were made of host data: `torch.tensor` and its like end in `lift_fresh`, on every device."""

    def __init__(self) -> None:
        super().__init__()
        self.found = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found += function is torch.ops.aten.lift_fresh.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("backend", ["torch", "torch_folded"])
def test_a_step_takes_nothing_from_the_host(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All terms, the discriminator's step, clipping, both optimisers and the average; by either form of upsampling."""
    trainer = opened(GeneratorTrainer, wanted(bf16=True))
    bind_ops(trainer.model, {"upsample_conv3x3": backend})
    parts = trainer.batches(0)
    trainer.update(parts, *trainer.set_rates(PROGRESS[-1]))  # optimisers make their slots
    with HostData() as seen:
        trainer.update(parts, True, 1.0)
        trainer.average(1)
    assert seen.found == 0
    terms = trainer._terms
    monkeypatch.setattr(trainer, "_terms", lambda *a: {"pixel": terms(*a)["pixel"] * torch.tensor(1.0)})
    with HostData() as seen:
        trainer.update(parts, True, 1.0)
    trainer.batches.close()
    assert seen.found == 1
