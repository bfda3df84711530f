"""Token expansion written out, in fp32; the contract is in this folder's `__init__.py`."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from v2f_kernels.expand_tokens.checks import check_expand_tokens


def expand_tokens(
    feature: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    masked: torch.Tensor,
    kept: torch.Tensor,
    position: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    eps: float,
) -> torch.Tensor:
    """See the contract in `v2f_kernels.expand_tokens`."""
    check_expand_tokens(feature, weight, bias, masked, kept, position, norm_weight, norm_bias)
    dtype = torch.float64 if feature.dtype == torch.float64 else torch.float32
    f = feature.to(dtype)[:, None]
    expanded = weight.to(dtype)[kept][:, :, None] * f + bias.to(dtype)[kept][:, :, None]
    rows = torch.where(masked.gather(1, kept)[:, :, None], f, expanded)
    place = position.to(dtype)
    tokens = torch.cat([f + place[0], rows + place[1 + kept]], dim=1)
    normal = F.layer_norm(tokens, tokens.shape[-1:], norm_weight.to(dtype), norm_bias.to(dtype), eps)
    return normal.to(feature.dtype)
