"""Bias and PReLU in torch's own operators and in x's dtype."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from v2f_kernels._contract import takes
from v2f_kernels.bias_prelu.checks import Arguments
from v2f_kernels.bias_prelu.reference import bias_image


@takes(Arguments)
def bias_prelu(given: Arguments) -> torch.Tensor:
    """See the contract in `v2f_kernels.bias_prelu`."""
    x, bias, slope = given
    return F.prelu(x + bias_image(bias.to(x.dtype), *x.shape[2:]), slope.to(x.dtype))
