"""The specification: plain torch, fp32 inside (fp64 for fp64), differentiable; contract in this folder's `__init__`."""

from __future__ import annotations

import torch

from v2f_kernels._contract import takes
from v2f_kernels.bias_residual.checks import Arguments


@takes(Arguments)
def bias_residual(given: Arguments) -> torch.Tensor:
    """See the contract in `v2f_kernels.bias_residual`."""
    x, bias, shortcut = given
    inner = torch.float64 if x.dtype == torch.float64 else torch.float32
    return (x.to(inner) + bias.to(inner)[:, None, None] + shortcut.to(inner)).to(x.dtype)
