"""The 3x3 convolution by cuDNN without bias, then one Triton pass for bias, residual and statistics together.

torch adds a cuDNN convolution's bias in a kernel of its own and a residual in another, and a norm reads the result a
third time for its statistics. Here that is one read of the product and of the residual and one write.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from v2f_kernels._contract import STATISTICS, joins, takes
from v2f_kernels.add_statistics.triton_op import add_statistics
from v2f_kernels.conv3x3.checks import Arguments
from v2f_kernels.group_norm_silu.checks import channels_last
from v2f_kernels.group_norm_silu.triton_op import group_norm_silu


@joins(STATISTICS)
@takes(Arguments)
def conv3x3(given: Arguments) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """See the contract in `v2f_kernels.conv3x3`; x and residual in channels-last memory."""
    x, weight, bias, residual, norm, statistics, out_groups = given
    channels_last("x", x)
    if norm is not None:
        x = group_norm_silu(x, *norm, statistics)
    product = F.conv2d(x, weight, padding=1).contiguous(memory_format=torch.channels_last)
    out: torch.Tensor | tuple[torch.Tensor, torch.Tensor] = add_statistics(
        product, bias, residual, out_groups
    )
    return out
