"""Weights of a network in tests: norms of every sign, slopes of both, nothing at its beginning."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def randomised(model: Network, seed: int = 0) -> Network:
    """`model` with weights drawn in fp64, in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            z = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            if name.endswith("running_var"):
                z = 0.5 + z.abs()
            elif tensor.ndim >= 2:
                z = z / tensor[0].numel() ** 0.5
            tensor.copy_(z)
    return model.eval()
