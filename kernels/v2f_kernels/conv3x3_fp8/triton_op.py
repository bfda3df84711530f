"""The 8-bit convolution on a GPU: launcher, registered op, public function."""

from __future__ import annotations

import math

import torch
import triton

from v2f_kernels._op import BackendUnavailable
from v2f_kernels._triton.launch import launch_config, require_cuda
from v2f_kernels.conv3x3_fp8.quantise import ACTIVATION_SCALE, Norm, check_fp8
from v2f_kernels.conv3x3_fp8.triton_implicit_gemm_fp8 import conv3x3_fp8_kernel, quantise_kernel
from v2f_kernels.group_norm_silu.checks import channels_last
from v2f_kernels.group_norm_silu.triton_op import statistics_op

CAPABILITY = (8, 9)
"""The first with e4m3 tensor cores."""


def launch_quantise(
    x: torch.Tensor,
    statistics: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float,
    y: torch.Tensor,
) -> None:
    """y (e4m3) <- SiLU(GroupNorm(x)) * ACTIVATION_SCALE; x and y [B, C, H, W] channels-last."""
    require_cuda("conv3x3_fp8", x)
    config = launch_config("conv3x3_fp8", "quantise", x.device, f"C={x.shape[1]}")
    batch, channels, height, width = x.shape
    block_c = triton.next_power_of_2(channels)
    block_p = max(1, config.blocks["TILE"] // block_c)
    quantise_kernel[(triton.cdiv(height * width, block_p), batch)](
        x, statistics, weight, bias, y, eps, SCALE=ACTIVATION_SCALE, HW=height * width, C=channels,
        CPG=channels // statistics.shape[1], BLOCK_P=block_p, BLOCK_C=block_c,
        num_warps=config.num_warps, num_stages=config.num_stages,
    )  # fmt: skip


def launch_conv(
    x: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    residual: torch.Tensor | None,
    y: torch.Tensor,
) -> None:
    """y <- conv(x / ACTIVATION_SCALE, weight * scale) + residual; x and weight e4m3, all channels-last."""
    require_cuda("conv3x3_fp8", x)
    batch, channels, height, width = x.shape
    out_channels, pixels = weight.shape[0], height * width
    variant = f"{channels}->{out_channels}@{height}"
    blocks = launch_config("conv3x3_fp8", "product", x.device, variant).arguments
    blocks["BLOCK_K"] = math.gcd(blocks["BLOCK_K"], channels)
    blocks["BLOCK_N"] = min(blocks["BLOCK_N"], max(16, triton.next_power_of_2(out_channels)))
    blocks["BLOCK_M"] = min(blocks["BLOCK_M"], max(64, triton.next_power_of_2(pixels)))
    if blocks["BLOCK_M"] * blocks["BLOCK_N"] <= 64 * 64:
        blocks["num_warps"] = min(blocks["num_warps"], 4)
    grid = (triton.cdiv(out_channels, blocks["BLOCK_N"]), triton.cdiv(pixels, blocks["BLOCK_M"]), batch)
    conv3x3_fp8_kernel[grid](
        x, weight, scale, residual, y, SCALE=ACTIVATION_SCALE, H=height, W=width, C=channels, O=out_channels,
        HAS_RESIDUAL=residual is not None, **blocks,
    )  # fmt: skip


def run_conv3x3_fp8(
    x: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    statistics: torch.Tensor,
    eps: float,
    residual: torch.Tensor | None,
) -> torch.Tensor:
    """Both launches."""
    narrow = torch.empty_like(x, dtype=torch.float8_e4m3fn, memory_format=torch.channels_last)
    launch_quantise(x, statistics, norm_weight, norm_bias, eps, narrow)
    y = _output_like(x, weight)
    launch_conv(narrow, weight, scale, residual, y)
    return y


def _output_like(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    shape = (x.shape[0], weight.shape[0], x.shape[2], x.shape[3])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


fp8_op = torch.library.custom_op("v2f::conv3x3_fp8", run_conv3x3_fp8, mutates_args=())


@fp8_op.register_fake
def _(
    x: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    statistics: torch.Tensor,
    eps: float,
    residual: torch.Tensor | None,
) -> torch.Tensor:
    return _output_like(x, weight)


def conv3x3_fp8(
    x: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    norm: Norm,
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """See the contract in `v2f_kernels.conv3x3_fp8`."""
    check_fp8(x, weight, scale, norm, residual)
    if x.shape[1] % 32:
        raise ValueError(f"x: 8-bit products need a multiple of 32 channels, found {x.shape[1]}")
    if x.device.type == "cuda" and torch.cuda.get_device_capability(x.device) < CAPABILITY:
        raise BackendUnavailable(
            f"conv3x3_fp8 needs compute capability 8.9, {torch.cuda.get_device_name(x.device)} has"
            f" {torch.cuda.get_device_capability(x.device)}; use conv3x3"
        )
    channels_last("x", x)
    channels_last("weight", weight)
    if residual is not None:
        channels_last("residual", residual)
    statistics = statistics_op(x, norm[2])
    y: torch.Tensor = fp8_op(x, weight, scale, norm[0], norm[1], statistics, norm[3], residual)
    return y
