"""Rounding to e4m3, the contract's arguments and their checks."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from v2f_kernels.conv3x3.checks import Arguments as Convolution
from v2f_kernels.conv3x3.checks import Norm

LARGEST = 448.0
"""Of float8_e4m3fn; torch's own cast gives NaN beyond it, so values are clamped before."""
ACTIVATION_SCALE = 16
"""A power of two: SiLU of a normalised value is rarely above 28, and 2^-10 of it is the smallest that is kept."""


def to_e4m3(x: Tensor) -> Tensor:
    """x rounded to the nearest e4m3 value, saturating."""
    return x.clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)


def quantise_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
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


class Arguments(NamedTuple):
    """What `bench.candidates.conv3x3_fp8` describes."""

    x: Tensor  # [B, C, H, W]
    weight: Tensor  # e4m3 [O, C, 3, 3]
    scale: Tensor  # [O]
    norm: Norm
    bias: Tensor | None = None  # [O]
    residual: Tensor | None = None  # [B, O, H, W]
    statistics: Tensor | None = None  # [B, groups, 2]
    out_groups: int | None = None

    def check(self) -> None:
        """Raises ValueError unless the arguments fit the contract in `bench.candidates.conv3x3_fp8`."""
        x, weight, scale, norm, bias, residual, statistics, out_groups = self
        if weight.dtype != torch.float8_e4m3fn:
            raise ValueError(f"weight: expected float8_e4m3fn from quantise_weight, found {weight.dtype}")
        if tuple(scale.shape) != (weight.shape[0],) or scale.dtype != torch.float32:
            raise ValueError(
                f"scale: expected float32 [{weight.shape[0]}], found {scale.dtype} {tuple(scale.shape)}"
            )
        # The rest is the contract of the convolution that is not rounded; a weight of its dtype has no memory.
        like = torch.empty(weight.shape, dtype=x.dtype, device="meta")
        Convolution(x, like, bias, residual, norm, statistics, out_groups).check()
