"""The decoder's tail in torch's own operators and x's dtype; the three output channels widened to fp32."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from v2f_kernels._contract import takes
from v2f_kernels.group_norm_silu.torch_native import group_norm_silu
from v2f_kernels.to_uint8.checks import Arguments
from v2f_kernels.to_uint8.reference import quantise


@torch.no_grad()
@takes(Arguments)
def to_uint8(given: Arguments) -> torch.Tensor:
    """See the contract in `v2f_kernels.to_uint8`."""
    z = group_norm_silu(*given.norm)
    image = F.conv2d(z, given.conv_weight.to(z.dtype), padding=1)
    return quantise(image.float() + given.conv_bias.float()[:, None, None])
