"""GroupNorm+SiLU on a GPU: launchers that write into given buffers, the registered ops, the public functions.

Forward: images of at most `SINGLE_PASS_PIXELS` pixels are read once, a few groups per program; larger ones
twice (statistics, then apply), which is the floor of a two-pass form: 3 passes over the data instead of
the 6 of eager GroupNorm and SiLU. Backward: two reads of (x, dy), one write. Sums are fp32, in a fixed
order: results repeat bit by bit and do not depend on the batch.
"""

from __future__ import annotations

from typing import Any

import torch
import triton

from v2f_kernels._triton.launch import LaunchConfig, launch_config, require_cuda
from v2f_kernels.group_norm_silu.checks import channels_last, check_norm
from v2f_kernels.group_norm_silu.triton_apply import (
    apply_kernel,
    backward_apply_kernel,
    backward_merge_kernel,
    backward_sums_kernel,
    single_pass_kernel,
)
from v2f_kernels.group_norm_silu.triton_moments import (
    merge_moments_kernel,
    moments_kernel,
    scale_shift_kernel,
)

SINGLE_PASS_PIXELS = 1024
"""Largest image normalised in one pass: 32 channels of 32x32 pixels are 64 fp32 registers in 512 threads."""


def _config(kernel: str, x: torch.Tensor) -> LaunchConfig:
    return launch_config("group_norm_silu", kernel, x.device, f"C={x.shape[1]}")


def _warps(config: LaunchConfig) -> dict[str, int]:
    return {"num_warps": config.num_warps, "num_stages": config.num_stages}


def _shape(x: torch.Tensor, groups: int) -> dict[str, int]:
    """The constants the kernels are compiled for: pixels, channels, channels per group."""
    return {"HW": x.shape[2] * x.shape[3], "C": x.shape[1], "CPG": x.shape[1] // groups}


def _tile(config: LaunchConfig, channels: int) -> dict[str, int]:
    """A tile of all channels by as many pixels as make TILE elements."""
    block_c = triton.next_power_of_2(channels)
    return {"BLOCK_P": max(1, config.blocks["TILE"] // block_c), "BLOCK_C": block_c}


def _chunk(config: LaunchConfig, channels: int) -> int:
    """Pixels whose sums one program gathers: CHUNK elements, at least a tile."""
    out: int = max(
        _tile(config, channels)["BLOCK_P"], config.blocks["CHUNK"] // triton.next_power_of_2(channels)
    )
    return out


def _merge_tile(config: LaunchConfig, chunks: int, channels_per_group: int) -> dict[str, int]:
    block_g = triton.next_power_of_2(channels_per_group)
    rows = min(triton.next_power_of_2(chunks), max(1, config.blocks["TILE"] // block_g))
    return {"BLOCK_N": rows, "BLOCK_G": block_g}


def launch_merge(
    partial: torch.Tensor, statistics: torch.Tensor, pixels: int, chunk: int, phases: int = 1
) -> None:
    """partial [B, chunks, 2, C] -> statistics [B, G, 2]; `phases` coverings of `pixels`, `chunk` at a
    time."""
    batch, chunks, _, channels = partial.shape
    per_group = channels // statistics.shape[1]
    config = launch_config("group_norm_silu", "merge", partial.device)
    merge_moments_kernel[(statistics.shape[1], batch)](
        partial, statistics, HW=pixels, CHUNK=chunk, PERIOD=chunks // phases, CHUNKS=chunks, C=channels,
        CPG=per_group, **_merge_tile(config, chunks, per_group), **_warps(config),
    )  # fmt: skip


def launch_statistics(x: torch.Tensor, statistics: torch.Tensor) -> None:
    """x [B, C, H, W] channels-last -> statistics [B, G, 2] float32."""
    require_cuda("group_norm_silu", x)
    batch, channels, height, width = x.shape
    config = _config("moments", x)
    chunk = _chunk(config, channels)
    chunks = triton.cdiv(height * width, chunk)
    partial = torch.empty((batch, chunks, 2, channels), dtype=torch.float32, device=x.device)
    moments_kernel[(chunks, batch)](
        x, partial, HW=height * width, C=channels, CHUNK=chunk, **_tile(config, channels), **_warps(config)
    )
    launch_merge(partial, statistics, height * width, chunk)


def launch_scale_shift(
    weight: torch.Tensor, bias: torch.Tensor, statistics: torch.Tensor, eps: float, terms: torch.Tensor
) -> None:
    """terms [B, 2, C] float32 <- scale and shift with GroupNorm(x) = x * scale + shift, for the prologues."""
    channels = weight.shape[0]
    config = launch_config("group_norm_silu", "scale_shift", statistics.device)
    scale_shift_kernel[(statistics.shape[0],)](
        statistics, weight, bias, terms, eps, C=channels, CPG=channels // statistics.shape[1],
        BLOCK_C=triton.next_power_of_2(channels), **_warps(config),
    )  # fmt: skip


def launch_apply(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float,
    statistics: torch.Tensor,
    y: torch.Tensor,
) -> None:
    """y <- SiLU(GroupNorm(x)) with given statistics [B, G, 2]."""
    require_cuda("group_norm_silu", x)
    config = _config("apply", x)
    tile, shape = _tile(config, x.shape[1]), _shape(x, statistics.shape[1])
    grid = (triton.cdiv(shape["HW"], tile["BLOCK_P"]), x.shape[0])
    apply_kernel[grid](x, statistics, weight, bias, y, eps, **shape, **tile, **_warps(config))


def launch_single_pass(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float,
    y: torch.Tensor,
    statistics: torch.Tensor,
) -> None:
    """y and statistics [B, G, 2] of small images, from one read of x."""
    require_cuda("group_norm_silu", x)
    groups = statistics.shape[1]
    shape = _shape(x, groups)
    block_p, block_g = triton.next_power_of_2(shape["HW"]), triton.next_power_of_2(shape["CPG"])
    config = launch_config("group_norm_silu", "single_pass", x.device, f"P={block_p}")
    slab = max(1, min(config.blocks["CHANNELS"] // block_g, triton.next_power_of_2(groups)))
    single_pass_kernel[(triton.cdiv(groups, slab), x.shape[0])](
        x, weight, bias, y, statistics, eps, **shape, BLOCK_P=block_p, SLAB=slab, BLOCK_G=block_g,
        **_warps(config)
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
    require_cuda("group_norm_silu", x, dy)
    batch, channels = x.shape[:2]
    shape = _shape(x, statistics.shape[1])
    config, merge, apply = _config("backward_sums", x), _config("merge", x), _config("backward_apply", x)
    chunk = _chunk(config, channels)
    chunks = triton.cdiv(shape["HW"], chunk)
    partial = torch.empty((batch, chunks, 2, channels), dtype=torch.float32, device=x.device)
    means = torch.empty_like(statistics)
    backward_sums_kernel[(chunks, batch)](
        x, dy, statistics, weight, bias, partial, eps, **shape, CHUNK=chunk, **_tile(config, channels),
        **_warps(config),
    )  # fmt: skip
    backward_merge_kernel[(statistics.shape[1], batch)](
        partial, weight, sums, means, **shape, CHUNKS=chunks, **_merge_tile(merge, chunks, shape["CPG"]),
        **_warps(merge),
    )  # fmt: skip
    tile = _tile(apply, channels)
    backward_apply_kernel[(triton.cdiv(shape["HW"], tile["BLOCK_P"]), batch)](
        x, dy, statistics, weight, bias, means, dx, eps, **shape, **tile, **_warps(apply)
    )


def run_statistics(x: torch.Tensor, groups: int) -> torch.Tensor:
    """float32 [B, groups, 2]: mean and biased variance of x [B, C, H, W] channels-last."""
    statistics = torch.empty((x.shape[0], groups, 2), dtype=torch.float32, device=x.device)
    launch_statistics(x, statistics)
    return statistics


statistics_op = torch.library.custom_op("v2f::group_statistics", run_statistics, mutates_args=())


@statistics_op.register_fake
def _(x: torch.Tensor, groups: int) -> torch.Tensor:
    return x.new_empty((x.shape[0], groups, 2), dtype=torch.float32)


def run_forward(
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


forward_op = torch.library.custom_op("v2f::group_norm_silu", run_forward, mutates_args=())


@forward_op.register_fake
def _(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, groups: int, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(x), x.new_empty((x.shape[0], groups, 2), dtype=torch.float32)


def run_given(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, statistics: torch.Tensor, eps: float
) -> torch.Tensor:
    """y with given statistics; no gradient."""
    y = torch.empty_like(x)
    launch_apply(x, weight, bias, eps, statistics, y)
    return y


given_op = torch.library.custom_op("v2f::group_norm_silu_given", run_given, mutates_args=())


@given_op.register_fake
def _(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, statistics: torch.Tensor, eps: float
) -> torch.Tensor:
    return torch.empty_like(x)


def run_backward(
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


backward_op = torch.library.custom_op("v2f::group_norm_silu_backward", run_backward, mutates_args=())


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
    out: torch.Tensor = statistics_op(channels_last("x", x), groups)
    return out


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
    given = statistics is not None
    out: torch.Tensor = (
        given_op(x, weight, bias, statistics, eps) if given else forward_op(x, weight, bias, groups, eps)[0]
    )
    return out
