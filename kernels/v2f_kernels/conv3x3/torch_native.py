"""The 3x3 convolution in torch's own operators (oneDNN on a CPU, cuDNN on a GPU) and in x's dtype."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from v2f_kernels._contract import takes
from v2f_kernels.conv3x3.checks import Arguments
from v2f_kernels.group_norm_silu.reference import group_statistics
from v2f_kernels.group_norm_silu.torch_native import group_norm_silu


@takes(Arguments)
def conv3x3(given: Arguments) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """See the contract in `v2f_kernels.conv3x3`."""
    x, weight, bias, residual, norm, statistics, out_groups = given
    if norm is not None:
        x = group_norm_silu(x, *norm, statistics)
    y = F.conv2d(x, weight, None if bias is None else bias.to(x.dtype), padding=1)
    if residual is not None:
        # A convolution's backward does not read its output, so adding in place is safe under autograd too.
        y = y.add_(residual)
    if out_groups is None:
        return y
    return y, group_statistics(y.detach(), out_groups)
