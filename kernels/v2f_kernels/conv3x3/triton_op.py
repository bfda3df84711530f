"""The 3x3 convolution on a GPU: launcher, registered op with gradients, public function.

Gradients come from torch's convolution backward (cuDNN); with a prologue, the normalised input is computed
again in the backward pass rather than kept.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton

from v2f_kernels._triton.launch import launch_config, require_cuda
from v2f_kernels.conv3x3.checks import Norm, check_conv
from v2f_kernels.conv3x3.triton_implicit_gemm import conv3x3_kernel
from v2f_kernels.group_norm_silu.checks import channels_last
from v2f_kernels.group_norm_silu.triton_op import backward_op as norm_backward
from v2f_kernels.group_norm_silu.triton_op import given_op as norm_apply
from v2f_kernels.group_norm_silu.triton_op import launch_merge, launch_scale_shift, statistics_op


def check_channels(channels: int) -> None:
    """Raises ValueError unless the tensor cores' blocks divide the channels."""
    if channels % 16:
        raise ValueError(f"x: the Triton convolutions need a multiple of 16 channels, found {channels}")


def blocks_for(op: str, kernel: str, x: torch.Tensor, out_channels: int) -> dict[str, int]:
    """Launch arguments of `kernel`, its blocks cut down to the problem; BLOCK_K divides the channels."""
    kernel = "float32" if x.dtype == torch.float32 else kernel
    variant = f"{x.shape[1]}->{out_channels}@{x.shape[2]}"
    arguments = launch_config(op, kernel, x.device, variant).arguments
    arguments["BLOCK_K"] = math.gcd(arguments["BLOCK_K"], x.shape[1])
    arguments["BLOCK_N"] = min(arguments["BLOCK_N"], max(16, triton.next_power_of_2(out_channels)))
    pixels = triton.next_power_of_2(x.shape[2] * x.shape[3])
    arguments["BLOCK_M"] = min(arguments["BLOCK_M"], max(64, pixels))
    # Two warp groups want at least 64 x 64 outputs each.
    if arguments["BLOCK_M"] * arguments["BLOCK_N"] <= 64 * 64:
        arguments["num_warps"] = min(arguments["num_warps"], 4)
    return arguments


def launch_conv3x3(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    residual: torch.Tensor | None,
    terms: torch.Tensor | None,
    y: torch.Tensor,
    statistics: torch.Tensor | None,
) -> None:
    """y <- conv(x) + bias + residual and statistics [B, G, 2] of y; all in channels-last memory.

    terms: float32 [B, 2, C], scale and shift of the normalising prologue, or None.
    """
    require_cuda("conv3x3", x)
    batch, channels, height, width = x.shape
    out_channels, pixels = weight.shape[0], height * width
    blocks = blocks_for("conv3x3", "plain" if terms is None else "normalising", x, out_channels)
    tiles = triton.cdiv(pixels, blocks["BLOCK_M"])
    partial = None
    if statistics is not None:
        partial = torch.empty((batch, tiles, 2, out_channels), dtype=torch.float32, device=x.device)
    grid = (triton.cdiv(out_channels, blocks["BLOCK_N"]), tiles, batch)
    conv3x3_kernel[grid](
        x, weight, bias, residual, terms, y, partial, H=height, W=width, C=channels, O=out_channels,
        HAS_BIAS=bias is not None, HAS_RESIDUAL=residual is not None, HAS_NORM=terms is not None,
        HAS_MOMENTS=statistics is not None, PRECISION="ieee", **blocks,
    )  # fmt: skip
    if partial is not None and statistics is not None:
        launch_merge(partial, statistics, pixels, blocks["BLOCK_M"])


def run_conv3x3(
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
    """(y, its statistics [B, out_groups, 2]); statistics of x come with norm_weight and norm_bias."""
    y = _output_like(x, weight)
    moments = torch.empty((x.shape[0], out_groups, 2), dtype=torch.float32, device=x.device)
    terms = None
    if norm_weight is not None and norm_bias is not None and statistics is not None:
        terms = torch.empty((x.shape[0], 2, x.shape[1]), dtype=torch.float32, device=x.device)
        launch_scale_shift(norm_weight, norm_bias, statistics, eps, terms)
    packed = weight.contiguous(memory_format=torch.channels_last)
    launch_conv3x3(x, packed, bias, residual, terms, y, moments if out_groups else None)
    return y, moments


def _output_like(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    shape = (x.shape[0], weight.shape[0], x.shape[2], x.shape[3])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


conv_op = torch.library.custom_op("v2f::conv3x3", run_conv3x3, mutates_args=())


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
    check_channels(x.shape[1])
    if residual is not None:
        channels_last("residual", residual)
    scale, shift, groups, eps = norm if norm is not None else (None, None, 1, 0.0)
    if norm is not None and statistics is None:
        statistics = statistics_op(x.detach(), groups)
    y, moments = conv_op(x, weight, bias, residual, scale, shift, statistics, eps, out_groups or 0)
    return y if out_groups is None else (y, moments)
