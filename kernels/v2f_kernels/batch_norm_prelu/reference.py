"""The specification: plain torch, fp32 inside (fp64 for fp64), differentiable; contract in this folder's `__init__`."""

from __future__ import annotations

import torch

from v2f_kernels._contract import takes
from v2f_kernels.batch_norm_prelu.checks import Arguments


@takes(Arguments)
def batch_norm_prelu(given: Arguments) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """See the contract in `v2f_kernels.batch_norm_prelu`."""
    x, weight, bias, running_mean, running_var, batches, momentum, eps, slope, residual, through = given
    inner = torch.float64 if x.dtype == torch.float64 else torch.float32
    wide = x.to(inner)
    mean = wide.mean((0, 2, 3))
    away = wide - mean[:, None, None]
    variance = away.square().mean((0, 2, 3))
    pixels = x.numel() // x.shape[1]
    with torch.no_grad():
        unbiased = variance * (pixels / (pixels - 1))
        for running, found in ((running_mean, mean), (running_var, unbiased)):
            running.copy_((1 - momentum) * running.to(inner) + momentum * found)
        batches.add_(1)
    scale = torch.rsqrt(variance + eps) * weight.to(inner)
    y = away * scale[:, None, None] + bias.to(inner)[:, None, None]
    if slope is not None:
        y = torch.where(y > 0, y, y * slope.to(inner)[:, None, None])
    if residual is not None:
        y = y + residual.to(inner)
    return (y.to(x.dtype), x) if through else y.to(x.dtype)
