"""Launches under the compile gate: a training's images in both memory orders, and odd ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from v2f_kernels._triton.register import run
from v2f_kernels.ssim.triton_op import OF_BOTH, OF_LEFT, Backward, Forward

LAST, FIRST = torch.channels_last, torch.contiguous_format


def _ssim(height: int, width: int, order: torch.memory_format, slopes: int) -> None:
    left = torch.empty((2, 3, height, width), device="meta").contiguous(memory_format=order)
    right = torch.empty_like(left)
    _, made = run(Forward(left, right, slopes))
    if slopes:
        run(Backward(made, left, right, torch.empty((), device="meta")))


CASES: dict[str, Callable[[], object]] = {
    "112x112 NHWC, gradient of left": partial(_ssim, 112, 112, LAST, OF_LEFT),
    "112x112 NHWC, both gradients": partial(_ssim, 112, 112, LAST, OF_BOTH),
    "112x112 NHWC, none": partial(_ssim, 112, 112, LAST, 0),
    "112x112 NCHW, gradient of left": partial(_ssim, 112, 112, FIRST, OF_LEFT),
    "37x29 NHWC, both gradients": partial(_ssim, 37, 29, LAST, OF_BOTH),
}
BY_SHAPE: dict[str, object] = {}  # no table chooses it by shape
