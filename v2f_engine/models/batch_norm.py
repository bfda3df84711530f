"""What an IResNet computes between its convolutions, so that a training on a GPU does it in few passes.

In training a norm, the PReLU behind it and a residual are one op (`v2f_kernels.batch_norm_prelu`), bound like any
other: unbound it is the layers' own arithmetic, bit for bit. In eval mode, and where a norm was folded away, the layers
run as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

NORM = "batch_norm_prelu"
"""Name of the op."""


def normed(
    op: Callable[..., Any],
    x: torch.Tensor,
    norm: nn.Module,
    prelu: nn.PReLU | None = None,
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """prelu(norm(x)) + residual, `[B, C, H, W]`; running statistics follow in training.

    Args:
        op: a backend of `batch_norm_prelu`.
        norm: a BatchNorm2d, or what stands in its place after folding.
        prelu, residual: None for none.
    """
    if type(norm) is nn.BatchNorm2d and norm.training and norm.momentum is not None:
        slope = None if prelu is None else prelu.weight
        state = (norm.running_mean, norm.running_var, norm.num_batches_tracked)
        fused: torch.Tensor = op(x, norm.weight, norm.bias, *state, norm.momentum, norm.eps, slope, residual)
        return fused
    y: torch.Tensor = norm(x) if prelu is None else prelu(norm(x))
    return y if residual is None else y + residual


def branched(op: Callable[..., Any], x: torch.Tensor, norm: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """(norm(x), x): the shortcut reads the second, so that its gradient and the norm's are added in one pass."""
    if type(norm) is nn.BatchNorm2d and norm.training and norm.momentum is not None:
        state = (norm.running_mean, norm.running_var, norm.num_batches_tracked)
        y, same = op(x, norm.weight, norm.bias, *state, norm.momentum, norm.eps, through=True)
        return y, same
    return norm(x), x


def mean_of_pixels(x: torch.Tensor) -> torch.Tensor:
    """`[B, C, H, W]` to `[B, C, 1, 1]`.

    torch writes this mean's gradient out, in NCHW memory whatever x's: added to a channels-last one it makes every
    gradient before it NCHW. Here it stays one number a channel, the same number.
    """
    if torch.is_grad_enabled() and x.requires_grad:
        y: torch.Tensor = _MeanOfPixels.apply(x)  # type: ignore[no-untyped-call]
        return y
    return x.mean((2, 3), keepdim=True)


class _MeanOfPixels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.shape = x.shape
        return x.mean((2, 3), keepdim=True)

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> Any:
        return (dy / (ctx.shape[2] * ctx.shape[3])).expand(ctx.shape)
