"""The specification of the stem: plain torch, fp32 inside (fp64 for fp64), differentiable."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from v2f_kernels._contract import takes
from v2f_kernels.multi_scale_stem.checks import KERNELS, Arguments


@takes(Arguments)
def multi_scale_stem(given: Arguments) -> torch.Tensor:
    """See the contract in `v2f_kernels.multi_scale_stem`."""
    x = given.x
    inner = torch.float64 if x.dtype == torch.float64 else torch.float32
    parts = [
        F.conv2d(x.to(inner), weight.to(inner), bias.to(inner), padding=kernel // 2)
        for kernel, weight, bias in zip(KERNELS, given.weights, given.biases, strict=True)
    ]
    return torch.cat(parts, 1).to(x.dtype)
