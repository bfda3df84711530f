"""Token expansion written out, in fp32; the contract is in this folder's `__init__.py`."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from v2f_kernels._contract import takes
from v2f_kernels.expand_tokens.checks import Arguments


@takes(Arguments)
def expand_tokens(given: Arguments) -> torch.Tensor:
    """See the contract in `v2f_kernels.expand_tokens`."""
    return expanded(given, torch.float64 if given.feature.dtype == torch.float64 else torch.float32)


def expanded(given: Arguments, dtype: torch.dtype) -> torch.Tensor:
    """The tokens, computed in `dtype`."""
    f = given.feature.to(dtype)[:, None]
    weight, bias = (line.to(dtype)[given.kept][:, :, None] for line in (given.weight, given.bias))
    rows = torch.where(given.masked.gather(1, given.kept)[:, :, None], f, weight * f + bias)
    place = given.position.to(dtype)
    tokens = torch.cat([f + place[0], rows + place[1 + given.kept]], dim=1)
    norm = given.norm_weight.to(dtype), given.norm_bias.to(dtype)
    return F.layer_norm(tokens, tokens.shape[-1:], *norm, given.eps).to(given.feature.dtype)
