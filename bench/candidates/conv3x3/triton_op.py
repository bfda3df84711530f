"""The 3x3 convolution on a GPU: launch, registered op with gradients, public function.

Gradients come from torch's convolution backward (cuDNN); with a prologue, the normalised input is computed
again in the backward pass rather than kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from v2f_kernels._contract import takes
from v2f_kernels._triton.implicit_gemm import blocks_for, check_channels
from v2f_kernels._triton.launch import require_cuda
from v2f_kernels._triton.register import registered
from v2f_kernels.conv3x3.checks import Arguments
from v2f_kernels.group_norm_silu.checks import channels_last
from v2f_kernels.group_norm_silu.triton_op import (
    backward_op,
    given_op,
    launch_merge,
    launch_scale_shift,
    statistics_op,
)

from bench.candidates.conv3x3.triton_implicit_gemm import conv3x3_kernel


class Forward(NamedTuple):
    """(y, statistics of y) <- conv(SiLU(GroupNorm(x))) + bias + residual; all in channels-last memory."""

    x: Tensor  # [B, C, H, W]
    weight: Tensor  # [O, C, 3, 3]
    bias: Tensor | None  # [O]
    residual: Tensor | None  # [B, O, H, W]
    norm_weight: Tensor | None  # [C]; None: no norm
    norm_bias: Tensor | None  # [C]
    statistics: Tensor | None  # [B, G, 2], of x for the norm
    eps: float
    out_groups: int  # 0: statistics of y are not wanted

    def outputs(self) -> tuple[Tensor, Tensor]:
        """[B, O, H, W] channels-last; float32 [B, out_groups, 2]."""
        batch, _, height, width = self.x.shape
        y = torch.empty(
            (batch, self.weight.shape[0], height, width), dtype=self.x.dtype, device=self.x.device,
            memory_format=torch.channels_last,
        )  # fmt: skip
        return y, self.x.new_empty((batch, self.out_groups, 2), dtype=torch.float32)

    def launch(self, y: Tensor, moments: Tensor) -> None:
        x, weight = self.x, self.weight.contiguous(memory_format=torch.channels_last)
        require_cuda("conv3x3", x)
        batch, channels, height, width = x.shape
        out_channels, pixels, terms = weight.shape[0], height * width, self._terms()
        kernel = "float32" if x.dtype == torch.float32 else "plain" if terms is None else "normalising"
        blocks = blocks_for("conv3x3", kernel, x, out_channels)
        tiles = triton.cdiv(pixels, blocks["BLOCK_M"])
        partial = None
        if self.out_groups:
            partial = torch.empty((batch, tiles, 2, out_channels), dtype=torch.float32, device=x.device)
        grid = (triton.cdiv(out_channels, blocks["BLOCK_N"]), tiles, batch)
        conv3x3_kernel[grid](
            x, weight, self.bias, self.residual, terms, y, partial, H=height, W=width, C=channels,
            O=out_channels, HAS_BIAS=self.bias is not None, HAS_RESIDUAL=self.residual is not None,
            HAS_NORM=terms is not None, HAS_MOMENTS=partial is not None, **blocks,
        )  # fmt: skip
        if partial is not None:
            launch_merge(partial, moments, pixels, blocks["BLOCK_M"])

    def _terms(self) -> Tensor | None:
        """float32 [B, 2, C]: scale and shift of the normalising prologue."""
        if self.norm_weight is None or self.norm_bias is None or self.statistics is None:
            return None
        terms = self.x.new_empty((self.x.shape[0], 2, self.x.shape[1]), dtype=torch.float32)
        launch_scale_shift(self.norm_weight, self.norm_bias, self.statistics, self.eps, terms)
        return terms


def keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    """What `backward` needs of the fields of `Forward`."""
    x, weight, bias, residual, norm_weight, norm_bias, statistics, ctx.eps, _ = inputs
    ctx.save_for_backward(x, weight, bias, norm_weight, norm_bias, statistics)
    ctx.has_residual = residual is not None
    ctx.mark_non_differentiable(output[1])


def backward(ctx: Any, dy: Tensor, _: Any) -> tuple[Any, ...]:
    """A gradient for every field of `Forward`."""
    x, weight, bias, norm_weight, norm_bias, statistics = ctx.saved_tensors
    needs_x, needs_weight, needs_bias, needs_residual, needs_scale, needs_shift = ctx.needs_input_grad[:6]
    dy = dy.contiguous(memory_format=torch.channels_last)
    has_norm = norm_weight is not None
    z = given_op(x, norm_weight, norm_bias, statistics, ctx.eps) if has_norm else x
    needs_z = needs_x or needs_scale or needs_shift
    dz, dweight, dbias = torch.ops.aten.convolution_backward(
        dy, z, weight, None if bias is None else [weight.shape[0]],
        [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [needs_z, needs_weight, needs_bias],
    )  # fmt: skip
    dx, dscale, dshift = dz, None, None
    if has_norm and needs_z:
        dz = dz.contiguous(memory_format=torch.channels_last)
        dx, dscale, dshift = backward_op(dz, x, norm_weight, norm_bias, statistics, ctx.eps, None)
    if dbias is not None:
        dbias = dbias.to(bias.dtype)
    dresidual = dy if ctx.has_residual and needs_residual else None
    return dx, dweight, dbias, dresidual, dscale, dshift, None, None, None


conv_op = registered("v2f::conv3x3", Forward, setup_context=keep_for_backward, backward=backward)


def called(op: Callable[..., tuple[Tensor, Tensor]], given: Arguments) -> Tensor | tuple[Tensor, Tensor]:
    """A registered op with the fields of `Forward`, called as the contract says.

    A weight in channels-last memory is read as it lies; any other is copied at every call.
    """
    x, statistics = channels_last("x", given.x), given.statistics
    check_channels(x.shape[1])
    if given.residual is not None:
        channels_last("residual", given.residual)
    scale, shift, groups, eps = given.norm if given.norm is not None else (None, None, 1, 0.0)
    if given.norm is not None and statistics is None:
        statistics = statistics_op(x.detach(), groups)
    rest = scale, shift, statistics, eps, given.out_groups or 0
    y, moments = op(x, given.weight, given.bias, given.residual, *rest)
    return y if given.out_groups is None else (y, moments)


@takes(Arguments)
def conv3x3(given: Arguments) -> Tensor | tuple[Tensor, Tensor]:
    """See the contract in `v2f_kernels.conv3x3`; x and residual in channels-last memory, C a multiple of 16."""
    return called(conv_op, given)
