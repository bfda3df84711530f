"""The specification of GroupNorm+SiLU: plain torch, fp32 inside (fp64 for fp64), differentiable."""

from __future__ import annotations

import torch

from v2f_kernels._contract import takes
from v2f_kernels.group_norm_silu.checks import Arguments


def group_statistics(x: torch.Tensor, groups: int) -> torch.Tensor:
    """Mean and biased variance [B, groups, 2] of x [B, C, H, W] over each image's group of channels."""
    wide = x.double() if x.dtype == torch.float64 else x.float()
    grouped = wide.reshape(x.shape[0], groups, -1)
    variance, mean = torch.var_mean(grouped, 2, correction=0)
    return torch.stack((mean, variance), 2)


@takes(Arguments)
def normalise(given: Arguments) -> torch.Tensor:
    """SiLU(GroupNorm(x)) in the inner precision, not yet rounded to x's dtype: what prologues consume."""
    x, weight, bias, groups, eps, statistics, shift, _ = given
    inner = torch.float64 if x.dtype == torch.float64 else torch.float32
    if shift is not None:
        x = x.to(inner) + shift.to(inner)[:, None, None]
    if statistics is None:
        moments = group_statistics(x, groups)
    elif torch.is_grad_enabled() and x.requires_grad:  # their values, with the gradient of x's own
        own = group_statistics(x, groups)
        moments = own + (statistics.to(inner) - own).detach()
    else:
        moments = statistics.to(inner)
    mean, variance = (
        moments.to(inner).repeat_interleave(x.shape[1] // groups, 1)[:, :, :, None, None].unbind(2)
    )
    z = (x.to(inner) - mean) * torch.rsqrt(variance + eps)
    z = z * weight.to(inner)[:, None, None] + bias.to(inner)[:, None, None]
    return z * torch.sigmoid(z)


@takes(Arguments)
def group_norm_silu(given: Arguments) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """See the contract in `v2f_kernels.group_norm_silu`."""
    normal: torch.Tensor = normalise(*given)
    y = normal.to(given.x.dtype)
    return (y, given.x) if given.keep else y
