"""Linear + GELU written out; the contract is in this folder's `__init__.py`."""

from __future__ import annotations

import torch

from v2f_kernels.gelu_linear.checks import check_gelu_linear


def gelu_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """See the contract in `v2f_kernels.gelu_linear`."""
    check_gelu_linear(x, weight, bias)
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    z = x.to(dtype) @ weight.to(dtype).T + bias.to(dtype)
    return (z * 0.5 * (1.0 + torch.erf(z * 0.5**0.5))).to(x.dtype)
