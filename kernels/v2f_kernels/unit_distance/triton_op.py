"""The distance of unit channel vectors on a GPU: launches, the registered ops, the public function."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from v2f_kernels._contract import takes
from v2f_kernels._triton.launch import LaunchConfig, launch_config, require_cuda
from v2f_kernels._triton.register import registered
from v2f_kernels.group_norm_silu.checks import channels_last
from v2f_kernels.unit_distance.checks import Arguments
from v2f_kernels.unit_distance.triton_rows import unit_distance_backward_kernel, unit_distance_forward_kernel

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
WIDEST = 2048


def _constants(config: LaunchConfig, x: Tensor, weight: Tensor | None) -> dict[str, Any]:
    """What both kernels are compiled for; a tile has TILE bytes of a map."""
    block = triton.next_power_of_2(x.shape[1])
    return {
        "HW": x.shape[2] * x.shape[3], "C": x.shape[1], "WEIGHTED": weight is not None, "BLOCK": block,
        "ROWS": max(1, config.blocks["TILE"] // (block * x.element_size())),
        "num_warps": config.num_warps, "num_stages": config.num_stages,
    }  # fmt: skip


class Forward(NamedTuple):
    """d <- the distance of left and right."""

    left: Tensor  # [B, C, H, W] channels-last
    right: Tensor  # [B, C, H, W] channels-last
    weight: Tensor | None  # [C]
    floor: float

    def outputs(self) -> Tensor:
        """float32 [B]."""
        return self.left.new_empty((self.left.shape[0],), dtype=torch.float32)

    def launch(self, d: Tensor) -> None:
        """A program walks CHUNK elements; what the programs of an image write is summed here, in a fixed order."""
        left, right, weight, floor = self
        require_cuda("unit_distance", left, right)
        config = launch_config("unit_distance", "forward", left.device, f"C={left.shape[1]}")
        constants = _constants(config, left, weight)
        chunk = max(constants["ROWS"], config.blocks["CHUNK"] // constants["BLOCK"])
        chunks = triton.cdiv(constants["HW"], chunk)
        partial = torch.empty((left.shape[0], chunks), dtype=torch.float32, device=left.device)
        unit_distance_forward_kernel[(chunks, left.shape[0])](
            left,
            right,
            left if weight is None else weight.contiguous(),
            partial,
            floor,
            CHUNK=chunk,
            **constants,
        )
        torch.sum(partial, 1, out=d)


class Backward(NamedTuple):
    """The gradient of left; right's is that of left with the two exchanged."""

    dd: Tensor  # [B]
    left: Tensor  # [B, C, H, W] channels-last
    right: Tensor  # [B, C, H, W] channels-last
    weight: Tensor | None  # [C]
    floor: float

    def outputs(self) -> Tensor:
        return torch.empty_like(self.left)

    def launch(self, dleft: Tensor) -> None:
        dd, left, right, weight, floor = self
        require_cuda("unit_distance", dd, left, right)
        config = launch_config("unit_distance", "backward", left.device, f"C={left.shape[1]}")
        constants = _constants(config, left, weight)
        unit_distance_backward_kernel[(triton.cdiv(constants["HW"], constants["ROWS"]), left.shape[0])](
            dd.contiguous(),
            left,
            right,
            left if weight is None else weight.contiguous(),
            dleft,
            floor,
            **constants,
        )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    left, right, weight, ctx.floor = inputs
    ctx.save_for_backward(left, right, weight)


def _backward(ctx: Any, dd: Tensor) -> tuple[Any, ...]:
    left, right, weight = ctx.saved_tensors
    to_left, to_right, *_ = ctx.needs_input_grad
    return (
        backward_op(dd, left, right, weight, ctx.floor) if to_left else None,
        backward_op(dd, right, left, weight, ctx.floor) if to_right else None,
        None,
        None,
    )


backward_op = registered("v2f::unit_distance_backward", Backward)
forward_op = registered("v2f::unit_distance", Forward, setup_context=_setup_context, backward=_backward)


@takes(Arguments)
def unit_distance(given: Arguments) -> Tensor:
    """See the contract in `v2f_kernels.unit_distance`."""
    left, right, weight, floor = given
    if left.dtype not in DTYPES or left.shape[1] > WIDEST:
        raise ValueError(
            f"unit_distance/triton: expected maps in float16, bfloat16 or float32 of at most {WIDEST} channels, found"
            f" {left.dtype} {tuple(left.shape)}; use 'torch'"
        )
    d: Tensor = forward_op(channels_last("left", left), channels_last("right", right), weight, floor)
    return d
