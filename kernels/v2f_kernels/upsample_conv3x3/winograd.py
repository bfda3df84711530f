"""The folded upsampling by differences of neighbours, in bf16 on a CPU: 9 products where the fold has 16 (`_winograd`).

One Zen 4 core, ms an image, `torch` first: 128 channels from 56 to 112 pixels 7.9 and 5.4, 256 from 28 7.9 and 4.8, 512
from 7 2.5 and 1.2.
"""

from __future__ import annotations

import torch

from v2f_kernels import _winograd
from v2f_kernels._native import EXTENSION
from v2f_kernels.group_norm_silu.reference import group_statistics
from v2f_kernels.upsample_conv3x3.fold import check_upsample


def upsample_conv3x3_folded(
    x: torch.Tensor, folded: torch.Tensor, bias: torch.Tensor | None = None, out_groups: int | None = None
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """See the contract in `v2f_kernels.upsample_conv3x3`; bf16, C a multiple of 32 and O of 64."""
    check_upsample(x, folded, bias, out_groups, folded=True)
    batch, _, height, width = x.shape
    outputs = folded.shape[1]
    _winograd.refuse_others(x, outputs, folded, bias)
    y = torch.empty(batch, 2 * height, 2 * width, outputs, dtype=x.dtype)
    none, none16 = _winograd.floats(None), _winograd.channels_last(None)
    EXTENSION.winograd_upsample_conv3x3(
        _winograd.channels_last(x),
        _winograd.of_folded(folded),
        _winograd.bits(y),
        _winograd.floats(bias),
        none16,
        none,
        none,
        none,
        1,
        0.0,
        torch.get_num_threads(),
    )
    y = y.permute(0, 3, 1, 2)
    return y if out_groups is None else (y, group_statistics(y, out_groups))
