"""The specification of the decoder's tail: plain torch, fp32 inside."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from v2f_kernels._contract import takes
from v2f_kernels.group_norm_silu.reference import normalise
from v2f_kernels.to_uint8.checks import Arguments


def quantise(image: torch.Tensor) -> torch.Tensor:
    """uint8 [B, H, W, 3] of an image [B, 3, H, W] in [-1, 1]: clipped, rounded half to even, non-finite ->
    0."""
    wide = torch.where(torch.isfinite(image), image, -1.0)
    levels = torch.round((wide.clamp(-1.0, 1.0) + 1.0) * 127.5)
    return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


@torch.no_grad()
@takes(Arguments)
def to_uint8(given: Arguments) -> torch.Tensor:
    """See the contract in `v2f_kernels.to_uint8`."""
    z = normalise(*given.norm)
    return quantise(F.conv2d(z, given.conv_weight.to(z.dtype), given.conv_bias.to(z.dtype), padding=1))
