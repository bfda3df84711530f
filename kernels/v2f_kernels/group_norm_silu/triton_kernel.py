"""GroupNorm+SiLU on a GPU: launchers that write into given buffers, the registered ops, the public functions.

Forward: images of at most `SINGLE_PASS_PIXELS` pixels are read once, a few groups per program; larger ones twice
(statistics, then apply), which is the floor of a two-pass form: 3 passes over the data instead of the 6 of eager
GroupNorm and SiLU. Backward: two reads of (x, dy), one write. Sums are fp32, in a fixed order: results repeat bit by
bit and do not depend on the batch.
"""

from __future__ import annotations

from typing import Any

import torch
import triton

from v2f_kernels.group_norm_silu.checks import channels_last, check_norm
from v2f_kernels.group_norm_silu.triton_apply import (
    apply_kernel,
    backward_apply_kernel,
    backward_merge_kernel,
    backward_sums_kernel,
    single_pass_kernel,
)
from v2f_kernels.group_norm_silu.triton_moments import merge_moments_kernel, moments_kernel

SINGLE_PASS_PIXELS = 1024
"""Largest image normalised in one pass: 32 channels of 32x32 pixels are 64 fp32 registers in 512 threads."""

TILE = 4096
"""Elements of a program's tile: with 4 warps, four 16-byte loads of half precision per thread and tensor."""

CHUNK = 32_768
"""Elements whose sums one program gathers: partial sums are then 1/64 of the traffic of half-precision data."""


def shape_of(x: torch.Tensor, groups: int) -> dict[str, int]:
    """The constants every kernel of this op is compiled for: pixels, channels, channels per group."""
    return {"HW": x.shape[2] * x.shape[3], "C": x.shape[1], "CPG": x.shape[1] // groups}


def tile_of(channels: int) -> dict[str, int]:
    """Tile [BLOCK_P, BLOCK_C] of pixels by all channels."""
    block_c = triton.next_power_of_2(channels)
    return {"BLOCK_P": max(1, TILE // block_c), "BLOCK_C": block_c}


def chunk_of(channels: int) -> int:
    """Pixels whose sums one program gathers: a multiple of the tile's."""
    return max(tile_of(channels)["BLOCK_P"], CHUNK // triton.next_power_of_2(channels))


def launch_merge(
    partial: torch.Tensor, statistics: torch.Tensor, pixels: int, chunk: int, phases: int = 1
) -> None:
    """partial [B, chunks, 2, C] -> statistics [B, G, 2]; `chunk` pixels per chunk, `phases` coverings of `pixels`."""
    batch, chunks, _, channels = partial.shape
    groups = statistics.shape[1]
    block_g = triton.next_power_of_2(channels // groups)
    block_n = min(triton.next_power_of_2(chunks), max(1, 2048 // block_g))
    merge_moments_kernel[(groups, batch)](
        partial, statistics, HW=pixels, CHUNK=chunk, PERIOD=chunks // phases, CHUNKS=chunks,
        C=channels, CPG=channels // groups, BLOCK_N=block_n, BLOCK_G=block_g, num_warps=2,
    )  # fmt: skip


def launch_statistics(x: torch.Tensor, statistics: torch.Tensor) -> None:
    """x [B, C, H, W] channels-last -> statistics [B, G, 2] float32."""
    batch, channels = x.shape[:2]
    pixels, chunk = x.shape[2] * x.shape[3], chunk_of(channels)
    chunks = triton.cdiv(pixels, chunk)
    partial = torch.empty((batch, chunks, 2, channels), dtype=torch.float32, device=x.device)
    moments_kernel[(chunks, batch)](
        x, partial, HW=pixels, C=channels, CHUNK=chunk, **tile_of(channels), num_warps=4
    )
    launch_merge(partial, statistics, pixels, chunk)


def launch_apply(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float,
    statistics: torch.Tensor,
    y: torch.Tensor,
) -> None:
    """y <- SiLU(GroupNorm(x)) with given statistics [B, G, 2]."""
    tile, shape = tile_of(x.shape[1]), shape_of(x, statistics.shape[1])
    grid = (triton.cdiv(shape["HW"], tile["BLOCK_P"]), x.shape[0])
    apply_kernel[grid](x, statistics, weight, bias, y, eps, **shape, **tile, num_warps=4)


def launch_single_pass(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float,
    y: torch.Tensor,
    statistics: torch.Tensor,
) -> None:
    """y and statistics [B, G, 2] of small images, from one read of x."""
    groups = statistics.shape[1]
    shape = shape_of(x, groups)
    block_p, block_g = triton.next_power_of_2(shape["HW"]), triton.next_power_of_2(shape["CPG"])
    # 64-byte rows: 32 half-precision channels, or one group if that is wider.
    slab = max(1, min(32 // block_g, triton.next_power_of_2(groups)))
    warps = min(16, max(1, block_p * slab * block_g // 1024))
    single_pass_kernel[(triton.cdiv(groups, slab), x.shape[0])](
        x, weight, bias, y, statistics, eps, **shape, BLOCK_P=block_p, SLAB=slab, BLOCK_G=block_g, num_warps=warps
    )  # fmt: skip


def launch_backward(
    x: torch.Tensor,
    dy: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float,
    statistics: torch.Tensor,
    dx: torch.Tensor,
    sums: torch.Tensor,
) -> None:
    """dx like x; sums [B, 2, C] float32: each image's share of dbias and dweight."""
    batch, channels = x.shape[:2]
    tile, shape, chunk = tile_of(channels), shape_of(x, statistics.shape[1]), chunk_of(channels)
    chunks = triton.cdiv(shape["HW"], chunk)
    partial = torch.empty((batch, chunks, 2, channels), dtype=torch.float32, device=x.device)
    means = torch.empty_like(statistics)
    backward_sums_kernel[(chunks, batch)](
        x, dy, statistics, weight, bias, partial, eps, **shape, CHUNK=chunk, **tile, num_warps=4
    )
    block_g = triton.next_power_of_2(shape["CPG"])
    block_n = min(triton.next_power_of_2(chunks), max(1, 2048 // block_g))
    backward_merge_kernel[(statistics.shape[1], batch)](
        partial, weight, sums, means, **shape, CHUNKS=chunks, BLOCK_N=block_n, BLOCK_G=block_g, num_warps=2
    )
    grid = (triton.cdiv(shape["HW"], tile["BLOCK_P"]), batch)
    backward_apply_kernel[grid](
        x, dy, statistics, weight, bias, means, dx, eps, **shape, **tile, num_warps=4
    )


@torch.library.custom_op("v2f::group_statistics", mutates_args=())
def statistics_op(x: torch.Tensor, groups: int) -> torch.Tensor:
    """float32 [B, groups, 2]: mean and biased variance of x [B, C, H, W] channels-last."""
    statistics = torch.empty((x.shape[0], groups, 2), dtype=torch.float32, device=x.device)
    launch_statistics(x, statistics)
    return statistics


@statistics_op.register_fake
def _(x: torch.Tensor, groups: int) -> torch.Tensor:
    return x.new_empty((x.shape[0], groups, 2), dtype=torch.float32)


@torch.library.custom_op("v2f::group_norm_silu", mutates_args=())
def forward_op(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, groups: int, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(y, statistics of x)."""
    y = torch.empty_like(x)
    statistics = torch.empty((x.shape[0], groups, 2), dtype=torch.float32, device=x.device)
    if x.shape[2] * x.shape[3] <= SINGLE_PASS_PIXELS:
        launch_single_pass(x, weight, bias, eps, y, statistics)
    else:
        launch_statistics(x, statistics)
        launch_apply(x, weight, bias, eps, statistics, y)
    return y, statistics


@forward_op.register_fake
def _(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, groups: int, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(x), x.new_empty((x.shape[0], groups, 2), dtype=torch.float32)


@torch.library.custom_op("v2f::group_norm_silu_given", mutates_args=())
def given_op(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, statistics: torch.Tensor, eps: float
) -> torch.Tensor:
    """y with given statistics; no gradient."""
    y = torch.empty_like(x)
    launch_apply(x, weight, bias, eps, statistics, y)
    return y


@given_op.register_fake
def _(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, statistics: torch.Tensor, eps: float
) -> torch.Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("v2f::group_norm_silu_backward", mutates_args=())
def backward_op(
    dy: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    statistics: torch.Tensor,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(dx, dweight, dbias) in the dtypes of x, weight and bias."""
    dx = torch.empty_like(x)
    sums = torch.empty((x.shape[0], 2, x.shape[1]), dtype=torch.float32, device=x.device)
    launch_backward(x, dy, weight, bias, eps, statistics, dx, sums)
    dbias, dweight = sums.sum(0)
    return dx, dweight.to(weight.dtype, copy=True), dbias.to(bias.dtype, copy=True)


@backward_op.register_fake
def _(
    dy: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    statistics: torch.Tensor,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, weight, bias, _, ctx.eps = inputs
    ctx.save_for_backward(x, weight, bias, output[1])
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, dy: torch.Tensor, _: Any) -> tuple[Any, ...]:
    x, weight, bias, statistics = ctx.saved_tensors
    dy = dy.contiguous(memory_format=torch.channels_last)
    return *backward_op(dy, x, weight, bias, statistics, ctx.eps), None, None


forward_op.register_autograd(_backward, setup_context=_setup_context)


def group_statistics(x: torch.Tensor, groups: int) -> torch.Tensor:
    """See the contract in `v2f_kernels.group_norm_silu`; not differentiable."""
    check_norm(x, x.new_empty(x.shape[1:2]), x.new_empty(x.shape[1:2]), groups)
    return statistics_op(channels_last("x", x), groups)


def group_norm_silu(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    groups: int,
    eps: float,
    statistics: torch.Tensor | None = None,
) -> torch.Tensor:
    """See the contract in `v2f_kernels.group_norm_silu`; x must lie in channels-last memory."""
    check_norm(x, weight, bias, groups, statistics)
    channels_last("x", x)
    if statistics is None:
        return forward_op(x, weight, bias, groups, eps)[0]
    return given_op(x, weight, bias, statistics, eps)
