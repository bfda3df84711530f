"""The specification: plain torch, fp32 inside (fp64 for fp64), differentiable; contract in this folder's `__init__`."""

from __future__ import annotations

import torch

from v2f_kernels._contract import takes
from v2f_kernels.unit_distance.checks import Arguments


def unit_channels(maps: torch.Tensor, floor: float) -> torch.Tensor:
    """`[B, C, H, W]` with every pixel's channel vector divided by its length, at least by `floor`."""
    wide = maps if maps.dtype is torch.float64 else maps.float()
    out: torch.Tensor = wide / wide.norm(dim=1, keepdim=True).clamp_min(floor)
    return out


@takes(Arguments)
def unit_distance(given: Arguments) -> torch.Tensor:
    """See the contract in `v2f_kernels.unit_distance`."""
    left, right, weight, floor = given
    square = (unit_channels(left, floor) - unit_channels(right, floor)).square().mean((2, 3))
    return square.sum(1) if weight is None else square @ weight.to(square.dtype)
