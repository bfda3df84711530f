"""The contract's checks, shared by every backend."""

from __future__ import annotations

import torch


def check_gelu_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> None:
    """Raises ValueError unless x [..., K], weight [M, K] and bias [M] fit together."""
    if x.ndim < 1 or not x.is_floating_point():
        raise ValueError(f"x: expected floating [..., K], found {x.dtype} {tuple(x.shape)}")
    if weight.ndim != 2 or weight.shape[1] != x.shape[-1]:
        raise ValueError(
            f"weight: expected [M, {x.shape[-1]}] for x's last axis, found {tuple(weight.shape)}"
        )
    if bias.shape != weight.shape[:1]:
        raise ValueError(f"bias: expected [{weight.shape[0]}] as weight's rows, found {tuple(bias.shape)}")
