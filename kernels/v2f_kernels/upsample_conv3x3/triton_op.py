"""Upsample + 3x3 convolution on a GPU: launcher, registered op with gradients, public functions.

The unfolded form folds its weight at each call (a few hundred kilobytes) and runs the same kernel; its
gradients are those of the transposed convolution (cuDNN), carried back through the fold, which is linear.
"""

from __future__ import annotations

from typing import Any

import torch
import triton

from v2f_kernels._triton.launch import require_cuda
from v2f_kernels.conv3x3.triton_op import blocks_for, check_channels
from v2f_kernels.group_norm_silu.checks import channels_last
from v2f_kernels.group_norm_silu.triton_op import launch_merge
from v2f_kernels.upsample_conv3x3.fold import check_upsample, fold_weights
from v2f_kernels.upsample_conv3x3.triton_phases import upsample_conv3x3_kernel


def launch_upsample_conv3x3(
    x: torch.Tensor,
    folded: torch.Tensor,
    bias: torch.Tensor | None,
    y: torch.Tensor,
    statistics: torch.Tensor | None,
) -> None:
    """y [B, O, 2H, 2W] and statistics [B, G, 2] of y; x, y and folded [C, O, 4, 4] in channels-last
    memory."""
    require_cuda("upsample_conv3x3", x)
    batch, channels, height, width = x.shape
    out_channels, pixels = folded.shape[1], height * width
    blocks = blocks_for("upsample_conv3x3", "plain", x, out_channels)
    tiles = triton.cdiv(pixels, blocks["BLOCK_M"])
    partial = None
    if statistics is not None:
        partial = torch.empty((batch, 4 * tiles, 2, out_channels), dtype=torch.float32, device=x.device)
    grid = (4 * triton.cdiv(out_channels, blocks["BLOCK_N"]), tiles, batch)
    upsample_conv3x3_kernel[grid](
        x, folded, bias, y, partial, H=height, W=width, C=channels, O=out_channels,
        HAS_BIAS=bias is not None, HAS_MOMENTS=statistics is not None, PRECISION="ieee", **blocks,
    )  # fmt: skip
    if partial is not None and statistics is not None:
        launch_merge(partial, statistics, pixels, blocks["BLOCK_M"], phases=4)


def _output_like(x: torch.Tensor, folded: torch.Tensor) -> torch.Tensor:
    shape = (x.shape[0], folded.shape[1], 2 * x.shape[2], 2 * x.shape[3])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def run_upsample(
    x: torch.Tensor, folded: torch.Tensor, bias: torch.Tensor | None, out_groups: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """(y, its statistics [B, out_groups, 2])."""
    y = _output_like(x, folded)
    moments = torch.empty((x.shape[0], out_groups, 2), dtype=torch.float32, device=x.device)
    packed = folded.contiguous(memory_format=torch.channels_last)
    launch_upsample_conv3x3(x, packed, bias, y, moments if out_groups else None)
    return y, moments


upsample_op = torch.library.custom_op("v2f::upsample_conv3x3", run_upsample, mutates_args=())


@upsample_op.register_fake
def _(
    x: torch.Tensor, folded: torch.Tensor, bias: torch.Tensor | None, out_groups: int
) -> tuple[torch.Tensor, torch.Tensor]:
    return _output_like(x, folded), x.new_empty((x.shape[0], out_groups, 2), dtype=torch.float32)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, folded, bias, _ = inputs
    ctx.save_for_backward(x, folded, bias)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, dy: torch.Tensor, _: Any) -> tuple[Any, ...]:
    x, folded, bias = ctx.saved_tensors
    dx, dfolded, dbias = torch.ops.aten.convolution_backward(
        dy.contiguous(memory_format=torch.channels_last), x, folded, None if bias is None else
        [bias.shape[0]], [2, 2], [1, 1], [1, 1], True, [0, 0], 1, list(ctx.needs_input_grad[:3]),
    )  # fmt: skip
    return dx, dfolded, None if dbias is None else dbias.to(bias.dtype), None


upsample_op.register_autograd(_backward, setup_context=_setup_context)


def upsample_conv3x3(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, out_groups: int | None = None
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """See the contract in `v2f_kernels.upsample_conv3x3`; x in channels-last memory, C a multiple of 16."""
    check_upsample(x, weight, bias, out_groups, folded=False)
    return _run(x, fold_weights(weight), bias, out_groups)


def upsample_conv3x3_folded(
    x: torch.Tensor, folded: torch.Tensor, bias: torch.Tensor | None = None, out_groups: int | None = None
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """See the contract in `v2f_kernels.upsample_conv3x3`; x in channels-last memory, C a multiple of 16."""
    check_upsample(x, folded, bias, out_groups, folded=True)
    return _run(x, folded, bias, out_groups)


def _run(
    x: torch.Tensor, folded: torch.Tensor, bias: torch.Tensor | None, out_groups: int | None
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    channels_last("x", x)
    check_channels(x.shape[1])
    y, moments = upsample_op(x, folded, bias, out_groups or 0)
    return y if out_groups is None else (y, moments)
