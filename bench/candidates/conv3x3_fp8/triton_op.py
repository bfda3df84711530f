"""The 8-bit convolution on a GPU: launches, registered op, public function."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
from torch import Tensor
from v2f_kernels._op import BackendUnavailable
from v2f_kernels._triton.implicit_gemm import blocks_for
from v2f_kernels._triton.launch import launch_config, require_cuda
from v2f_kernels._triton.register import registered
from v2f_kernels.group_norm_silu.checks import channels_last
from v2f_kernels.group_norm_silu.triton_op import statistics_op

from bench.candidates.conv3x3_fp8.quantise import ACTIVATION_SCALE, Norm, check_fp8
from bench.candidates.conv3x3_fp8.triton_implicit_gemm_fp8 import conv3x3_fp8_kernel, quantise_kernel

CAPABILITY = (8, 9)
"""The first with e4m3 tensor cores."""


class Forward(NamedTuple):
    """y <- conv(e4m3(SiLU(GroupNorm(x)))) + residual; all in channels-last memory."""

    x: Tensor  # [B, C, H, W]
    weight: Tensor  # e4m3 [O, C, 3, 3]
    scale: Tensor  # [O]
    norm_weight: Tensor  # [C]
    norm_bias: Tensor  # [C]
    statistics: Tensor  # [B, G, 2], of x
    eps: float
    residual: Tensor | None  # [B, O, H, W]

    def outputs(self) -> Tensor:
        """[B, O, H, W] channels-last."""
        shape = (self.x.shape[0], self.weight.shape[0], *self.x.shape[2:])
        return torch.empty(shape, dtype=self.x.dtype, device=self.x.device, memory_format=torch.channels_last)

    def launch(self, y: Tensor) -> None:
        require_cuda("conv3x3_fp8", self.x)
        batch, channels, height, width = self.x.shape
        out_channels, pixels = self.weight.shape[0], height * width
        rounded = self._rounded()
        blocks = blocks_for("conv3x3_fp8", "product", rounded, out_channels)
        grid = (triton.cdiv(out_channels, blocks["BLOCK_N"]), triton.cdiv(pixels, blocks["BLOCK_M"]), batch)
        conv3x3_fp8_kernel[grid](
            rounded, self.weight, self.scale, self.residual, y, SCALE=ACTIVATION_SCALE, H=height, W=width,
            C=channels, O=out_channels, HAS_RESIDUAL=self.residual is not None, **blocks,
        )  # fmt: skip

    def _rounded(self) -> Tensor:
        """e4m3, like x: SiLU(GroupNorm(x)) * ACTIVATION_SCALE."""
        x, statistics = self.x, self.statistics
        y = torch.empty_like(x, dtype=torch.float8_e4m3fn, memory_format=torch.channels_last)
        config = launch_config("conv3x3_fp8", "quantise", x.device, f"C={x.shape[1]}")
        batch, channels, height, width = x.shape
        block_c = triton.next_power_of_2(channels)
        block_p = max(1, config.blocks["TILE"] // block_c)
        quantise_kernel[(triton.cdiv(height * width, block_p), batch)](
            x, statistics, self.norm_weight, self.norm_bias, y, self.eps, SCALE=ACTIVATION_SCALE,
            HW=height * width, C=channels, CPG=channels // statistics.shape[1], BLOCK_P=block_p, BLOCK_C=block_c,
            num_warps=config.num_warps, num_stages=config.num_stages,
        )  # fmt: skip
        return y


fp8_op = registered("v2f::conv3x3_fp8", Forward)


def conv3x3_fp8(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    norm: Norm,
    residual: Tensor | None = None,
) -> Tensor:
    """See the contract in `bench.candidates.conv3x3_fp8`."""
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
    y: Tensor = fp8_op(x, weight, scale, norm[0], norm[1], statistics, norm[3], residual)
    return y
