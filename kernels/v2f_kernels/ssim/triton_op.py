"""Structural similarity on a GPU: launches, the registered ops with gradients, the public function.

Forward: columns, then rows with S, its sum by tiles, and (where a gradient will be asked for) how S changes with each
of the averaged maps; back: columns and rows again, the other way. Of 128 images of 112 x 112 that is 0.44 GB in five
kernels where torch's own moves 3.8 GB in 94. Results repeat bit by bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from v2f_kernels._triton.launch import launch_config, require_cuda
from v2f_kernels._triton.register import registered
from v2f_kernels.ssim.checks import WINDOW, check_ssim, taps, widened
from v2f_kernels.ssim.triton_windows import (
    columns_back_kernel,
    columns_kernel,
    mean_kernel,
    rows_back_kernel,
    rows_kernel,
)

TAPS = taps()
OF_LEFT, OF_BOTH = 3, 4
"""Maps of slopes that gradients need: of the left image alone, or of both."""


class _Planes(NamedTuple):
    """Images as the kernels see them: `planes` of `height` rows of `row` numbers, columns `step` apart."""

    planes: int
    height: int
    row: int
    step: int

    @property
    def positions(self) -> tuple[int, int, int]:
        """Of the window: planes, rows, numbers in a row."""
        return self.planes, self.height - WINDOW + 1, self.row - (WINDOW - 1) * self.step


def _planes(image: Tensor) -> _Planes:
    batch, channels, height, width = image.shape
    if image.is_contiguous():
        return _Planes(batch * channels, height, width, 1)
    return _Planes(batch, height, width * channels, channels)


def _tiles(
    kernel: str, x: Tensor, planes: int, height: int, row: int
) -> tuple[tuple[int, int, int], dict[str, int]]:
    """(grid, launch arguments) of a kernel that writes `planes` of `height` x `row` numbers."""
    arguments = launch_config("ssim", kernel, x.device).arguments
    across, down = triton.cdiv(row, arguments["BLOCK_W"]), triton.cdiv(height, arguments["BLOCK_H"])
    return (planes, down, across), arguments


class Forward(NamedTuple):
    """(mean of S, slopes of S) <- two images of one memory order, channels-last or NCHW."""

    left: Tensor  # [B, C, H, W] float32
    right: Tensor
    slopes: int  # 0, OF_LEFT or OF_BOTH

    def outputs(self) -> tuple[Tensor, Tensor]:
        """float32 scalar; float32 [slopes, planes, H - 10, (W - 10) * step]."""
        return self.left.new_empty(()), self.left.new_empty((self.slopes, *_planes(self.left).positions))

    def launch(self, mean: Tensor, slopes: Tensor) -> None:
        left = self.left
        require_cuda("ssim", left, self.right)
        planes, height, row, step = _planes(left)
        _, valid_height, valid_row = _planes(left).positions
        sums = left.new_empty((4, planes, valid_height, row))
        grid, arguments = _tiles("columns", left, planes, valid_height, row)
        columns_kernel[grid](left, self.right, sums, TAPS=TAPS, H=height, ROW=row, **arguments)
        grid, arguments = _tiles("rows", left, planes, valid_height, valid_row)
        partial = left.new_empty((grid[0] * grid[1] * grid[2],))
        rows_kernel[grid](
            sums, slopes, partial, TAPS=TAPS, H=height, ROW=row, STEP=step, SLOPES=self.slopes, **arguments
        )
        share = 1.0 / (planes * valid_height * valid_row)
        arguments = launch_config("ssim", "mean", left.device).arguments
        mean_kernel[(1,)](partial, mean, partial.numel(), share, **arguments)


class Backward(NamedTuple):
    """(d left, d right) <- slopes of S, and what its mean's gradient is."""

    slopes: Tensor  # [OF_LEFT or OF_BOTH, planes, H - 10, (W - 10) * step] float32
    left: Tensor  # [B, C, H, W] float32
    right: Tensor
    upstream: Tensor  # [] float32

    def outputs(self) -> tuple[Tensor, Tensor]:
        """[B, C, H, W] as left; the same, or nothing where slopes are those of left alone."""
        both = self.slopes.shape[0] == OF_BOTH
        return torch.empty_like(self.left), torch.empty_like(self.right) if both else self.right.new_empty(
            (0,)
        )

    def launch(self, d_left: Tensor, d_right: Tensor) -> None:
        left, slopes = self.left, self.slopes
        require_cuda("ssim", left, self.right, slopes)
        planes, height, row, step = _planes(left)
        _, valid_height, valid_row = _planes(left).positions
        maps = slopes.shape[0]
        spread = left.new_empty((maps, planes, height, valid_row))
        grid, arguments = _tiles("columns_back", left, maps * planes, height, valid_row)
        columns_back_kernel[grid](slopes, spread, TAPS=TAPS, H=height, VALID=valid_row, **arguments)
        grid, arguments = _tiles("rows_back", left, planes, height, row)
        share = 1.0 / (planes * valid_height * valid_row)
        rows_back_kernel[grid](
            spread, left, self.right, self.upstream, d_left, d_right, share,
            TAPS=TAPS, H=height, ROW=row, STEP=step, SLOPES=maps, **arguments,
        )  # fmt: skip


backward_op = registered("v2f::ssim_backward", Backward)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(inputs[0], inputs[1], output[1])
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, upstream: Tensor, _: Any) -> tuple[Any, ...]:
    left, right, slopes = ctx.saved_tensors
    d_left, d_right = backward_op(slopes, left, right, upstream)
    return d_left, d_right if slopes.shape[0] == OF_BOTH else None, None


forward_op = registered("v2f::ssim", Forward, setup_context=_setup_context, backward=_backward)


def ssim(left: Tensor, right: Tensor) -> Tensor:
    """See the contract in `v2f_kernels.ssim`; float32 inside, so no float64."""
    check_ssim(left, right)
    if left.dtype == torch.float64:
        raise ValueError("left: the Triton form computes in float32, found torch.float64")
    last = left.is_contiguous(memory_format=torch.channels_last) and not left.is_contiguous()
    order = torch.channels_last if last else torch.contiguous_format
    a, b = (widened(image).contiguous(memory_format=order) for image in (left, right))
    slopes = 0
    if torch.is_grad_enabled() and (a.requires_grad or b.requires_grad):
        slopes = OF_BOTH if b.requires_grad else OF_LEFT
    mean: Tensor = forward_op(a, b, slopes)[0]
    return mean
