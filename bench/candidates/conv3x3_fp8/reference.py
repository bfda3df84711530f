"""The specification of the 8-bit convolution: values rounded to e4m3, everything else in fp32."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from v2f_kernels._contract import takes
from v2f_kernels.group_norm_silu.reference import group_statistics, normalise

from bench.candidates.conv3x3_fp8.quantise import ACTIVATION_SCALE, Arguments, to_e4m3


@takes(Arguments)
def conv3x3_fp8(given: Arguments) -> Tensor | tuple[Tensor, Tensor]:
    """See the contract in `bench.candidates.conv3x3_fp8`."""
    x, weight, scale, norm, bias, residual, statistics, out_groups = given
    z = normalise(x.float(), *norm, statistics)
    z = to_e4m3(z * ACTIVATION_SCALE).float() / ACTIVATION_SCALE
    wide = None if bias is None else bias.float()
    y = F.conv2d(z, weight.float() * scale[:, None, None, None], wide, padding=1)
    if residual is not None:
        y = y + residual.float()
    y = y.to(x.dtype).contiguous(memory_format=torch.channels_last)
    return y if out_groups is None else (y, group_statistics(y, out_groups))
