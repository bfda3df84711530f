"""Layer normalisation in torch's own operators and in x's dtype."""

from __future__ import annotations

import torch
import torch.nn.functional as F

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
    y = F.layer_norm(total, total.shape[-1:], weight.to(total.dtype), bias.to(total.dtype), eps).to(x.dtype)
    return y if residual is None else (y, total)
