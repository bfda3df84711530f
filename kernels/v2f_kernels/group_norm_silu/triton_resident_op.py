"""GroupNorm+SiLU in one launch at any size: launch, registered op, public function. Backward as in `triton_op`."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from v2f_kernels._contract import KEEPS, joins, takes
from v2f_kernels._triton.launch import launch_config, require_cuda
from v2f_kernels._triton.register import registered
from v2f_kernels.group_norm_silu.checks import Arguments, channels_last
from v2f_kernels.group_norm_silu.triton_op import (
    Statistics,
    differentiated,
    given_op,
    keep_for_backward,
    kept,
    shifted_op,
)
from v2f_kernels.group_norm_silu.triton_resident import resident_kernel


class Resident(NamedTuple):
    """(y, statistics of x)."""

    x: Tensor  # [B, C, H, W] channels-last
    weight: Tensor  # [C]
    bias: Tensor  # [C]
    groups: int
    eps: float

    def outputs(self) -> tuple[Tensor, Tensor]:
        """As x; float32 [B, groups, 2]."""
        return torch.empty_like(self.x), Statistics(self.x, self.groups).outputs()

    def launch(self, y: Tensor, statistics: Tensor) -> None:
        x, weight, bias, groups, eps = self
        require_cuda("group_norm_silu", x)
        batch, channels, height, width = x.shape
        pixels, per_group = height * width, channels // groups
        config = launch_config("group_norm_silu", "resident", x.device, f"P={triton.next_power_of_2(pixels)}")
        block_g = triton.next_power_of_2(per_group)
        slab = max(1, min(config.blocks["CHANNELS"] // block_g, triton.next_power_of_2(groups)))
        rows = max(1, config.blocks["TILE"] // (slab * block_g))
        resident_kernel[(triton.cdiv(groups, slab), batch)](
            x, weight, bias, y, statistics, eps, HW=pixels, C=channels, CPG=per_group,
            DEPTH=min(config.blocks["DEPTH"], triton.next_power_of_2(triton.cdiv(pixels, rows))), BLOCK_P=rows,
            SLAB=slab, BLOCK_G=block_g, num_warps=config.num_warps, num_stages=config.num_stages,
        )  # fmt: skip


resident_op = registered(
    "v2f::group_norm_silu_resident", Resident, setup_context=keep_for_backward, backward=differentiated
)


@joins(KEEPS)
@takes(Arguments)
def group_norm_silu(given: Arguments) -> Tensor | tuple[Tensor, Tensor]:
    """See the contract in `v2f_kernels.group_norm_silu`; x must lie in channels-last memory."""
    x, weight, bias, groups, eps, statistics, shift, keep = given
    channels_last("x", x)
    if keep:
        return kept(given, resident_op)
    if shift is not None:  # the two passes have it, and this one does not join it
        moved: Tensor = shifted_op(x, shift, weight, bias, statistics, groups, eps)
        return moved
    if statistics is not None:
        out: Tensor = given_op(x, weight, bias, statistics, eps)
        return out
    out, _ = resident_op(x, weight, bias, groups, eps)
    return out
