"""The decoder's tail on a GPU: launch, registered op, public function."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from v2f_kernels._contract import takes
from v2f_kernels._triton.launch import launch_config, require_cuda
from v2f_kernels._triton.register import registered
from v2f_kernels.group_norm_silu.checks import channels_last
from v2f_kernels.group_norm_silu.triton_op import launch_scale_shift, statistics_op
from v2f_kernels.to_uint8.checks import Arguments
from v2f_kernels.to_uint8.triton_tail import to_uint8_kernel

WIDEST = 256
"""A program holds a whole image row in registers."""


def pack_weight(conv_weight: Tensor, dtype: torch.dtype) -> Tensor:
    """[3, C, 3, 3] -> [3 (kernel row), C, 4 (kernel column), 4 (output channel)], zero where padded."""
    packed = conv_weight.new_zeros((3, conv_weight.shape[1], 4, 4), dtype=dtype)
    packed[:, :, :3, :3] = conv_weight.permute(2, 1, 3, 0)
    return packed


class Tail(NamedTuple):
    """images <- x."""

    x: Tensor  # [B, C, H, W] channels-last
    norm_weight: Tensor  # [C]
    norm_bias: Tensor  # [C]
    statistics: Tensor  # [B, G, 2], of x
    eps: float
    conv_weight: Tensor  # [3, C, 3, 3]
    conv_bias: Tensor  # [3]

    def outputs(self) -> Tensor:
        """uint8 [B, H, W, 3]."""
        batch, _, height, width = self.x.shape
        return self.x.new_empty((batch, height, width, 3), dtype=torch.uint8)

    def launch(self, images: Tensor) -> None:
        x, statistics = self.x, self.statistics
        require_cuda("to_uint8", x)
        batch, channels, height, width = x.shape
        terms = torch.empty((batch, 2, channels), dtype=torch.float32, device=x.device)
        launch_scale_shift(self.norm_weight, self.norm_bias, statistics, self.eps, terms)
        kernel = "float32" if x.dtype == torch.float32 else "tail"
        arguments = launch_config("to_uint8", kernel, x.device, f"C={channels}").arguments
        arguments["BLOCK_C"] = math.gcd(arguments["BLOCK_C"], channels)
        to_uint8_kernel[(triton.cdiv(height, arguments["STRIP"]), batch)](
            x, terms, pack_weight(self.conv_weight, x.dtype), self.conv_bias, images,
            H=height, W=width, C=channels, BLOCK_W=max(64, triton.next_power_of_2(width)), **arguments,
        )  # fmt: skip


tail_op = registered("v2f::to_uint8", Tail)


@torch.no_grad()
@takes(Arguments)
def to_uint8(given: Arguments) -> Tensor:
    """See the contract in `v2f_kernels.to_uint8`; x in channels-last memory, C a multiple of 16, W at most
    256."""
    x, norm_weight, norm_bias, groups, eps, conv_weight, conv_bias, statistics = given
    channels_last("x", x)
    if x.shape[1] % 16 or x.shape[3] > WIDEST:
        raise ValueError(
            f"x: the Triton tail needs channels in multiples of 16 and at most {WIDEST} columns, found "
            f"{tuple(x.shape)}"
        )
    if statistics is None:
        statistics = statistics_op(x, groups)
    out: Tensor = tail_op(x, norm_weight, norm_bias, statistics, eps, conv_weight, conv_bias)
    return out
