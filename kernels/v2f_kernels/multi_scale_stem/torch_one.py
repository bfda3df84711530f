"""The stem as one 15x15 convolution of torch's: the smaller kernels stand in the middle of zeros."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from v2f_kernels._contract import takes
from v2f_kernels.multi_scale_stem.checks import KERNELS, Arguments

LARGEST = KERNELS[-1]


def embedded(given: Arguments, dtype: torch.dtype) -> torch.Tensor:
    """All weights as one [O3 + O7 + O15, C, 15, 15]; differentiable."""
    return torch.cat(
        [
            F.pad(weight.to(dtype), ((LARGEST - kernel) // 2,) * 4)
            for kernel, weight in zip(KERNELS, given.weights, strict=True)
        ]
    )


@takes(Arguments)
def multi_scale_stem(given: Arguments) -> torch.Tensor:
    """See the contract in `v2f_kernels.multi_scale_stem`."""
    x = given.x
    bias = torch.cat(given.biases).to(x.dtype)
    return F.conv2d(x, embedded(given, x.dtype), bias, padding=LARGEST // 2)
