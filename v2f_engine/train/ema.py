"""Exponential moving average of weights: what is kept is steadier than what is trained."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


def twin(model: Model) -> Model:
    """A frozen copy of `model`, in eval mode."""
    return copy.deepcopy(model).eval().requires_grad_(False)


@torch.no_grad()
def average_into(average: nn.Module, model: nn.Module, decay: float) -> None:
    """`average <- decay * average + (1 - decay) * model`, parameters by one fused call, buffers copied."""
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1.0 - decay)
    for kept, new in zip(average.buffers(), model.buffers(), strict=True):
        kept.copy_(new)
