"""Launches under the compile gate: the base decoder's residual convolutions in e4m3, and an odd one."""

from __future__ import annotations

from functools import partial

import torch
from v2f_kernels._triton.register import run

from bench.candidates.conv3x3_fp8.triton_op import Forward

TARGETS = (90, 120)
"""sm_80 has no e4m3 tensor cores."""


def _conv(channels: int, out: int, size: int, dtype: torch.dtype, residual: bool = True) -> None:
    x = _channels_last(2, channels, size, dtype)
    weight = _channels_last(out, channels, 3, torch.float8_e4m3fn)
    term = torch.empty(channels, device="meta")
    statistics = torch.empty((2, 8, 2), device="meta")
    added = _channels_last(2, out, size, dtype) if residual else None
    scale = torch.empty(out, device="meta")
    run(Forward(x, weight, scale, term, term, statistics, 1e-6, added))


def _channels_last(batch: int, channels: int, size: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(
        (batch, channels, size, size), dtype=dtype, device="meta", memory_format=torch.channels_last
    )


CASES = {
    "128->128@112 float16": partial(_conv, 128, 128, 112, torch.float16),
    "128->128@112 bfloat16 bare": partial(_conv, 128, 128, 112, torch.bfloat16, False),
    "256->256@28 float16": partial(_conv, 256, 256, 28, torch.float16),
    "512->512@7 float16": partial(_conv, 512, 512, 7, torch.float16),
    "96->96@40 float16": partial(_conv, 96, 96, 40, torch.float16),
}
BY_SHAPE: dict[str, object] = {}  # no table chooses a backend for it
