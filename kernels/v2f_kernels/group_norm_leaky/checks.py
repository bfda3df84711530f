"""The contract's arguments and their checks, shared by every backend of GroupNorm between leaky ReLUs."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from v2f_kernels.group_norm_silu.checks import check_norm


class Arguments(NamedTuple):
    """What `v2f_kernels.group_norm_leaky` describes."""

    x: Tensor  # [B, C, H, W]
    weight: Tensor  # [C]
    bias: Tensor  # [C]
    groups: int
    eps: float
    before: float = 1.0
    after: float = 1.0
    shift: Tensor | None = None  # [C]

    def check(self) -> None:
        """Raises ValueError unless the arguments fit the contract in `v2f_kernels.group_norm_leaky`."""
        check_norm(self.x, self.weight, self.bias, self.groups)
        channels = self.x.shape[1]
        if self.shift is not None and tuple(self.shift.shape) != (channels,):
            raise ValueError(
                f"shift: expected [{channels}], one per channel of x, found {tuple(self.shift.shape)}"
            )
        for name, slope in (("before", self.before), ("after", self.after)):
            if not (math.isfinite(slope) and slope >= 0):
                raise ValueError(f"{name}: expected a slope of at least 0, found {slope}")
