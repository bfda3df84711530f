"""The specification: plain torch, fp32 inside (fp64 for fp64); contract in this folder's `__init__`."""

from __future__ import annotations

import torch

from v2f_kernels._contract import takes
from v2f_kernels.add_statistics.checks import Arguments
from v2f_kernels.group_norm_silu.reference import group_statistics


@takes(Arguments)
def add_statistics(given: Arguments) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """See the contract in `v2f_kernels.add_statistics`."""
    x, bias, residual, out_groups = given
    inner = torch.float64 if x.dtype == torch.float64 else torch.float32
    wide = x.to(inner)
    if bias is not None:
        wide = wide + bias.to(inner)[:, None, None]
    if residual is not None:
        wide = wide + residual.to(inner)
    y = wide.to(x.dtype)
    return y if out_groups is None else (y, group_statistics(y.detach(), out_groups))
