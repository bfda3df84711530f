"""Layer normalisation written out; the contract is in this folder's `__init__.py`."""

from __future__ import annotations

import torch

from v2f_kernels.layer_norm.checks import check_layer_norm


def layer_norm(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float,
    residual: torch.Tensor | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """See the contract in `v2f_kernels.layer_norm`."""
    check_layer_norm(x, weight, bias, residual)
    total = x if residual is None else x + residual
    exact = total if total.dtype == torch.float64 else total.float()
    centred = exact - exact.mean(-1, keepdim=True)
    normal = centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + eps)
    y = (normal * weight.to(normal.dtype) + bias.to(normal.dtype)).to(x.dtype)
    return y if residual is None else (y, total)
