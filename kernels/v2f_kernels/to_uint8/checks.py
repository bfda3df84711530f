"""The contract's checks, shared by every backend of the tail."""

from __future__ import annotations

import torch

from v2f_kernels.group_norm_silu.checks import check_norm


def check_tail(
    x: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    groups: int,
    conv_weight: torch.Tensor,
    conv_bias: torch.Tensor,
    statistics: torch.Tensor | None,
) -> None:
    """Raises ValueError unless the arguments fit the contract in `v2f_kernels.to_uint8`."""
    check_norm(x, norm_weight, norm_bias, groups, statistics)
    expected = (3, x.shape[1], 3, 3)
    if tuple(conv_weight.shape) != expected:
        raise ValueError(f"conv_weight: expected {list(expected)} for x, found {list(conv_weight.shape)}")
    if tuple(conv_bias.shape) != (3,):
        raise ValueError(f"conv_bias: expected [3], found {tuple(conv_bias.shape)}")
