"""What the launches of convolutions as matrix products share: which channels they take, blocks cut to the problem."""

from __future__ import annotations

import math

import triton
from torch import Tensor

from v2f_kernels._triton.launch import launch_config


def check_channels(channels: int) -> None:
    """Raises ValueError unless the tensor cores' blocks divide the channels."""
    if channels % 16:
        raise ValueError(f"x: the Triton convolutions need a multiple of 16 channels, found {channels}")


def blocks_for(op: str, kernel: str, x: Tensor, out_channels: int) -> dict[str, int]:
    """Launch arguments of `kernel`, its blocks cut down to x [B, C, H, W]; BLOCK_K divides the channels."""
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
