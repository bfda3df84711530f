"""The 3x3 convolution with its residual and bias as one kernel of cuDNN.

    y = (conv(x) + residual) + bias        in this order, added in fp32, rounded once

The order decides: conv, residual, bias is the pattern of cuDNN's precompiled engine 41, which runs the kernels of its
plain convolution (engine 62) with the same knobs; the other order, and a residual without a bias, are compiled at run
time. Hence a residual without a bias is given one of zeros. Without a residual: conv and bias (engine 41), conv
(engine 62). cuDNN 9.19 and 9.28, planned for an H200 without one: `tests/kernels/test_cudnn_plans.py`.

torch launches a kernel for each of them instead: 13.4 us of an image's 113.8 on an H200 (base, batch 256, fp16).
Gradients are torch's (cuDNN's backward convolutions).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from v2f_kernels._contract import takes
from v2f_kernels._cudnn.library import cudnn
from v2f_kernels._cudnn.plans import DTYPES, aligned, capturing, plan_for, require
from v2f_kernels._triton.register import registered
from v2f_kernels.conv3x3.checks import Arguments
from v2f_kernels.group_norm_silu.reference import group_statistics
from v2f_kernels.group_norm_silu.torch_native import group_norm_silu

cudnn()  # without it this module cannot be imported, and the message says what to install


class Convolution(NamedTuple):
    """A convolution's plan: sizes, dtype and which of bias and residual it adds; all memory is NHWC and dense."""

    batch: int
    channels: int
    out_channels: int
    height: int
    width: int
    dtype: torch.dtype
    bias: bool
    residual: bool

    @property
    def precompiled(self) -> bool:
        return True

    def describe(self, graph: Any, library: Any) -> dict[str, Any]:
        """See `_cudnn.plans.Description`; operands x, weight, residual, bias, y."""
        dtype = getattr(library.data_type, DTYPES[self.dtype])
        out = self.batch, self.out_channels, self.height, self.width

        def tensor(name: str, *size: int) -> Any:
            return graph.tensor(name=name, dim=list(size), stride=nhwc(size), data_type=dtype)

        x = tensor("x", self.batch, self.channels, self.height, self.width)
        weight = tensor("weight", self.out_channels, self.channels, 3, 3)
        operands = {"x": x, "weight": weight}
        y = graph.conv_fprop(image=x, weight=weight, padding=[1, 1], stride=[1, 1], dilation=[1, 1])
        if self.residual:
            operands["residual"] = tensor("residual", *out)
            y = graph.add(a=y, b=operands["residual"])
        if self.bias:
            operands["bias"] = tensor("bias", 1, self.out_channels, 1, 1)
            y = graph.add(a=y, b=operands["bias"])
        y.set_output(True).set_data_type(dtype).set_dim(list(out)).set_stride(nhwc(out))
        return {**operands, "y": y}


def nhwc(size: tuple[int, ...]) -> list[int]:
    """Strides, in elements, of a dense channels-last [B, C, H, W]."""
    _, channels, height, width = size
    return [channels * height * width, 1, width * channels, channels]


_no_bias: dict[tuple[int, torch.dtype, torch.device], Tensor] = {}


def no_bias(channels: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros [channels], kept: filling them at each call would be a launch of its own, which is what is saved here."""
    key = channels, dtype, device
    if key not in _no_bias:
        made = torch.zeros(channels, dtype=dtype, device=device)
        if capturing(device):  # filled at each replay, in the graph's own memory: no one else may have it
            return made
        _no_bias[key] = made
    return _no_bias[key]


class Forward(NamedTuple):
    """y <- conv(x) + residual + bias."""

    x: Tensor  # [B, C, H, W]
    weight: Tensor  # [O, C, 3, 3], dtype of x
    bias: Tensor | None  # [O], dtype of x
    residual: Tensor | None  # [B, O, H, W], dtype of x

    def outputs(self) -> Tensor:
        """[B, O, H, W] channels-last."""
        batch, _, height, width = self.x.shape
        return torch.empty(
            (batch, self.weight.shape[0], height, width), dtype=self.x.dtype, device=self.x.device,
            memory_format=torch.channels_last,
        )  # fmt: skip

    def launch(self, y: Tensor) -> None:
        tensors = {"x": self.x, "weight": self.weight, "residual": self.residual}
        given = {
            name: aligned(tensor.contiguous(memory_format=torch.channels_last))
            for name, tensor in tensors.items()
            if tensor is not None
        }
        batch, channels, height, width = self.x.shape
        out_channels, biased = self.weight.shape[0], self.bias is not None or self.residual is not None
        what = Convolution(
            batch, channels, out_channels, height, width, self.x.dtype, biased, self.residual is not None
        )
        plan = plan_for(what, y.device)
        if self.bias is not None:
            given["bias"] = aligned(self.bias.contiguous())
        elif biased:
            given["bias"] = no_bias(out_channels, y.dtype, y.device)
        plan.run({**given, "y": y}, y.device)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias, _ = inputs
    ctx.has_bias = bias is not None
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    """As torch has it: two backward convolutions, a sum over all but the channels, and dy itself."""
    x, weight = ctx.saved_tensors
    wants_x, wants_weight, wants_bias, wants_residual = ctx.needs_input_grad
    ones, zeros = [1, 1], [0, 0]
    dx, dweight, _ = torch.ops.aten.convolution_backward(
        dy, x, weight, None, ones, ones, ones, False, zeros, 1, [wants_x, wants_weight, False]
    )
    dbias = dy.sum((0, 2, 3)) if ctx.has_bias and wants_bias else None
    return dx, dweight, dbias, dy if wants_residual else None


forward_op = registered("v2f::conv3x3_cudnn", Forward, setup_context=_setup_context, backward=_backward)


@takes(Arguments)
def conv3x3(given: Arguments) -> Tensor | tuple[Tensor, Tensor]:
    """See the contract in `v2f_kernels.conv3x3`. A norm and statistics are passes of their own here."""
    x, weight, bias, residual, norm, statistics, out_groups = given
    require("conv3x3", x.dtype, x, weight, bias, residual)
    if norm is not None:
        x = group_norm_silu(x, *norm, statistics)
    if bias is not None:
        bias = bias.to(x.dtype)
    y: Tensor = forward_op(x, weight, bias, residual)
    return y if out_groups is None else (y, group_statistics(y.detach(), out_groups))
