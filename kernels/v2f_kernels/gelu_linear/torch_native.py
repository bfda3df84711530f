"""Linear + GELU in torch's own operators and in x's dtype."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def gelu_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """See the contract in `v2f_kernels.gelu_linear`."""
    return F.gelu(F.linear(x, weight, bias))
