"""The stem on a GPU: rows of 15 pixels are written beside every pixel, then one 15x1 convolution reads them.

Of 48 channels 45 hold a window of three-channel pixels. Channel 45 is one everywhere, and the bias is its weight at the
middle row, which is always inside of the picture: so the bias and its gradient cost nothing. A convolution of three
channels would have them padded to eight: 1.16 GFLOP a picture of 112x112 and 64 channels out here, 2.89 there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from v2f_kernels._contract import takes
from v2f_kernels._triton.launch import launch_config, require_cuda
from v2f_kernels._triton.register import registered
from v2f_kernels.group_norm_silu.checks import channels_last
from v2f_kernels.multi_scale_stem.checks import Arguments
from v2f_kernels.multi_scale_stem.torch_one import LARGEST, embedded
from v2f_kernels.multi_scale_stem.triton_rows import fold_rows_kernel, unfold_rows_kernel

CHANNELS_OF_A_TILE = 8
"""Tensor cores want channels in multiples of it."""


def width_of(channels: int) -> int:
    """Channels of the unfolded rows: a window, the bias's, and what fills a tile."""
    return -(-(channels * LARGEST + 1) // CHANNELS_OF_A_TILE) * CHANNELS_OF_A_TILE


class Unfold(NamedTuple):
    """[B, width_of(C), H, W] channels-last: the window of a row around every pixel, a one, zeros."""

    x: Tensor  # [B, C, H, W] channels-last
    dtype: torch.dtype

    def outputs(self) -> Tensor:
        batch, channels, height, width = self.x.shape
        shape = (batch, width_of(channels), height, width)
        return torch.empty(shape, dtype=self.dtype, device=self.x.device, memory_format=torch.channels_last)

    def launch(self, rows: Tensor) -> None:
        x = self.x
        require_cuda("multi_scale_stem", x)
        config = launch_config("multi_scale_stem", "unfold", x.device)
        block_j = triton.next_power_of_2(rows.shape[1])
        block_p = max(1, config.blocks["TILE"] // block_j)
        pixels = x.shape[0] * x.shape[2] * x.shape[3]
        unfold_rows_kernel[(triton.cdiv(pixels, block_p),)](
            x, rows, pixels, W=x.shape[3], C=x.shape[1], KERNEL=LARGEST, WIDTH=rows.shape[1], BLOCK_P=block_p,
            BLOCK_J=block_j, num_warps=config.num_warps, num_stages=config.num_stages,
        )  # fmt: skip


class Fold(NamedTuple):
    """The gradient [B, C, H, W] of the picture <- that of its unfolded rows."""

    rows: Tensor  # [B, width_of(C), H, W] channels-last
    channels: int
    dtype: torch.dtype

    def outputs(self) -> Tensor:
        batch, _, height, width = self.rows.shape
        shape = (batch, self.channels, height, width)
        return torch.empty(
            shape, dtype=self.dtype, device=self.rows.device, memory_format=torch.channels_last
        )

    def launch(self, x: Tensor) -> None:
        rows = self.rows
        require_cuda("multi_scale_stem", rows)
        config = launch_config("multi_scale_stem", "fold", rows.device)
        block_c = triton.next_power_of_2(self.channels)
        block_p = max(1, config.blocks["TILE"] // block_c)
        pixels = rows.shape[0] * rows.shape[2] * rows.shape[3]
        fold_rows_kernel[(triton.cdiv(pixels, block_p),)](
            rows, x, pixels, W=rows.shape[3], C=self.channels, KERNEL=LARGEST, WIDTH=rows.shape[1],
            INNER=tl.float64 if rows.dtype == torch.float64 else tl.float32, BLOCK_P=block_p, BLOCK_C=block_c,
            num_warps=config.num_warps, num_stages=config.num_stages,
        )  # fmt: skip


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.channels, ctx.dtype = inputs[0].shape[1], inputs[0].dtype


def _backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    rows = gradient.contiguous(memory_format=torch.channels_last)
    return fold_op(rows, ctx.channels, ctx.dtype), None


fold_op = registered("v2f::multi_scale_stem_fold", Fold)
unfold_op = registered(
    "v2f::multi_scale_stem_unfold", Unfold, setup_context=_setup_context, backward=_backward
)


def column_weight(given: Arguments, dtype: torch.dtype) -> Tensor:
    """[O, width_of(C), 15, 1], what the unfolded rows are convolved with; differentiable.

    Channel a * C + c holds channel c of the taps at column a, row by row; channel 15 C the bias, at the middle row.
    """
    whole = embedded(given, dtype)  # [O, C, 15 down, 15 across]
    windows = whole.permute(0, 3, 1, 2).flatten(1, 2)  # [O, 15 C, 15]
    half, spare = LARGEST // 2, width_of(whole.shape[1]) - windows.shape[1] - 1
    bias = F.pad(torch.cat(given.biases).to(dtype)[:, None, None], (half, half, 0, spare))
    weight = torch.cat([windows, bias], 1)[..., None]
    return weight.contiguous(memory_format=torch.channels_last)


@takes(Arguments)
def multi_scale_stem(given: Arguments) -> Tensor:
    """See the contract in `v2f_kernels.multi_scale_stem`; x must lie in channels-last memory."""
    x = channels_last("x", given.x)
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    rows = unfold_op(x, dtype)
    return F.conv2d(rows, column_weight(given, dtype), padding=(LARGEST // 2, 0))
