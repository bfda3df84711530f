"""Bias + residual on a GPU: the launch, the registered op, the public function."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from v2f_kernels._contract import takes
from v2f_kernels._triton.launch import launch_config, require_cuda
from v2f_kernels._triton.register import registered
from v2f_kernels.bias_residual.checks import Arguments
from v2f_kernels.bias_residual.triton_sum import bias_residual_kernel
from v2f_kernels.group_norm_silu.checks import channels_last

DTYPES = (torch.float16, torch.bfloat16, torch.float32)


class Sum(NamedTuple):
    """s <- x + bias + shortcut."""

    x: Tensor  # [B, C, H, W] channels-last
    bias: Tensor  # [C]
    shortcut: Tensor  # [B, C, H, W] channels-last

    def outputs(self) -> Tensor:
        return torch.empty_like(self.x)

    def launch(self, s: Tensor) -> None:
        """A program has TILE bytes of x."""
        x, bias, shortcut = self
        require_cuda("bias_residual", x, bias, shortcut)
        batch, channels, height, width = x.shape
        arguments = launch_config("bias_residual", "forward", x.device, f"C={channels}").arguments
        block, pixels = triton.next_power_of_2(channels), batch * height * width
        rows = max(1, arguments.pop("TILE") // (block * x.element_size()))
        bias_residual_kernel[(triton.cdiv(pixels, rows),)](
            x, bias.contiguous(), shortcut, s, pixels, C=channels, ROWS=rows, BLOCK_C=block, **arguments
        )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """The gradient needs nothing."""


def _backward(ctx: Any, ds: Tensor) -> tuple[Any, ...]:
    return ds, None, ds


sum_op = registered("v2f::bias_residual", Sum, setup_context=_setup_context, backward=_backward)


@takes(Arguments)
def bias_residual(given: Arguments) -> Tensor:
    """See the contract in `v2f_kernels.bias_residual`."""
    x, bias, shortcut = given
    if x.dtype not in DTYPES:
        raise ValueError(
            f"bias_residual/triton: expected x in float16, bfloat16 or float32, found {x.dtype}; use 'torch'"
        )
    s: Tensor = sum_op(channels_last("x", x), bias, channels_last("shortcut", shortcut))
    return s
