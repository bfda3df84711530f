"""Launches under the compile gate: the base decoder's upper levels, an odd one, every option."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from v2f_kernels._triton.register import run
from v2f_kernels._triton.table_cases import image

from bench.candidates.conv3x3_flat.triton_op import Forward

HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32
TARGETS = (90,)
"""Below is no tensor memory accelerator. For sm_120 ptxas 12.9.86 puts 8 B on the stack, into which it writes zeros
beside every load of the accelerator: no spill, but the gate allows no stack."""


def _conv(
    channels: int, out: int, size: int, dtype: torch.dtype, norm: bool = True, rest: bool = True
) -> None:
    """`rest`: with bias, residual and statistics of the output."""
    weight = torch.empty((out, channels, 3, 3), dtype=dtype, device="meta")
    scale = torch.empty(channels, device="meta") if norm else None
    statistics = torch.empty((2, 8, 2), device="meta") if norm else None
    residual = image(out, size, dtype) if rest else None
    bias = torch.empty(out, device="meta") if rest else None
    x = image(channels, size, dtype)
    run(Forward(x, weight, bias, residual, scale, scale, statistics, 1e-6, 8 if rest else 0))


CASES: dict[str, Callable[[], None]] = {
    "128->128@112 float16": partial(_conv, 128, 128, 112, HALF),
    "128->128@112 float16 bare": partial(_conv, 128, 128, 112, HALF, norm=False, rest=False),
    "128->128@112 bfloat16": partial(_conv, 128, 128, 112, BRAIN),
    "128->128@112 float32": partial(_conv, 128, 128, 112, FULL),
    "256->128@56 float16": partial(_conv, 256, 128, 56, HALF),
    "128->128@56 float16": partial(_conv, 128, 128, 56, HALF),
    "256->256@28 float16": partial(_conv, 256, 256, 28, HALF),
    "48->48@40 float16": partial(_conv, 48, 48, 40, HALF),
}
BY_SHAPE: dict[str, tuple[Callable[..., None], Callable[..., None]]] = {}
"""No table can choose it while it is a candidate."""
