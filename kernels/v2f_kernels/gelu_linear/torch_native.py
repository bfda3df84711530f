"""Linear + GELU in torch's own operators and in x's dtype."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from v2f_kernels._linear import linear
from v2f_kernels.gelu_linear.checks import check_gelu_linear


def gelu_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """See the contract in `v2f_kernels.gelu_linear`."""
    check_gelu_linear(x, weight, bias)
    return F.gelu(linear(x, weight.to(x.dtype), bias.to(x.dtype)))
