"""The contract's checks, shared by every backend."""

from __future__ import annotations

import torch

ROWS = 49
"""Image tokens: a 7x7 grid."""


def check_expand_tokens(
    feature: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    masked: torch.Tensor,
    kept: torch.Tensor,
    position: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
) -> None:
    """Raises ValueError unless the arguments have the contract's shapes and dtypes."""
    if feature.ndim != 2 or not feature.is_floating_point():
        raise ValueError(f"feature: expected floating [B, D], found {feature.dtype} {tuple(feature.shape)}")
    batch, width = feature.shape
    expected = {
        "weight": (weight, (ROWS,)),
        "bias": (bias, (ROWS,)),
        "masked": (masked, (batch, ROWS)),
        "position": (position, (1 + ROWS, width)),
        "norm_weight": (norm_weight, (width,)),
        "norm_bias": (norm_bias, (width,)),
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
