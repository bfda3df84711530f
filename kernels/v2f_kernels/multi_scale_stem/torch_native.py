"""The stem as three convolutions of torch's, in x's dtype or autocast's."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from v2f_kernels._contract import takes
from v2f_kernels.multi_scale_stem.checks import KERNELS, Arguments


@takes(Arguments)
def multi_scale_stem(given: Arguments) -> torch.Tensor:
    """See the contract in `v2f_kernels.multi_scale_stem`."""
    x = given.x
    return torch.cat(
        [
            F.conv2d(x, weight.to(x.dtype), bias.to(x.dtype), padding=kernel // 2)
            for kernel, weight, bias in zip(KERNELS, given.weights, given.biases, strict=True)
        ],
        dim=1,
    )
