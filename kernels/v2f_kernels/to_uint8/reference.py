"""The specification of the decoder's tail: plain torch, fp32 inside."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from v2f_kernels.group_norm_silu.reference import normalise
from v2f_kernels.to_uint8.checks import check_tail


def quantise(image: torch.Tensor) -> torch.Tensor:
    """uint8 [B, H, W, 3] of an image [B, 3, H, W] in [-1, 1]: clipped, rounded half to even, non-finite ->
    0."""
    wide = torch.where(torch.isfinite(image), image, -1.0)
    levels = torch.round((wide.clamp(-1.0, 1.0) + 1.0) * 127.5)
    return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


@torch.no_grad()
def to_uint8(
    x: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    groups: int,
    eps: float,
    conv_weight: torch.Tensor,
    conv_bias: torch.Tensor,
    statistics: torch.Tensor | None = None,
) -> torch.Tensor:
    """See the contract in `v2f_kernels.to_uint8`."""
    check_tail(x, norm_weight, norm_bias, groups, conv_weight, conv_bias, statistics)
    z = normalise(x, norm_weight, norm_bias, groups, eps, statistics)
    return quantise(F.conv2d(z, conv_weight.to(z.dtype), conv_bias.to(z.dtype), padding=1))
