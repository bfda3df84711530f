"""The contract's arguments and their checks, shared by every backend."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Arguments(NamedTuple):
    """What `v2f_kernels.layer_norm` describes."""

    x: Tensor  # [..., D]
    weight: Tensor  # [D]
    bias: Tensor  # [D]
    eps: float
    residual: Tensor | None = None  # [..., D]

    def check(self) -> None:
        """Raises ValueError unless x, weight, bias and residual fit together."""
        x, residual = self.x, self.residual
        if x.ndim < 1 or x.shape[-1] < 1 or not x.is_floating_point():
            raise ValueError(f"x: expected floating [..., D], found {x.dtype} {tuple(x.shape)}")
        for name, value in (("weight", self.weight), ("bias", self.bias)):
            if value.shape != x.shape[-1:]:
                raise ValueError(
                    f"{name}: expected [{x.shape[-1]}] as x's last axis, found {tuple(value.shape)}"
                )
        if residual is not None and residual.shape != x.shape:
            raise ValueError(
                f"residual: expected the shape of x, {tuple(x.shape)}, found {tuple(residual.shape)}"
            )
