"""Bias, residual and statistics on a GPU: the launch, the registered op, the public function."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from v2f_kernels._contract import takes
from v2f_kernels._triton.launch import launch_config, require_cuda
from v2f_kernels._triton.register import registered
from v2f_kernels.add_statistics.checks import Arguments
from v2f_kernels.add_statistics.triton_add import add_kernel
from v2f_kernels.group_norm_silu.checks import channels_last
from v2f_kernels.group_norm_silu.triton_op import launch_merge, statistics_op


class Add(NamedTuple):
    """(y, statistics of y) <- x, with a bias, a residual or both."""

    x: Tensor  # [B, C, H, W] channels-last
    bias: Tensor | None  # [C]
    residual: Tensor | None  # [B, C, H, W] channels-last
    out_groups: int  # 0: statistics are not wanted

    def outputs(self) -> tuple[Tensor, Tensor]:
        """As x; float32 [B, out_groups, 2]."""
        statistics = self.x.new_empty((self.x.shape[0], self.out_groups, 2), dtype=torch.float32)
        return torch.empty_like(self.x), statistics

    def launch(self, y: Tensor, statistics: Tensor) -> None:
        x, bias, residual, out_groups = self
        require_cuda("add_statistics", x)
        batch, channels, height, width = x.shape
        pixels, wanted = height * width, out_groups > 0
        config = launch_config("add_statistics", "add", x.device, f"C={channels}")
        block_c = triton.next_power_of_2(channels)
        block_p = max(1, config.blocks["TILE"] // block_c)
        depth = config.blocks["DEPTH"]
        # Without moments there is nothing to keep from one tile to the next.
        chunk = max(block_p, config.blocks["CHUNK"] // block_c) if wanted else depth * block_p
        chunks = triton.cdiv(pixels, chunk)
        partial = None
        if wanted:
            partial = torch.empty((batch, chunks, 2, channels), dtype=torch.float32, device=x.device)
        add_kernel[(chunks, batch)](
            x, bias, residual, y, partial, HW=pixels, C=channels, CHUNK=chunk, HAS_BIAS=bias is not None,
            HAS_RESIDUAL=residual is not None, HAS_MOMENTS=wanted, DEPTH=depth, BLOCK_P=block_p, BLOCK_C=block_c,
            num_warps=config.num_warps, num_stages=config.num_stages,
        )  # fmt: skip
        if partial is not None:
            launch_merge(partial, statistics, pixels, chunk)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, bias, residual, _ = inputs
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.has_residual = residual is not None
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, dy: Tensor, _: Any) -> tuple[Any, ...]:
    dbias = None
    if ctx.bias_dtype is not None and ctx.needs_input_grad[1]:
        dbias = dy.sum((0, 2, 3), dtype=torch.float32).to(ctx.bias_dtype)
    return dy, dbias, dy if ctx.has_residual else None, None


add_op = registered("v2f::add_statistics", Add, setup_context=_setup_context, backward=_backward)


@takes(Arguments)
def add_statistics(given: Arguments) -> Tensor | tuple[Tensor, Tensor]:
    """See the contract in `v2f_kernels.add_statistics`; x and residual must lie in channels-last memory."""
    x, bias, residual, out_groups = given
    channels_last("x", x)
    if residual is not None:
        channels_last("residual", residual)
    if bias is None and residual is None:
        return x if out_groups is None else (x, statistics_op(x.detach(), out_groups))
    y, statistics = add_op(x, bias, residual, out_groups or 0)
    return y if out_groups is None else (y, statistics)
