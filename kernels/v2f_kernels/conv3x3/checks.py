"""The contract's arguments and their checks, shared by every backend of the 3x3 convolution."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from v2f_kernels.group_norm_silu.checks import check_norm

Norm = tuple[Tensor, Tensor, int, float]
"""(weight [C], bias [C], groups, eps) of the GroupNorm+SiLU before a convolution."""


class Arguments(NamedTuple):
    """What `v2f_kernels.conv3x3` describes."""

    x: Tensor  # [B, C, H, W]
    weight: Tensor  # [O, C, 3, 3]
    bias: Tensor | None = None  # [O]
    residual: Tensor | None = None  # [B, O, H, W]
    norm: Norm | None = None
    statistics: Tensor | None = None  # [B, groups, 2]
    out_groups: int | None = None

    def check(self) -> None:
        """Raises ValueError unless the arguments fit the contract in `v2f_kernels.conv3x3`."""
        x, weight, bias, residual, norm, statistics, out_groups = self
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
