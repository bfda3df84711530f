"""The contract's arguments and their checks, shared by every backend of the tail."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from v2f_kernels.group_norm_silu.checks import check_norm


class Arguments(NamedTuple):
    """What `v2f_kernels.to_uint8` describes."""

    x: Tensor  # [B, C, H, W]
    norm_weight: Tensor  # [C]
    norm_bias: Tensor  # [C]
    groups: int
    eps: float
    conv_weight: Tensor  # [3, C, 3, 3]
    conv_bias: Tensor  # [3]
    statistics: Tensor | None = None  # [B, groups, 2]

    @property
    def norm(self) -> tuple[Tensor, Tensor, Tensor, int, float, Tensor | None]:
        """What `group_norm_silu` is called with."""
        return self.x, self.norm_weight, self.norm_bias, self.groups, self.eps, self.statistics

    def check(self) -> None:
        """Raises ValueError unless the arguments fit the contract in `v2f_kernels.to_uint8`."""
        check_norm(self.x, self.norm_weight, self.norm_bias, self.groups, self.statistics)
        expected = [3, self.x.shape[1], 3, 3]
        if list(self.conv_weight.shape) != expected:
            raise ValueError(f"conv_weight: expected {expected} for x, found {list(self.conv_weight.shape)}")
        if tuple(self.conv_bias.shape) != (3,):
            raise ValueError(f"conv_bias: expected [3], found {tuple(self.conv_bias.shape)}")
