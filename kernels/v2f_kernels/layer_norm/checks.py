"""The contract's checks, shared by every backend."""

from __future__ import annotations

import torch


def check_layer_norm(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, residual: torch.Tensor | None
) -> None:
    """Raises ValueError unless x [..., D], weight [D], bias [D] and residual (shape of x) fit together."""
    if x.ndim < 1 or x.shape[-1] < 1 or not x.is_floating_point():
        raise ValueError(f"x: expected floating [..., D], found {x.dtype} {tuple(x.shape)}")
    for name, value in (("weight", weight), ("bias", bias)):
        if value.shape != x.shape[-1:]:
            raise ValueError(f"{name}: expected [{x.shape[-1]}] as x's last axis, found {tuple(value.shape)}")
    if residual is not None and residual.shape != x.shape:
        raise ValueError(
            f"residual: expected the shape of x, {tuple(x.shape)}, found {tuple(residual.shape)}"
        )
