"""Token expansion in torch's own operators and in feature's dtype."""

from __future__ import annotations

import torch

from v2f_kernels._contract import takes
from v2f_kernels.expand_tokens.checks import Arguments
from v2f_kernels.expand_tokens.reference import expanded


@takes(Arguments)
def expand_tokens(given: Arguments) -> torch.Tensor:
    """See the contract in `v2f_kernels.expand_tokens`."""
    return expanded(given, given.feature.dtype)
