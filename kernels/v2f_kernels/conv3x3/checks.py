"""The contract's checks, shared by every backend of the 3x3 convolution."""

from __future__ import annotations

import torch

from v2f_kernels.group_norm_silu.checks import check_norm

Norm = tuple[torch.Tensor, torch.Tensor, int, float]
"""(weight [C], bias [C], groups, eps) of the GroupNorm+SiLU before a convolution."""


def check_conv(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    residual: torch.Tensor | None,
    norm: Norm | None,
    statistics: torch.Tensor | None,
    out_groups: int | None,
) -> None:
    """Raises ValueError unless the arguments fit the contract in `v2f_kernels.conv3x3`."""
    if x.ndim != 4 or x.numel() == 0:
        raise ValueError(f"x: expected a non-empty [B, C, H, W], found {tuple(x.shape)}")
    if weight.ndim != 4 or tuple(weight.shape[1:]) != (x.shape[1], 3, 3):
        raise ValueError(f"weight: expected [O, {x.shape[1]}, 3, 3] for x, found {tuple(weight.shape)}")
    if weight.dtype != x.dtype:
        raise ValueError(f"weight: expected the dtype of x, {x.dtype}, found {weight.dtype}")
    out_channels = weight.shape[0]
    if bias is not None and tuple(bias.shape) != (out_channels,):
        raise ValueError(f"bias: expected [{out_channels}], found {tuple(bias.shape)}")
    out_shape = (x.shape[0], out_channels, *x.shape[2:])
    if residual is not None and (tuple(residual.shape) != out_shape or residual.dtype != x.dtype):
        raise ValueError(
            f"residual: expected {x.dtype} {out_shape}, found {residual.dtype} {tuple(residual.shape)}"
        )
    if norm is not None:
        check_norm(x, norm[0], norm[1], norm[2], statistics)
    elif statistics is not None:
        raise ValueError("statistics: given without norm, which alone uses them")
    check_out_groups(out_channels, out_groups)


def check_out_groups(out_channels: int, out_groups: int | None) -> None:
    """Raises ValueError unless `out_groups` divides the output's channels."""
    if out_groups is not None and (out_groups < 1 or out_channels % out_groups):
        raise ValueError(
            f"out_groups: expected a divisor of the {out_channels} output channels, found {out_groups}"
        )
