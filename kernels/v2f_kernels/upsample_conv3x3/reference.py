"""The specification of upsample + 3x3 convolution, unfolded and folded: plain torch, fp32 inside."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from v2f_kernels.group_norm_silu.reference import group_statistics
from v2f_kernels.upsample_conv3x3.fold import check_upsample


def upsample_conv3x3(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, out_groups: int | None = None
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """See the contract in `v2f_kernels.upsample_conv3x3`."""
    check_upsample(x, weight, bias, out_groups, folded=False)
    inner = torch.float64 if x.dtype == torch.float64 else torch.float32
    up = F.interpolate(x.to(inner), scale_factor=2.0, mode="nearest")
    y = F.conv2d(up, weight.to(inner), None if bias is None else bias.to(inner), padding=1).to(x.dtype)
    return y if out_groups is None else (y, group_statistics(y.detach(), out_groups))


def upsample_conv3x3_folded(
    x: torch.Tensor, folded: torch.Tensor, bias: torch.Tensor | None = None, out_groups: int | None = None
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """See the contract in `v2f_kernels.upsample_conv3x3`."""
    check_upsample(x, folded, bias, out_groups, folded=True)
    inner = torch.float64 if x.dtype == torch.float64 else torch.float32
    wide_bias = None if bias is None else bias.to(inner)
    y = F.conv_transpose2d(x.to(inner), folded.to(inner), wide_bias, stride=2, padding=1).to(x.dtype)
    return y if out_groups is None else (y, group_statistics(y.detach(), out_groups))
