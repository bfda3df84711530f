"""Upsample + 3x3 convolution on a GPU: launch, registered op with gradients, public functions.

The unfolded form folds its weight at each call (a few hundred kilobytes) and runs the same kernel; its
gradients are those of the transposed convolution (cuDNN), carried back through the fold, which is linear.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from v2f_kernels._contract import BIAS, STATISTICS, joins
from v2f_kernels._triton.implicit_gemm import blocks_for, check_channels
from v2f_kernels._triton.launch import require_cuda
from v2f_kernels._triton.register import registered
from v2f_kernels.group_norm_silu.checks import channels_last
from v2f_kernels.group_norm_silu.triton_op import launch_merge
from v2f_kernels.upsample_conv3x3.fold import check_upsample, fold_weights
from v2f_kernels.upsample_conv3x3.triton_phases import upsample_conv3x3_kernel


class Upsample(NamedTuple):
    """(y, statistics of y) <- x; all in channels-last memory."""

    x: Tensor  # [B, C, H, W]
    folded: Tensor  # [C, O, 4, 4]
    bias: Tensor | None  # [O]
    out_groups: int  # 0: statistics are not wanted

    def outputs(self) -> tuple[Tensor, Tensor]:
        """[B, O, 2H, 2W] channels-last; float32 [B, out_groups, 2]."""
        batch, _, height, width = self.x.shape
        y = torch.empty(
            (batch, self.folded.shape[1], 2 * height, 2 * width), dtype=self.x.dtype, device=self.x.device,
            memory_format=torch.channels_last,
        )  # fmt: skip
        return y, self.x.new_empty((batch, self.out_groups, 2), dtype=torch.float32)

    def launch(self, y: Tensor, moments: Tensor) -> None:
        x, folded = self.x, self.folded.contiguous(memory_format=torch.channels_last)
        require_cuda("upsample_conv3x3", x)
        batch, channels, height, width = x.shape
        out_channels, pixels = folded.shape[1], height * width
        kernel = "float32" if x.dtype == torch.float32 else "plain"
        blocks = blocks_for("upsample_conv3x3", kernel, x, out_channels)
        tiles = triton.cdiv(pixels, blocks["BLOCK_M"])
        partial = None
        if self.out_groups:
            partial = torch.empty((batch, 4 * tiles, 2, out_channels), dtype=torch.float32, device=x.device)
        grid = (4 * triton.cdiv(out_channels, blocks["BLOCK_N"]), tiles, batch)
        upsample_conv3x3_kernel[grid](
            x, folded, self.bias, y, partial, H=height, W=width, C=channels, O=out_channels,
            HAS_BIAS=self.bias is not None, HAS_MOMENTS=partial is not None, **blocks,
        )  # fmt: skip
        if partial is not None:
            launch_merge(partial, moments, pixels, blocks["BLOCK_M"], phases=4)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, folded, bias, _ = inputs
    ctx.save_for_backward(x, folded, bias)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, dy: Tensor, _: Any) -> tuple[Any, ...]:
    x, folded, bias = ctx.saved_tensors
    dx, dfolded, dbias = torch.ops.aten.convolution_backward(
        dy.contiguous(memory_format=torch.channels_last), x, folded, None if bias is None else
        [bias.shape[0]], [2, 2], [1, 1], [1, 1], True, [0, 0], 1, list(ctx.needs_input_grad[:3]),
    )  # fmt: skip
    return dx, dfolded, None if dbias is None else dbias.to(bias.dtype), None


upsample_op = registered("v2f::upsample_conv3x3", Upsample, setup_context=_setup_context, backward=_backward)


@joins(BIAS, STATISTICS)
def upsample_conv3x3(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, out_groups: int | None = None
) -> Tensor | tuple[Tensor, Tensor]:
    """See the contract in `v2f_kernels.upsample_conv3x3`; x in channels-last memory, C a multiple of 16."""
    check_upsample(x, weight, bias, out_groups, folded=False)
    return _run(x, fold_weights(weight), bias, out_groups)


@joins(BIAS, STATISTICS)
def upsample_conv3x3_folded(
    x: Tensor, folded: Tensor, bias: Tensor | None = None, out_groups: int | None = None
) -> Tensor | tuple[Tensor, Tensor]:
    """See the contract in `v2f_kernels.upsample_conv3x3`; x in channels-last memory, C a multiple of 16."""
    check_upsample(x, folded, bias, out_groups, folded=True)
    return _run(x, folded, bias, out_groups)


def _run(
    x: Tensor, folded: Tensor, bias: Tensor | None, out_groups: int | None
) -> Tensor | tuple[Tensor, Tensor]:
    channels_last("x", x)
    check_channels(x.shape[1])
    y, moments = upsample_op(x, folded, bias, out_groups or 0)
    return y if out_groups is None else (y, moments)
