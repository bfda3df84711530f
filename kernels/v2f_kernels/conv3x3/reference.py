"""The specification of the 3x3 convolution with prologue and epilogue: plain torch, fp32 inside."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from v2f_kernels._contract import takes
from v2f_kernels.conv3x3.checks import Arguments
from v2f_kernels.group_norm_silu.reference import group_statistics, normalise


@takes(Arguments)
def conv3x3(given: Arguments) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """See the contract in `v2f_kernels.conv3x3`."""
    x, weight, bias, residual, norm, statistics, out_groups = given
    inner = torch.float64 if x.dtype == torch.float64 else torch.float32
    z = x.to(inner) if norm is None else normalise(x, *norm, statistics).to(x.dtype).to(inner)
    y = F.conv2d(z, weight.to(inner), None if bias is None else bias.to(inner), padding=1)
    if residual is not None:
        y = y + residual.to(inner)
    y = y.to(x.dtype)
    if out_groups is None:
        return y
    return y, group_statistics(y.detach(), out_groups)
