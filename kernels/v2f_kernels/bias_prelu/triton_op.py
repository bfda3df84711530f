"""Bias + PReLU on a GPU: launches, the registered ops, the public function."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from v2f_kernels._contract import takes
from v2f_kernels._triton.launch import launch_config, require_cuda
from v2f_kernels._triton.register import registered
from v2f_kernels.bias_prelu.checks import Arguments
from v2f_kernels.bias_prelu.triton_bits import bias_prelu_backward_kernel, bias_prelu_forward_kernel
from v2f_kernels.group_norm_silu.checks import channels_last

DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def _launch(kernel: str, x: Tensor) -> tuple[tuple[int], dict[str, int]]:
    """(grid, constants and warps) of a kernel over all pixels of x: a program has TILE bytes of it."""
    batch, channels, height, width = x.shape
    config = launch_config("bias_prelu", kernel, x.device, f"C={channels}")
    arguments = config.arguments
    row = triton.next_power_of_2(triton.cdiv(channels, 8))
    rows = max(1, arguments.pop("TILE") // (8 * row * x.element_size()))
    return (triton.cdiv(batch * height * width, rows),), {
        **arguments, "C": channels, "ROWS": rows, "BYTES": row
    }  # fmt: skip


class Forward(NamedTuple):
    """(y, a bit an element of where z is positive; empty unless they are kept)."""

    x: Tensor  # [B, C, H, W] channels-last
    bias: Tensor  # [C] or [4, 4, C]
    slope: Tensor  # [C]
    keep: bool

    def outputs(self) -> tuple[Tensor, Tensor]:
        """As x; uint8 [B * H * W, ceil(C / 8)]."""
        batch, channels, height, width = self.x.shape
        pixels = batch * height * width if self.keep else 0
        bits = self.x.new_empty((pixels, -(-channels // 8)), dtype=torch.uint8)
        return torch.empty_like(self.x), bits

    def launch(self, y: Tensor, bits: Tensor) -> None:
        x, bias, slope, keep = self
        require_cuda("bias_prelu", x, bias, slope)
        batch, _, height, width = x.shape
        grid, constants = _launch("forward", x)
        bias_prelu_forward_kernel[grid](
            x, bias.contiguous(), slope.contiguous(), y, bits if keep else y, batch * height * width, height,
            width, EDGES=bias.ndim == 3, KEEP=keep, **constants,
        )  # fmt: skip


class Backward(NamedTuple):
    """dx <- dy."""

    dy: Tensor  # [B, C, H, W] channels-last
    bits: Tensor  # uint8 [B * H * W, ceil(C / 8)]
    slope: Tensor  # [C]

    def outputs(self) -> Tensor:
        return torch.empty_like(self.dy)

    def launch(self, dx: Tensor) -> None:
        dy, bits, slope = self
        require_cuda("bias_prelu", dy, bits, slope)
        grid, constants = _launch("backward", dy)
        bias_prelu_backward_kernel[grid](dy, bits, slope.contiguous(), dx, len(bits), **constants)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, _, slope, keep = inputs
    if not keep:
        raise RuntimeError("v2f::bias_prelu: a gradient of x needs the signs; call it with keep=True")
    ctx.save_for_backward(output[1], slope)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, dy: Tensor, _: Any) -> tuple[Any, ...]:
    bits, slope = ctx.saved_tensors
    return backward_op(dy.contiguous(memory_format=torch.channels_last), bits, slope), None, None, None


backward_op = registered("v2f::bias_prelu_backward", Backward)
forward_op = registered("v2f::bias_prelu", Forward, setup_context=_setup_context, backward=_backward)


@takes(Arguments)
def bias_prelu(given: Arguments) -> Tensor:
    """See the contract in `v2f_kernels.bias_prelu`."""
    x, bias, slope = given
    if x.dtype not in DTYPES:
        raise ValueError(
            f"bias_prelu/triton: expected x in float16, bfloat16 or float32, found {x.dtype}; use 'torch'"
        )
    keep = torch.is_grad_enabled() and x.requires_grad
    y: Tensor = forward_op(channels_last("x", x), bias, slope, keep)[0]
    return y
