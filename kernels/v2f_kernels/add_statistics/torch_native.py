"""Bias, residual and statistics in torch's own operators and in x's dtype: a pass over memory for each."""

from __future__ import annotations

import torch

from v2f_kernels._contract import takes
from v2f_kernels.add_statistics.checks import Arguments
from v2f_kernels.group_norm_silu.reference import group_statistics


@takes(Arguments)
def add_statistics(given: Arguments) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """See the contract in `v2f_kernels.add_statistics`."""
    y, bias, residual, out_groups = given
    if bias is not None:
        y = y + bias.to(y.dtype)[:, None, None]
    if residual is not None:
        y = y + residual
    return y if out_groups is None else (y, group_statistics(y.detach(), out_groups))
