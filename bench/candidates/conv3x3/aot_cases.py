"""Launches under the compile gate: the base decoder's convolutions, an odd one, every option."""

from __future__ import annotations

from functools import partial

import torch
from v2f_kernels._triton.register import run
from v2f_kernels._triton.table_cases import image

from bench.candidates.conv3x3.triton_op import Forward

HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32


def _conv(
    channels: int, out: int, size: int, dtype: torch.dtype, norm: bool = False, rest: bool = True
) -> None:
    """`rest`: with bias, residual and statistics of the output."""
    x = _channels_last(2, channels, size, dtype)
    weight = _channels_last(out, channels, 3, dtype)
    scale = torch.empty(channels, device="meta") if norm else None
    statistics = torch.empty((2, 8, 2), device="meta") if norm else None
    residual = _channels_last(2, out, size, dtype) if rest else None
    bias = torch.empty(out, device="meta") if rest else None
    run(Forward(x, weight, bias, residual, scale, scale, statistics, 1e-6, 8 if rest else 0))


def _channels_last(batch: int, channels: int, size: int, dtype: torch.dtype) -> torch.Tensor:
    x = torch.empty((batch, channels, size, size), dtype=dtype, device="meta")
    return x.contiguous(memory_format=torch.channels_last)


CASES = {
    "128->128@112 float16": partial(_conv, 128, 128, 112, HALF),
    "128->128@112 float16 bare": partial(_conv, 128, 128, 112, HALF, rest=False),
    "128->128@112 float16 normalising": partial(_conv, 128, 128, 112, HALF, norm=True),
    "128->128@112 bfloat16 normalising": partial(_conv, 128, 128, 112, BRAIN, norm=True),
    "128->128@112 float32 normalising": partial(_conv, 128, 128, 112, FULL, norm=True),
    "256->128@56 bfloat16": partial(_conv, 256, 128, 56, BRAIN),
    "256->256@28 float16": partial(_conv, 256, 256, 28, HALF),
    "512->512@7 float16": partial(_conv, 512, 512, 7, HALF),
    "48->48@40 float16 normalising": partial(_conv, 48, 48, 40, HALF, norm=True),
}


def _by_shape(sizes: dict[str, int], dtype: torch.dtype) -> None:
    channels, out, side = sizes["C"], sizes["O"], sizes["HW"]
    weight = torch.empty((out, channels, 3, 3), dtype=dtype, device="meta")
    for added in (None, image(out, side, dtype)) if channels == out else (None,):
        run(Forward(image(channels, side, dtype), weight, None, added, None, None, None, 1e-6, 0))


BY_SHAPE = {"conv3x3": (_by_shape, _by_shape)}  # its gradients are cuDNN's
