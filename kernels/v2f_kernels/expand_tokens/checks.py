"""The contract's arguments and their checks, shared by every backend."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

ROWS = 49
"""Image tokens: a 7x7 grid."""


class Arguments(NamedTuple):
    """What `v2f_kernels.expand_tokens` describes."""

    feature: Tensor  # [B, D]
    weight: Tensor  # [49]
    bias: Tensor  # [49]
    masked: Tensor  # bool [B, 49]
    kept: Tensor  # int64 [B, K]
    position: Tensor  # [50, D]
    norm_weight: Tensor  # [D]
    norm_bias: Tensor  # [D]
    eps: float

    def check(self) -> None:
        """Raises ValueError unless the arguments have the contract's shapes and dtypes."""
        feature, masked, kept = self.feature, self.masked, self.kept
        if feature.ndim != 2 or not feature.is_floating_point():
            raise ValueError(
                f"feature: expected floating [B, D], found {feature.dtype} {tuple(feature.shape)}"
            )
        batch, width = feature.shape
        expected = {
            "weight": (self.weight, (ROWS,)),
            "bias": (self.bias, (ROWS,)),
            "masked": (masked, (batch, ROWS)),
            "position": (self.position, (1 + ROWS, width)),
            "norm_weight": (self.norm_weight, (width,)),
            "norm_bias": (self.norm_bias, (width,)),
        }
        for name, (value, shape) in expected.items():
            if tuple(value.shape) != shape:
                raise ValueError(
                    f"{name}: expected {shape} for feature {(batch, width)}, found {tuple(value.shape)}"
                )
        if masked.dtype != torch.bool:
            raise ValueError(f"masked: expected bool, found {masked.dtype}")
        if kept.dtype != torch.int64 or kept.ndim != 2 or kept.shape[0] != batch or kept.shape[1] > ROWS:
            raise ValueError(
                f"kept: expected int64 ({batch}, K) with K <= {ROWS}, found {kept.dtype} {tuple(kept.shape)}"
            )
