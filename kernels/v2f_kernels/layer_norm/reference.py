"""Layer normalisation written out; the contract is in this folder's `__init__.py`."""

from __future__ import annotations

import torch

from v2f_kernels._contract import takes
from v2f_kernels.layer_norm.checks import Arguments


@takes(Arguments)
def layer_norm(given: Arguments) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """See the contract in `v2f_kernels.layer_norm`."""
    x, weight, bias, eps, residual = given
    total = x if residual is None else x + residual
    exact = total if total.dtype == torch.float64 else total.float()
    centred = exact - exact.mean(-1, keepdim=True)
    normal = centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + eps)
    y = (normal * weight.to(normal.dtype) + bias.to(normal.dtype)).to(x.dtype)
    return y if residual is None else (y, total)
