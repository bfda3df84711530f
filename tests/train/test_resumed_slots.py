"""What an optimiser remembers of each weight meets that weight again after a resume, whatever their memory order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from v2f_engine.train.checkpoint import Checkpoints, restore, training_state
from v2f_engine.train.optim import adamw, sgd

KINDS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "AdamW, one kernel": lambda m: adamw([m], 0.1, 0.01, capturable=True),
    "AdamW": lambda m: adamw([m], 0.1, 0.01),
    "AdamW as on a GPU": lambda m: torch.optim.AdamW(m.parameters(), lr=0.1, fused=True),
    "SGD, one kernel": lambda m: sgd([m], 1e-4, 0.9, 0.01, capturable=True),
    "SGD": lambda m: sgd([m], 1e-4, 0.9, 0.01),
}


def network(layout: torch.memory_format) -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 5, 5), nn.Flatten(), nn.Linear(45, 4)
    )
    return made.to(memory_format=layout)  # type: ignore[call-overload, no-any-return]


def take(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for number in steps:
        x = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(number))
        optimizer.zero_grad()
        model(x.contiguous(memory_format=torch.channels_last)).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_training_ends_at_the_undisturbed_ones_weights(
    kind: str, layout: torch.memory_format, tmp_path: Path
) -> None:
    whole = network(layout)
    optimizer = KINDS[kind](whole)
    take(whole, optimizer, range(3))
    files = Checkpoints(tmp_path, print)
    files.save(3, training_state({"model": whole}, {"optimizer": optimizer}), {})
    files.wait()
    take(whole, optimizer, range(3, 6))

    again = network(layout)
    optimizer = KINDS[kind](again)
    state, _ = files.load(3)
    restore(state, {"model": again}, {"optimizer": optimizer})
    take(again, optimizer, range(3, 6))
    for name, value in whole.state_dict().items():
        assert value.isfinite().all(), name
        assert torch.equal(value, again.state_dict()[name]), name
