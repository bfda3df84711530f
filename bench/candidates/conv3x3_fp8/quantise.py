"""Rounding to e4m3, and the contract's checks."""

from __future__ import annotations

import torch
from v2f_kernels.group_norm_silu.checks import check_norm

LARGEST = 448.0
"""Of float8_e4m3fn; torch's own cast gives NaN beyond it, so values are clamped before."""
ACTIVATION_SCALE = 16.0
"""A power of two: SiLU of a normalised value is rarely above 28, and 2^-10 of it is the smallest that is kept."""
Norm = tuple[torch.Tensor, torch.Tensor, int, float]


def to_e4m3(x: torch.Tensor) -> torch.Tensor:
    """x rounded to the nearest e4m3 value, saturating."""
    return x.clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)


def quantise_weight(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(e4m3 weight [O, C, 3, 3] in channels-last memory, float32 scale [O]) with weight ~ e4m3 * scale.

    Args:
        weight: [O, C, 3, 3], any floating dtype. A channel of zeros gets scale 1.
    """
    wide = weight.detach().float()
    largest = wide.abs().amax(dim=(1, 2, 3))
    scale = torch.where(largest > 0, largest / LARGEST, torch.ones_like(largest))
    # Cast after laying out: not every build copies 8-bit floats between layouts.
    packed = to_e4m3((wide / scale[:, None, None, None]).contiguous(memory_format=torch.channels_last))
    return packed, scale


def check_fp8(
    x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, norm: Norm, residual: torch.Tensor | None
) -> None:
    """Raises ValueError unless the arguments fit the contract in `bench.candidates.conv3x3_fp8`."""
    check_norm(x, norm[0], norm[1], norm[2])
    if weight.ndim != 4 or tuple(weight.shape[1:]) != (x.shape[1], 3, 3):
        raise ValueError(f"weight: expected [O, {x.shape[1]}, 3, 3] for x, found {tuple(weight.shape)}")
    if weight.dtype != torch.float8_e4m3fn:
        raise ValueError(f"weight: expected float8_e4m3fn from quantise_weight, found {weight.dtype}")
    if tuple(scale.shape) != (weight.shape[0],) or scale.dtype != torch.float32:
        raise ValueError(
            f"scale: expected float32 [{weight.shape[0]}], found {scale.dtype} {tuple(scale.shape)}"
        )
    shape = (x.shape[0], weight.shape[0], *x.shape[2:])
    if residual is not None and (tuple(residual.shape) != shape or residual.dtype != x.dtype):
        raise ValueError(
            f"residual: expected {x.dtype} {shape}, found {residual.dtype} {tuple(residual.shape)}"
        )
