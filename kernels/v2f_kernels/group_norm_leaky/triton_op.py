"""GroupNorm between leaky ReLUs on a GPU: launches, the registered ops, the public function.

Forward: images of at most `SINGLE_PASS_PIXELS` pixels are read once; larger ones twice (moments, then apply).
Backward: (x, dy) are read once where a program owns a whole group of a small image, else twice; one write. Sums are
fp32, in a fixed order: results repeat bit by bit and do not depend on the batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from v2f_kernels._contract import takes
from v2f_kernels._triton.launch import LaunchConfig, launch_config, require_cuda
from v2f_kernels._triton.register import registered
from v2f_kernels.group_norm_leaky.checks import Arguments
from v2f_kernels.group_norm_leaky.triton_backward import (
    backward_apply_kernel,
    backward_group_kernel,
    backward_merge_kernel,
    backward_sums_kernel,
)
from v2f_kernels.group_norm_leaky.triton_forward import (
    activated_apply_kernel,
    activated_moments_kernel,
    activated_single_pass_kernel,
)
from v2f_kernels.group_norm_silu.checks import channels_last
from v2f_kernels.group_norm_silu.triton_op import launch_merge

SINGLE_PASS_ELEMENTS = 32_768
"""Most that a group may have, padded, to lie in one program's registers forwards: 64 a thread of 16 warps."""
SINGLE_PASS_PIXELS = 1024
"""Largest image of which one program owns a group: 32 channels of 28x28 pixels are 50 KB in bf16, and with their
gradients still in the cache for the second read."""


def _config(kernel: str, x: Tensor, variant: str = "") -> LaunchConfig:
    return launch_config("group_norm_leaky", kernel, x.device, variant or f"C={x.shape[1]}")


def _warps(config: LaunchConfig) -> dict[str, int]:
    return {"num_warps": config.num_warps, "num_stages": config.num_stages}


def _tile(config: LaunchConfig, channels: int) -> dict[str, int]:
    """A tile of all channels by as many pixels as make TILE elements."""
    block_c = triton.next_power_of_2(channels)
    return {"BLOCK_P": max(1, config.blocks["TILE"] // block_c), "BLOCK_C": block_c}


def _chunk(config: LaunchConfig, channels: int) -> int:
    """Pixels whose sums one program gathers: CHUNK elements, at least a tile."""
    least = _tile(config, channels)["BLOCK_P"]
    out: int = max(least, config.blocks["CHUNK"] // triton.next_power_of_2(channels))
    return out


class Forward(NamedTuple):
    """(y, statistics of leaky(x + shift))."""

    x: Tensor  # [B, C, H, W] channels-last
    weight: Tensor  # [C]
    bias: Tensor  # [C]
    groups: int
    eps: float
    before: float
    after: float
    shift: Tensor | None  # [C]

    def outputs(self) -> tuple[Tensor, Tensor]:
        statistics = self.x.new_empty((self.x.shape[0], self.groups, 2), dtype=torch.float32)
        return torch.empty_like(self.x), statistics

    def launch(self, y: Tensor, statistics: Tensor) -> None:
        x, weight, bias, groups, eps, before, after, shift = self
        require_cuda("group_norm_leaky", x)
        batch, channels, height, width = x.shape
        pixels, per_group = height * width, channels // groups
        at = weight if shift is None else shift
        # `shift` where there is one; else any pointer, which is not read.
        entered = {"SHIFTED": shift is not None, "BEFORE": before}
        shape = {"HW": pixels, "C": channels, "CPG": per_group}
        block_p, block_g = triton.next_power_of_2(pixels), triton.next_power_of_2(per_group)
        if pixels <= SINGLE_PASS_PIXELS and block_p * block_g <= SINGLE_PASS_ELEMENTS:
            config = _config("single_pass", x, f"E={block_p * block_g}")
            activated_single_pass_kernel[(groups, batch)](
                x, at, weight, bias, y, statistics, eps, **entered, AFTER=after, **shape, BLOCK_P=block_p,
                BLOCK_G=block_g, **_warps(config),
            )  # fmt: skip
            return
        moments, apply = _config("moments", x), _config("apply", x)
        chunk = _chunk(moments, channels)
        partial = x.new_empty((batch, triton.cdiv(pixels, chunk), 2, channels), dtype=torch.float32)
        activated_moments_kernel[(partial.shape[1], batch)](
            x, at, partial, **entered, HW=pixels, C=channels, CHUNK=chunk, **_tile(moments, channels),
            **_warps(moments),
        )  # fmt: skip
        launch_merge(partial, statistics, pixels, chunk)
        tile = _tile(apply, channels)
        activated_apply_kernel[(triton.cdiv(pixels, tile["BLOCK_P"]), batch)](
            x, at, statistics, weight, bias, y, eps, **entered, AFTER=after, **shape, **tile, **_warps(apply)
        )


class Backward(NamedTuple):
    """(dx, [B, 2 or 3, C] float32: every image's share of dbias, dweight and, with a shift, dshift) <- dy."""

    dy: Tensor  # [B, C, H, W] channels-last
    x: Tensor  # [B, C, H, W] channels-last
    weight: Tensor  # [C]
    bias: Tensor  # [C]
    statistics: Tensor  # [B, G, 2]
    eps: float
    before: float
    after: float
    shift: Tensor | None  # [C]

    def outputs(self) -> tuple[Tensor, Tensor]:
        batch, channels = self.x.shape[:2]
        shares = (batch, 2 if self.shift is None else 3, channels)
        return torch.empty_like(self.x), self.x.new_empty(shares, dtype=torch.float32)

    def launch(self, dx: Tensor, sums: Tensor) -> None:
        dy, x, weight, bias, statistics, eps, before, after, shift = self
        require_cuda("group_norm_leaky", x, dy)
        batch, channels, height, width = x.shape
        groups, pixels = statistics.shape[1], height * width
        at, shifted = (weight, False) if shift is None else (shift, True)
        slopes = {"BEFORE": before, "AFTER": after}
        shape = {"HW": pixels, "C": channels, "CPG": channels // groups}
        block_g = triton.next_power_of_2(shape["CPG"])
        if pixels <= SINGLE_PASS_PIXELS:
            # fp32 with 2,048 elements a program: ptxas 12.9 aims at 64 registers for sm_120 and spills 8 B
            config = _config("backward_group", x, "float32" if x.dtype == torch.float32 else "")
            block_p = min(triton.next_power_of_2(pixels), max(1, config.blocks["TILE"] // block_g))
            backward_group_kernel[(groups, batch)](
                x, dy, at, statistics, weight, bias, sums, dx, eps, SHIFTED=shifted, **slopes, **shape,
                BLOCK_P=block_p, BLOCK_G=block_g, **_warps(config),
            )  # fmt: skip
            return
        config, merge, apply = _config("backward_sums", x), _config("merge", x), _config("backward_apply", x)
        chunk = _chunk(config, channels)
        chunks = triton.cdiv(pixels, chunk)
        partial = x.new_empty((batch, chunks, 5 if shifted else 2, channels), dtype=torch.float32)
        means = torch.empty_like(statistics)
        backward_sums_kernel[(chunks, batch)](
            x, dy, at, statistics, weight, bias, partial, eps, SHIFTED=shifted, **slopes, **shape,
            CHUNK=chunk, **_tile(config, channels), **_warps(config),
        )  # fmt: skip
        rows = min(triton.next_power_of_2(chunks), max(1, merge.blocks["TILE"] // block_g))
        backward_merge_kernel[(groups, batch)](
            partial, statistics, weight, sums, means, eps, SHIFTED=shifted, **shape, CHUNKS=chunks,
            BLOCK_N=rows, BLOCK_G=block_g, **_warps(merge),
        )  # fmt: skip
        tile = _tile(apply, channels)
        backward_apply_kernel[(triton.cdiv(pixels, tile["BLOCK_P"]), batch)](
            x, dy, at, statistics, weight, bias, means, dx, eps, SHIFTED=shifted, **slopes, **shape, **tile,
            **_warps(apply),
        )  # fmt: skip


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, bias, _, ctx.eps, ctx.before, ctx.after, shift = inputs
    ctx.save_for_backward(x, weight, bias, output[1], shift)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, dy: Tensor, _: Any) -> tuple[Any, ...]:
    x, weight, bias, statistics, shift = ctx.saved_tensors
    dy = dy.contiguous(memory_format=torch.channels_last)
    dx, sums = backward_op(dy, x, weight, bias, statistics, ctx.eps, ctx.before, ctx.after, shift)
    wanted = ctx.needs_input_grad
    if not (wanted[1] or wanted[2] or wanted[7]):  # constants, as where a generator is judged
        return dx, None, None, None, None, None, None, None
    total = sums.sum(0)
    dshift = None if shift is None else total[2].to(shift.dtype)
    return dx, total[1].to(weight.dtype), total[0].to(bias.dtype), None, None, None, None, dshift


backward_op = registered("v2f::group_norm_leaky_backward", Backward)
forward_op = registered("v2f::group_norm_leaky", Forward, setup_context=_setup_context, backward=_backward)


@takes(Arguments)
def group_norm_leaky(given: Arguments) -> Tensor:
    """See the contract in `v2f_kernels.group_norm_leaky`; x must lie in channels-last memory."""
    channels_last("x", given.x)
    y: Tensor = forward_op(*given)[0]
    return y
