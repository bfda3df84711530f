"""Upsample + 3x3 convolution in torch's own operators and in x's dtype.

Unfolded it is two operators, or (`torch_folded`) the transposed convolution of a weight folded at each call, whose
gradients are the transposed convolution's, carried back through the fold: 4/9 of the FLOPs in each of the three
passes, and no upsampled image, which autocast would make in fp32.

The folded form is the transposed convolution: on one Zen 4 core (torch 2.13, bf16, 128 channels, 56 ->
112) 7.7 ms an image against 16.4 unfolded, 9.1 as four 2x2 convolutions and 17.0 as one convolution to 4O
channels + pixel shuffle.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from v2f_kernels.group_norm_silu.reference import group_statistics
from v2f_kernels.upsample_conv3x3.fold import check_upsample, fold_weights


def upsample_conv3x3(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, out_groups: int | None = None
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """See the contract in `v2f_kernels.upsample_conv3x3`."""
    check_upsample(x, weight, bias, out_groups, folded=False)
    up = F.interpolate(x, scale_factor=2.0, mode="nearest")
    y = F.conv2d(up, weight, None if bias is None else bias.to(x.dtype), padding=1)
    return y if out_groups is None else (y, group_statistics(y.detach(), out_groups))


def upsample_conv3x3_by_fold(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, out_groups: int | None = None
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """See the contract in `v2f_kernels.upsample_conv3x3`."""
    check_upsample(x, weight, bias, out_groups, folded=False)
    return _transposed(x, fold_weights(weight), bias, out_groups)


def upsample_conv3x3_folded(
    x: torch.Tensor, folded: torch.Tensor, bias: torch.Tensor | None = None, out_groups: int | None = None
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """See the contract in `v2f_kernels.upsample_conv3x3`."""
    check_upsample(x, folded, bias, out_groups, folded=True)
    return _transposed(x, folded, bias, out_groups)


def _transposed(
    x: torch.Tensor, folded: torch.Tensor, bias: torch.Tensor | None, out_groups: int | None
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    y = F.conv_transpose2d(x, folded, None if bias is None else bias.to(x.dtype), stride=2, padding=1)
    return y if out_groups is None else (y, group_statistics(y.detach(), out_groups))
