"""Upsample + 3x3 convolution by cuDNN without bias, then one Triton pass for bias and statistics together."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from v2f_kernels._contract import STATISTICS, joins
from v2f_kernels.add_statistics.triton_op import add_statistics
from v2f_kernels.upsample_conv3x3.fold import check_upsample


@joins(STATISTICS)
def upsample_conv3x3_folded(
    x: torch.Tensor, folded: torch.Tensor, bias: torch.Tensor | None = None, out_groups: int | None = None
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """See the contract in `v2f_kernels.upsample_conv3x3`; x in channels-last memory."""
    check_upsample(x, folded, bias, out_groups, folded=True)
    product = F.conv_transpose2d(x, folded, stride=2, padding=1)
    product = product.contiguous(memory_format=torch.channels_last)
    out: torch.Tensor | tuple[torch.Tensor, torch.Tensor] = add_statistics(product, bias, None, out_groups)
    return out
