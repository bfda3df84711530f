"""Batch normalisation, PReLU and the residual in torch's own operators: what the layers of `torch.nn` call."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from v2f_kernels._contract import takes
from v2f_kernels.batch_norm_prelu.checks import Arguments


@takes(Arguments)
def batch_norm_prelu(given: Arguments) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """See the contract in `v2f_kernels.batch_norm_prelu`."""
    x, weight, bias, running_mean, running_var, batches, momentum, eps, slope, residual, through = given
    batches.add_(1)
    y = F.batch_norm(x, running_mean, running_var, weight, bias, True, momentum, eps)
    if slope is not None:
        y = F.prelu(y, slope.to(y.dtype))  # the cast that autocast's own form makes
    y = y if residual is None else y + residual
    return (y, x) if through else y
