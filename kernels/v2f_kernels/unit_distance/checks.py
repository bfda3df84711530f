"""The contract's arguments and their checks, shared by every backend."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from v2f_kernels.bias_prelu.checks import check_constant, check_image

FLOOR = 1e-4


class Arguments(NamedTuple):
    """What `v2f_kernels.unit_distance` describes."""

    left: Tensor  # [B, C, H, W]
    right: Tensor  # [B, C, H, W]
    weight: Tensor | None = None  # [C]
    floor: float = FLOOR

    def check(self) -> None:
        """Raises ValueError unless the maps, their weight and the floor fit together."""
        left, right, weight, floor = self
        check_image("left", left)
        if right.shape != left.shape or right.dtype != left.dtype:
            raise ValueError(
                f"right: expected {left.dtype} {tuple(left.shape)} as left, found {right.dtype} {tuple(right.shape)}"
            )
        if weight is not None:
            check_constant("weight", weight, (left.shape[1],))
        if not floor > 0:
            raise ValueError(f"floor: expected a number above 0, found {floor}")
