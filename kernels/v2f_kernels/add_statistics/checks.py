"""The contract's arguments and their checks, shared by every backend."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from v2f_kernels.conv3x3.checks import check_out_groups


class Arguments(NamedTuple):
    """What `v2f_kernels.add_statistics` describes."""

    x: Tensor  # [B, C, H, W]
    bias: Tensor | None = None  # [C]
    residual: Tensor | None = None  # [B, C, H, W]
    out_groups: int | None = None

    def check(self) -> None:
        """Raises ValueError unless x, bias, residual and groups fit together."""
        x, bias, residual, out_groups = self
        if x.ndim != 4 or x.numel() == 0 or not x.is_floating_point():
            raise ValueError(
                f"x: expected a non-empty floating [B, C, H, W], found {x.dtype} {tuple(x.shape)}"
            )
        if bias is not None and tuple(bias.shape) != (x.shape[1],):
            raise ValueError(f"bias: expected [{x.shape[1]}], found {tuple(bias.shape)}")
        if residual is not None and (residual.shape != x.shape or residual.dtype != x.dtype):
            raise ValueError(
                f"residual: expected {x.dtype} {tuple(x.shape)} as x, found {residual.dtype} "
                f"{tuple(residual.shape)}"
            )
        check_out_groups(x.shape[1], out_groups)
