"""The contract's arguments and their checks, shared by every backend of batch normalisation with PReLU."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from v2f_kernels.bias_prelu.checks import check_image


class Arguments(NamedTuple):
    """What `v2f_kernels.batch_norm_prelu` describes."""

    x: Tensor  # [B, C, H, W]
    weight: Tensor  # [C]
    bias: Tensor  # [C]
    running_mean: Tensor  # [C], changed
    running_var: Tensor  # [C], changed
    batches: Tensor  # int64 [], changed
    momentum: float
    eps: float
    slope: Tensor | None = None  # [C]
    residual: Tensor | None = None  # [B, C, H, W]
    through: bool = False

    def check(self) -> None:
        """Raises ValueError unless the arguments fit the contract in `v2f_kernels.batch_norm_prelu`."""
        x, channels = self.x, self.x.shape[1] if self.x.ndim == 4 else 0
        check_image("x", x)
        if x.numel() == channels:
            raise ValueError(f"x: expected at least two pixels in all, found {tuple(x.shape)}")
        for name in ("weight", "bias", "running_mean", "running_var", "slope"):
            value = getattr(self, name)
            if value is not None and (tuple(value.shape) != (channels,) or not value.is_floating_point()):
                raise ValueError(
                    f"{name}: expected a floating [{channels}], found {value.dtype} {tuple(value.shape)}"
                )
        if self.batches.shape or self.batches.dtype != torch.int64:
            raise ValueError(
                f"batches: expected int64 [], found {self.batches.dtype} {tuple(self.batches.shape)}"
            )
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"momentum: expected a number between 0 and 1, found {self.momentum}")
        added = self.residual
        if added is not None and (added.shape != x.shape or added.dtype != x.dtype):
            raise ValueError(
                f"residual: expected {x.dtype} {tuple(x.shape)} as x, found {added.dtype} {tuple(added.shape)}"
            )
