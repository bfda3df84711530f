"""The contract's arguments and their checks, shared by every backend."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Arguments(NamedTuple):
    """What `v2f_kernels.bias_prelu` describes."""

    x: Tensor  # [B, C, H, W]
    bias: Tensor  # [C] or [4, 4, C]
    slope: Tensor  # [C]

    def check(self) -> None:
        """Raises ValueError unless x, bias and slope fit together."""
        check_image("x", self.x)
        channels = self.x.shape[1]
        check_constant("bias", self.bias, (channels,), (4, 4, channels))
        check_constant("slope", self.slope, (channels,))


def check_image(name: str, x: Tensor) -> None:
    """Raises ValueError unless x is a floating [B, C, H, W] that is not empty."""
    if x.ndim != 4 or x.numel() == 0 or not x.is_floating_point():
        raise ValueError(
            f"{name}: expected a non-empty floating [B, C, H, W], found {x.dtype} {tuple(x.shape)}"
        )


def check_constant(name: str, value: Tensor, *shapes: tuple[int, ...]) -> None:
    """Raises ValueError unless value is floating, of one of the shapes, and asks for no gradient."""
    if tuple(value.shape) not in shapes or not value.is_floating_point():
        wanted = " or ".join(str(list(shape)) for shape in shapes)
        raise ValueError(f"{name}: expected a floating {wanted}, found {value.dtype} {list(value.shape)}")
    if value.requires_grad and torch.is_grad_enabled():
        raise ValueError(f"{name}: expected a constant, found one that asks for a gradient; freeze it")
