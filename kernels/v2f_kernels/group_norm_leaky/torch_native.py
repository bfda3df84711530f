"""GroupNorm between leaky ReLUs in torch's own operators and in x's dtype: what a CPU runs, forward and backward."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from v2f_kernels._contract import takes
from v2f_kernels.group_norm_leaky.checks import Arguments


@takes(Arguments)
def group_norm_leaky(given: Arguments) -> torch.Tensor:
    """See the contract in `v2f_kernels.group_norm_leaky`."""
    x, weight, bias, groups, eps, before, after, shift = given
    u = x if shift is None else x + shift.to(x.dtype)[:, None, None]
    u = u if before == 1.0 else F.leaky_relu(u, before)
    if x.device.type != "cpu":  # whose GroupNorm alone takes half activations with fp32 weights
        weight, bias = weight.to(x.dtype), bias.to(x.dtype)
    z = F.group_norm(u, groups, weight, bias, eps)
    # Autocast runs group_norm in fp32 on a GPU: the cast back keeps the contract and costs nothing elsewhere.
    y = (z if after == 1.0 else F.leaky_relu(z, after)).to(x.dtype)
    # On a GPU ATen's GroupNorm answers in NCHW memory whatever it was given; the contract says x's.
    kept = x.is_contiguous(memory_format=torch.channels_last)
    return y.contiguous(memory_format=torch.channels_last) if kept else y
