"""The decoder's tail in torch's own operators and x's dtype; the three output channels widened to fp32."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from v2f_kernels.group_norm_silu.torch_native import group_norm_silu
from v2f_kernels.to_uint8.checks import check_tail
from v2f_kernels.to_uint8.reference import quantise


@torch.no_grad()
def to_uint8(
    x: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    groups: int,
    eps: float,
    conv_weight: torch.Tensor,
    conv_bias: torch.Tensor,
    statistics: torch.Tensor | None = None,
) -> torch.Tensor:
    """See the contract in `v2f_kernels.to_uint8`."""
    check_tail(x, norm_weight, norm_bias, groups, conv_weight, conv_bias, statistics)
    z = group_norm_silu(x, norm_weight, norm_bias, groups, eps, statistics)
    image = F.conv2d(z, conv_weight.to(z.dtype), padding=1)
    return quantise(image.float() + conv_bias.float()[:, None, None])
