"""The contract's arguments and their checks, shared by every backend."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from v2f_kernels.bias_prelu.checks import check_constant, check_image


class Arguments(NamedTuple):
    """What `v2f_kernels.bias_residual` describes."""

    x: Tensor  # [B, C, H, W]
    bias: Tensor  # [C]
    shortcut: Tensor  # [B, C, H, W]

    def check(self) -> None:
        """Raises ValueError unless x, bias and shortcut fit together."""
        x, bias, shortcut = self
        check_image("x", x)
        check_constant("bias", bias, (x.shape[1],))
        if shortcut.shape != x.shape or shortcut.dtype != x.dtype:
            raise ValueError(
                f"shortcut: expected {x.dtype} {tuple(x.shape)} as x, found {shortcut.dtype} {tuple(shortcut.shape)}"
            )
