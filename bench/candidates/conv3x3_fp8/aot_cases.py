"""Launches under the compile gate: the base decoder's upper levels in e4m3, mini's, an odd one, every option."""

from __future__ import annotations

from functools import partial

import torch
from v2f_kernels._triton.register import run
from v2f_kernels._triton.table_cases import image

from bench.candidates.conv3x3_flat.aot_cases import TARGETS as TARGETS
from bench.candidates.conv3x3_fp8.triton_op import Forward

HALF, BRAIN = torch.float16, torch.bfloat16


def _conv(channels: int, out: int, size: int, dtype: torch.dtype, rest: bool = True) -> None:
    """`rest`: with bias, residual and statistics of the output."""
    weight = torch.empty((out, 3, 3, channels), dtype=torch.float8_e4m3fn, device="meta").permute(0, 3, 1, 2)
    term, scale = torch.empty(channels, device="meta"), torch.empty(out, device="meta")
    statistics = torch.empty((2, 8, 2), device="meta")
    bias = torch.empty(out, device="meta") if rest else None
    residual = image(out, size, dtype) if rest else None
    x = image(channels, size, dtype)
    run(Forward(x, weight, scale, term, term, statistics, 1e-6, bias, residual, 8 if rest else 0))


CASES = {
    "128->128@112 float16": partial(_conv, 128, 128, 112, HALF),
    "128->128@112 bfloat16 bare": partial(_conv, 128, 128, 112, BRAIN, False),
    "256->128@56 float16": partial(_conv, 256, 128, 56, HALF),
    "256->256@28 float16": partial(_conv, 256, 256, 28, HALF),
    "16->16@112 float16": partial(_conv, 16, 16, 112, HALF),
    "96->48@40 float16": partial(_conv, 96, 48, 40, HALF),
}
BY_SHAPE: dict[str, object] = {}  # no table chooses a backend for it
