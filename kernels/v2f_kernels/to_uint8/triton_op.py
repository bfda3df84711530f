"""The decoder's tail on a GPU: launcher, registered op, public function."""

from __future__ import annotations

import math

import torch
import triton

from v2f_kernels._triton.launch import launch_config, require_cuda
from v2f_kernels.group_norm_silu.checks import channels_last
from v2f_kernels.group_norm_silu.triton_op import launch_scale_shift, statistics_op
from v2f_kernels.to_uint8.checks import check_tail
from v2f_kernels.to_uint8.triton_tail import to_uint8_kernel

WIDEST = 256
"""A program holds a whole image row in registers."""


def pack_weight(conv_weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """[3, C, 3, 3] -> [3 (kernel row), C, 4 (kernel column), 4 (output channel)], zero where padded."""
    packed = conv_weight.new_zeros((3, conv_weight.shape[1], 4, 4), dtype=dtype)
    packed[:, :, :3, :3] = conv_weight.permute(2, 1, 3, 0)
    return packed


def launch_to_uint8(
    x: torch.Tensor, terms: torch.Tensor, packed: torch.Tensor, conv_bias: torch.Tensor, images: torch.Tensor
) -> None:
    """images [B, H, W, 3] uint8; terms [B, 2, C] scale and shift of the norm, packed from `pack_weight`."""
    require_cuda("to_uint8", x)
    batch, channels, height, width = x.shape
    kernel = "float32" if x.dtype == torch.float32 else "tail"
    arguments = launch_config("to_uint8", kernel, x.device, f"C={channels}").arguments
    arguments["BLOCK_C"] = math.gcd(arguments["BLOCK_C"], channels)
    to_uint8_kernel[(triton.cdiv(height, arguments["STRIP"]), batch)](
        x, terms, packed, conv_bias, images, H=height, W=width, C=channels, PRECISION="ieee",
        BLOCK_W=max(64, triton.next_power_of_2(width)), **arguments,
    )  # fmt: skip


def run_tail(
    x: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    statistics: torch.Tensor,
    eps: float,
    conv_weight: torch.Tensor,
    conv_bias: torch.Tensor,
) -> torch.Tensor:
    """uint8 [B, H, W, 3] from x and its statistics [B, G, 2]."""
    batch, channels, height, width = x.shape
    terms = torch.empty((batch, 2, channels), dtype=torch.float32, device=x.device)
    images = torch.empty((batch, height, width, 3), dtype=torch.uint8, device=x.device)
    launch_scale_shift(norm_weight, norm_bias, statistics, eps, terms)
    launch_to_uint8(x, terms, pack_weight(conv_weight, x.dtype), conv_bias, images)
    return images


tail_op = torch.library.custom_op("v2f::to_uint8", run_tail, mutates_args=())


@tail_op.register_fake
def _(
    x: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    statistics: torch.Tensor,
    eps: float,
    conv_weight: torch.Tensor,
    conv_bias: torch.Tensor,
) -> torch.Tensor:
    return x.new_empty((x.shape[0], x.shape[2], x.shape[3], 3), dtype=torch.uint8)


@torch.no_grad()
def to_uint8(
    x: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    groups: int,
    eps: float,
    conv_weight: torch.Tensor,
    conv_bias: torch.Tensor,
    statistics: torch.Tensor | None = None,
) -> torch.Tensor:
    """See the contract in `v2f_kernels.to_uint8`; x in channels-last memory, C a multiple of 16, W at most
    256."""
    check_tail(x, norm_weight, norm_bias, groups, conv_weight, conv_bias, statistics)
    channels_last("x", x)
    if x.shape[1] % 16 or x.shape[3] > WIDEST:
        raise ValueError(
            f"x: the Triton tail needs channels in multiples of 16 and at most {WIDEST} columns, found "
            f"{tuple(x.shape)}"
        )
    if statistics is None:
        statistics = statistics_op(x, groups)
    out: torch.Tensor = tail_op(x, norm_weight, norm_bias, statistics, eps, conv_weight, conv_bias)
    return out
