"""The 3x3 convolution on a GPU: launcher, registered op with gradients, public function.

Gradients come from torch's convolution backward (cuDNN); with a prologue, the normalised input is computed again in
the backward pass rather than kept.
"""

from __future__ import annotations

from typing import Any

import torch
import triton

from v2f_kernels.conv3x3.checks import Norm, check_conv
from v2f_kernels.conv3x3.triton_conv import conv3x3_kernel, scale_shift_kernel
from v2f_kernels.group_norm_silu.checks import channels_last
from v2f_kernels.group_norm_silu.triton_kernel import backward_op as norm_backward
from v2f_kernels.group_norm_silu.triton_kernel import given_op as norm_apply
from v2f_kernels.group_norm_silu.triton_kernel import launch_merge, statistics_op

Config = dict[str, int]


def largest_block(channels: int, dtype: torch.dtype) -> int:
    """BLOCK_K: the largest of 64, 32, 16 (32, 16 for float32) that divides the channels."""
    for block in (64, 32, 16):
        if channels % block == 0 and not (block == 64 and dtype == torch.float32):
            return block
    raise ValueError(f"x: the Triton convolution needs a multiple of 16 channels, found {channels}")


def choose_config(x: torch.Tensor, out_channels: int, has_norm: bool) -> Config:
    """The launch configuration used where none was tuned: 128 pixels by up to 128 channels, 8 warps."""
    block_n = min(128, max(16, triton.next_power_of_2(out_channels)))
    wide = x.shape[2] * x.shape[3] > 64 and block_n > 32
    stages = 2 if x.dtype == torch.float32 else 3 if has_norm else 4
    return {
        "BLOCK_M": 128 if wide else 64,
        "BLOCK_N": block_n,
        "BLOCK_K": largest_block(x.shape[1], x.dtype),
        "num_warps": 8 if wide else 4,
        "num_stages": stages,
    }


def launch_conv3x3(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    residual: torch.Tensor | None,
    terms: torch.Tensor | None,
    y: torch.Tensor,
    statistics: torch.Tensor | None,
    config: Config,
) -> None:
    """y <- conv(x) + bias + residual and statistics [B, G, 2] of y; all in channels-last memory.

    terms: float32 [B, 2, C], scale and shift of the normalising prologue, or None.
    """
    batch, channels, height, width = x.shape
    out_channels, pixels, block_m = weight.shape[0], height * width, config["BLOCK_M"]
    tiles = triton.cdiv(pixels, block_m)
    partial = None
    if statistics is not None:
        partial = torch.empty((batch, tiles, 2, out_channels), dtype=torch.float32, device=x.device)
    grid = (triton.cdiv(out_channels, config["BLOCK_N"]), tiles, batch)
    conv3x3_kernel[grid](
        x, weight, bias, residual, terms, y, partial, H=height, W=width, C=channels, O=out_channels,
        HAS_BIAS=bias is not None, HAS_RESIDUAL=residual is not None, HAS_NORM=terms is not None,
        HAS_MOMENTS=statistics is not None, PRECISION="ieee", **config,
    )  # fmt: skip
    if partial is not None and statistics is not None:
        launch_merge(partial, statistics, pixels, block_m)


def launch_scale_shift(
    weight: torch.Tensor, bias: torch.Tensor, statistics: torch.Tensor, eps: float, terms: torch.Tensor
) -> None:
    """terms [B, 2, C] <- scale and shift with GroupNorm(x) = x * scale + shift."""
    channels = weight.shape[0]
    scale_shift_kernel[(statistics.shape[0],)](
        statistics, weight, bias, terms, eps, C=channels, CPG=channels // statistics.shape[1],
        BLOCK_C=triton.next_power_of_2(channels), num_warps=4,
    )  # fmt: skip


@torch.library.custom_op("v2f::conv3x3", mutates_args=())
def conv_op(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    residual: torch.Tensor | None,
    norm_weight: torch.Tensor | None,
    norm_bias: torch.Tensor | None,
    statistics: torch.Tensor | None,
    eps: float,
    out_groups: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(y, its statistics [B, out_groups, 2]); `statistics` are those of x and come with norm_weight and norm_bias."""
    y = _output_like(x, weight)
    moments = torch.empty((x.shape[0], out_groups, 2), dtype=torch.float32, device=x.device)
    terms = None
    if norm_weight is not None and norm_bias is not None and statistics is not None:
        terms = torch.empty((x.shape[0], 2, x.shape[1]), dtype=torch.float32, device=x.device)
        launch_scale_shift(norm_weight, norm_bias, statistics, eps, terms)
    config = choose_config(x, weight.shape[0], terms is not None)
    packed = weight.contiguous(memory_format=torch.channels_last)
    launch_conv3x3(x, packed, bias, residual, terms, y, moments if out_groups else None, config)
    return y, moments


def _output_like(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    shape = (x.shape[0], weight.shape[0], x.shape[2], x.shape[3])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


@conv_op.register_fake
def _(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    residual: torch.Tensor | None,
    norm_weight: torch.Tensor | None,
    norm_bias: torch.Tensor | None,
    statistics: torch.Tensor | None,
    eps: float,
    out_groups: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    return _output_like(x, weight), x.new_empty((x.shape[0], out_groups, 2), dtype=torch.float32)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, weight, bias, residual, norm_weight, norm_bias, statistics, ctx.eps, _ = inputs
    ctx.save_for_backward(x, weight, bias, norm_weight, norm_bias, statistics)
    ctx.has_residual = residual is not None
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, dy: torch.Tensor, _: Any) -> tuple[Any, ...]:
    x, weight, bias, norm_weight, norm_bias, statistics = ctx.saved_tensors
    needs_x, needs_weight, needs_bias, needs_residual, needs_scale, needs_shift = ctx.needs_input_grad[:6]
    dy = dy.contiguous(memory_format=torch.channels_last)
    has_norm = norm_weight is not None
    z = norm_apply(x, norm_weight, norm_bias, statistics, ctx.eps) if has_norm else x
    needs_z = needs_x or needs_scale or needs_shift
    dz, dweight, dbias = torch.ops.aten.convolution_backward(
        dy, z, weight, None if bias is None else [weight.shape[0]],
        [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [needs_z, needs_weight, needs_bias],
    )  # fmt: skip
    dx, dscale, dshift = dz, None, None
    if has_norm and needs_z:
        dz = dz.contiguous(memory_format=torch.channels_last)
        dx, dscale, dshift = norm_backward(dz, x, norm_weight, norm_bias, statistics, ctx.eps)
    if dbias is not None:
        dbias = dbias.to(bias.dtype)
    dresidual = dy if ctx.has_residual and needs_residual else None
    return dx, dweight, dbias, dresidual, dscale, dshift, None, None, None


conv_op.register_autograd(_backward, setup_context=_setup_context)


def conv3x3(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    norm: Norm | None = None,
    statistics: torch.Tensor | None = None,
    out_groups: int | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """See the contract in `v2f_kernels.conv3x3`; x and residual in channels-last memory, C a multiple of 16.

    A weight in channels-last memory is read as it lies; any other is copied at every call.
    """
    check_conv(x, weight, bias, residual, norm, statistics, out_groups)
    channels_last("x", x)
    largest_block(x.shape[1], x.dtype)
    if residual is not None:
        channels_last("residual", residual)
    scale, shift, groups, eps = norm if norm is not None else (None, None, 1, 0.0)
    if norm is not None and statistics is None:
        statistics = statistics_op(x.detach(), groups)
    y, moments = conv_op(x, weight, bias, residual, scale, shift, statistics, eps, out_groups or 0)
    return y if out_groups is None else (y, moments)
