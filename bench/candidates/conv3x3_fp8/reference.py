"""The specification of the 8-bit convolution: values rounded to e4m3, everything else in fp32."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from v2f_kernels.group_norm_silu.reference import normalise

from bench.candidates.conv3x3_fp8.quantise import ACTIVATION_SCALE, Norm, check_fp8, to_e4m3


def conv3x3_fp8(
    x: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    norm: Norm,
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """See the contract in `bench.candidates.conv3x3_fp8`."""
    check_fp8(x, weight, scale, norm, residual)
    z = normalise(x.float(), *norm)
    z = to_e4m3(z * ACTIVATION_SCALE).float() / ACTIVATION_SCALE
    y = F.conv2d(z, weight.float() * scale[:, None, None, None], padding=1)
    if residual is not None:
        y = y + residual.float()
    return y.to(x.dtype)
