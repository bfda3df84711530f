"""Batch normalisation with PReLU on a GPU: launches, the registered ops, the public function.

x is read twice forwards (moments, then apply) and written once; (x, dy) are read twice backwards. Sums are fp32, in a
fixed order: results repeat bit by bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from v2f_kernels._contract import takes
from v2f_kernels._triton.launch import LaunchConfig, launch_config, require_cuda
from v2f_kernels._triton.register import registered
from v2f_kernels.batch_norm_prelu.checks import Arguments
from v2f_kernels.batch_norm_prelu.triton_backward import (
    batch_backward_apply_kernel,
    batch_backward_merge_kernel,
    batch_backward_sums_kernel,
)
from v2f_kernels.batch_norm_prelu.triton_forward import (
    batch_apply_kernel,
    batch_merge_kernel,
    batch_moments_kernel,
)
from v2f_kernels.group_norm_silu.checks import channels_last

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
CHUNKS = 512
"""Chunks at most: a merge holds all of a channel's in registers. Four programs for each multiprocessor of an H200."""


def _config(kernel: str, x: Tensor) -> LaunchConfig:
    return launch_config("batch_norm_prelu", kernel, x.device, f"C={x.shape[1]}")


def _warps(config: LaunchConfig) -> dict[str, int]:
    return {"num_warps": config.num_warps, "num_stages": config.num_stages}


def _tile(config: LaunchConfig, channels: int) -> dict[str, int]:
    """A tile of all channels by as many pixels as make TILE elements."""
    block_c = triton.next_power_of_2(channels)
    return {"BLOCK_P": max(1, config.blocks["TILE"] // block_c), "BLOCK_C": block_c}


def _chunks(config: LaunchConfig, rows: int, channels: int) -> tuple[int, int]:
    """(rows of a chunk, chunks): CHUNK elements at least, more where there would be too many chunks."""
    tile = _tile(config, channels)
    least = max(triton.cdiv(rows, CHUNKS), config.blocks["CHUNK"] // tile["BLOCK_C"])
    chunk = triton.cdiv(least, tile["BLOCK_P"]) * tile["BLOCK_P"]
    return chunk, triton.cdiv(rows, chunk)


def _merge(config: LaunchConfig, channels: int, chunks: int) -> tuple[int, dict[str, int]]:
    """(programs, tile and warps) of a merge: few channels by all chunks."""
    block_c = config.blocks["CHANNELS"]
    tile = {"BLOCK_N": triton.next_power_of_2(chunks), "BLOCK_C": block_c}
    return triton.cdiv(channels, block_c), {**tile, **_warps(config)}


class Statistics(NamedTuple):
    """[2, C] float32, mean and biased variance; running statistics and their counter are changed."""

    x: Tensor  # [B, C, H, W] channels-last
    running_mean: Tensor  # [C], changed
    running_var: Tensor  # [C], changed
    batches: Tensor  # int64 [], changed
    momentum: float

    def outputs(self) -> Tensor:
        return self.x.new_empty((2, self.x.shape[1]), dtype=torch.float32)

    def launch(self, statistics: Tensor) -> None:
        x, running_mean, running_var, batches, momentum = self
        require_cuda("batch_norm_prelu", x)
        channels, rows = x.shape[1], x.numel() // x.shape[1]
        moments = _config("moments", x)
        chunk, chunks = _chunks(moments, rows, channels)
        partial = x.new_empty((chunks, 2, channels), dtype=torch.float32)
        batch_moments_kernel[(chunks,)](
            x, partial, rows, chunk, C=channels, **_tile(moments, channels), **_warps(moments)
        )
        programs, tile = _merge(_config("merge", x), channels, chunks)
        batch_merge_kernel[(programs,)](
            partial, statistics, running_mean, running_var, batches, momentum, rows, chunk, chunks,
            C=channels, **tile,
        )  # fmt: skip


class Forward(NamedTuple):
    """y; `statistics` are those of x, through which the gradient goes too."""

    x: Tensor  # [B, C, H, W] channels-last
    weight: Tensor  # [C]
    bias: Tensor  # [C]
    statistics: Tensor  # [2, C]
    eps: float
    slope: Tensor | None  # [C]
    residual: Tensor | None  # [B, C, H, W] channels-last

    def outputs(self) -> Tensor:
        return torch.empty_like(self.x)

    def launch(self, y: Tensor) -> None:
        x, weight, bias, statistics, eps, slope, residual = self
        require_cuda("batch_norm_prelu", x)
        channels, rows = x.shape[1], x.numel() // x.shape[1]
        config = _config("apply", x)
        tile = _tile(config, channels)
        # Pointers of what is not there are not read.
        batch_apply_kernel[(triton.cdiv(rows, tile["BLOCK_P"]),)](
            x, statistics, weight, bias, weight if slope is None else slope, y if residual is None else residual,
            y, eps, rows, SLOPED=slope is not None, ADDED=residual is not None, C=channels, **tile,
            **_warps(config),
        )  # fmt: skip


class Backward(NamedTuple):
    """(dx, [2 or 3, C] float32: dbias, dweight and, with a slope, dslope) <- dy."""

    dy: Tensor  # [B, C, H, W] channels-last
    x: Tensor  # [B, C, H, W] channels-last
    weight: Tensor  # [C]
    bias: Tensor  # [C]
    statistics: Tensor  # [2, C]
    eps: float
    slope: Tensor | None  # [C]
    passed: Tensor | None  # [B, C, H, W] channels-last: another gradient of x, added to dx

    def outputs(self) -> tuple[Tensor, Tensor]:
        sums = (2 if self.slope is None else 3, self.x.shape[1])
        return torch.empty_like(self.x), self.x.new_empty(sums, dtype=torch.float32)

    def launch(self, dx: Tensor, sums: Tensor) -> None:
        dy, x, weight, bias, statistics, eps, slope, passed = self
        require_cuda("batch_norm_prelu", x, dy)
        channels, rows = x.shape[1], x.numel() // x.shape[1]
        at, sloped = (weight, False) if slope is None else (slope, True)
        config, apply = _config("backward_sums", x), _config("backward_apply", x)
        chunk, chunks = _chunks(config, rows, channels)
        partial = x.new_empty((chunks, *sums.shape), dtype=torch.float32)
        batch_backward_sums_kernel[(chunks,)](
            x, dy, statistics, weight, bias, at, partial, eps, rows, chunk, SLOPED=sloped, C=channels,
            **_tile(config, channels), **_warps(config),
        )  # fmt: skip
        programs, tile = _merge(_config("merge", x), channels, chunks)
        batch_backward_merge_kernel[(programs, len(sums))](
            partial, sums, chunks, SUMS=len(sums), C=channels, **tile
        )
        tile = _tile(apply, channels)
        batch_backward_apply_kernel[(triton.cdiv(rows, tile["BLOCK_P"]),)](
            x, dy, statistics, weight, bias, at, sums, dx if passed is None else passed, dx, eps, rows,
            SLOPED=sloped, PASSED=passed is not None, C=channels, **tile, **_warps(apply),
        )  # fmt: skip


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, weight, bias, statistics, ctx.eps, slope, residual = inputs
    ctx.added = residual is not None
    ctx.save_for_backward(x, weight, bias, statistics, slope)


def _backward(ctx: Any, dy: Tensor, passed: Tensor | None = None) -> tuple[Any, ...]:
    x, weight, bias, statistics, slope = ctx.saved_tensors
    dy = dy.contiguous(memory_format=torch.channels_last)
    passed = None if passed is None else passed.contiguous(memory_format=torch.channels_last)
    dx, sums = backward_op(dy, x, weight, bias, statistics, ctx.eps, slope, passed)
    dslope = None if slope is None else sums[2].to(slope.dtype)
    added = dy if ctx.added else None
    return dx, sums[1].to(weight.dtype), sums[0].to(bias.dtype), None, None, dslope, added


class _Through(torch.autograd.Function):
    """(y, x): an op of `torch.library` may not give back its argument."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        _setup_context(ctx, inputs, None)
        ctx.set_materialize_grads(False)
        return forward_op(*inputs), inputs[0].view_as(inputs[0])

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, passed: Tensor | None) -> Any:
        if dy is None:
            return passed, None, None, None, None, None, None
        return _backward(ctx, dy, passed)


statistics_op = registered(
    "v2f::batch_norm_prelu_statistics", Statistics, changes=("running_mean", "running_var", "batches")
)
backward_op = registered("v2f::batch_norm_prelu_backward", Backward)
forward_op = registered("v2f::batch_norm_prelu", Forward, setup_context=_setup_context, backward=_backward)


@takes(Arguments)
def batch_norm_prelu(given: Arguments) -> Tensor | tuple[Tensor, Tensor]:
    """See the contract in `v2f_kernels.batch_norm_prelu`; x and residual must lie in channels-last memory."""
    x, weight, bias, running_mean, running_var, batches, momentum, eps, slope, residual, through = given
    if x.dtype not in DTYPES:
        raise ValueError(
            f"batch_norm_prelu/triton: expected x in float16, bfloat16 or float32, found {x.dtype}; use 'torch'"
        )
    channels_last("x", x)
    if residual is not None:
        channels_last("residual", residual)
    statistics = statistics_op(x.detach(), running_mean, running_var, batches, momentum)
    inputs = (x, weight, bias, statistics, eps, slope, residual)
    made: Tensor | tuple[Tensor, Tensor] = (
        _Through.apply(*inputs) if through else forward_op(*inputs)  # type: ignore[no-untyped-call]
    )
    return made
