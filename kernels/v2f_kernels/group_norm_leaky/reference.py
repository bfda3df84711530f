"""The specification of GroupNorm between leaky ReLUs: plain torch, fp32 inside (fp64 for fp64), differentiable."""

from __future__ import annotations

import torch

from v2f_kernels._contract import takes
from v2f_kernels.group_norm_leaky.checks import Arguments
from v2f_kernels.group_norm_silu.reference import group_statistics


@takes(Arguments)
def group_norm_leaky(given: Arguments) -> torch.Tensor:
    """See the contract in `v2f_kernels.group_norm_leaky`."""
    x, weight, bias, groups, eps, before, after, shift = given
    inner = torch.float64 if x.dtype == torch.float64 else torch.float32
    u = x.to(inner)
    if shift is not None:
        u = u + shift.to(inner)[:, None, None]
    u = torch.where(u > 0, u, before * u)
    moments = group_statistics(u, groups).repeat_interleave(x.shape[1] // groups, 1)
    mean, variance = moments[:, :, :, None, None].unbind(2)
    z = (u - mean) * torch.rsqrt(variance + eps)
    z = z * weight.to(inner)[:, None, None] + bias.to(inner)[:, None, None]
    return torch.where(z > 0, z, after * z).to(x.dtype)
