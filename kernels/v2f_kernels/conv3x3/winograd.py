"""The 3x3 convolution by Winograd's F(2x2, 3x3) in bf16 on a CPU, with norm, bias and residual (`_winograd`).

The norm's value is rounded once, behind SiLU, where `torch` rounds before it too: together with its convolution the
error is that of `torch`. One Zen 4 core, ms an image, norm + convolution + residual, `torch` first: 128 channels at 112
pixels 18.2 and 10.5, 256 at 28 5.0 and 2.2, 512 at 7 1.00 and 0.71.
"""

from __future__ import annotations

import torch

from v2f_kernels import _winograd
from v2f_kernels._contract import NORM, joins, takes
from v2f_kernels._native import EXTENSION
from v2f_kernels.conv3x3.checks import Arguments
from v2f_kernels.group_norm_silu.reference import group_statistics


@joins(NORM)
@takes(Arguments)
def conv3x3(given: Arguments) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """See the contract in `v2f_kernels.conv3x3`; bf16, C a multiple of 32 and O of 64, no gradients."""
    x, weight, bias, residual, norm, statistics, out_groups = given
    norm_weight, norm_bias, groups, eps = norm or (None, None, 1, 0.0)
    batch, _, height, width = x.shape
    outputs = weight.shape[0]
    _winograd.refuse_others(x, outputs, weight, bias, residual, norm_weight, norm_bias)
    y = torch.empty(batch, height, width, outputs, dtype=x.dtype)
    EXTENSION.winograd_conv3x3(
        _winograd.channels_last(x),
        _winograd.of_taps(weight),
        _winograd.bits(y),
        _winograd.floats(bias),
        _winograd.channels_last(residual),
        _winograd.floats(norm_weight),
        _winograd.floats(norm_bias),
        _winograd.floats(statistics),
        groups,
        eps,
        torch.get_num_threads(),
    )
    y = y.permute(0, 3, 1, 2)
    return y if out_groups is None else (y, group_statistics(y, out_groups))
