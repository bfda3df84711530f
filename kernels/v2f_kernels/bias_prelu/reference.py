"""The specification: plain torch, fp32 inside (fp64 for fp64), differentiable; contract in this folder's `__init__`."""

from __future__ import annotations

import torch

from v2f_kernels._contract import takes
from v2f_kernels.bias_prelu.checks import Arguments


def edges(size: int, device: torch.device) -> torch.Tensor:
    """int64 `[size]`: e of the contract, 1 for the first line, 2 for the last, 3 for the only one."""
    place = torch.arange(size, device=device)
    return (place == 0).long() + 2 * (place == size - 1).long()


def bias_image(bias: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The bias of every pixel, to be added to [B, C, H, W]: [1, C, H, W], or [1, C, 1, 1] of a bias [C]."""
    if bias.ndim == 1:
        return bias[None, :, None, None]
    rows, columns = edges(height, bias.device), edges(width, bias.device)
    return bias[rows][:, columns].permute(2, 0, 1)[None]


@takes(Arguments)
def bias_prelu(given: Arguments) -> torch.Tensor:
    """See the contract in `v2f_kernels.bias_prelu`."""
    x, bias, slope = given
    inner = torch.float64 if x.dtype == torch.float64 else torch.float32
    z = x.to(inner) + bias_image(bias.to(inner), *x.shape[2:])
    return torch.where(z > 0, z, z * slope.to(inner)[:, None, None]).to(x.dtype)
