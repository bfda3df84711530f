"""Launches under the compile gate: what the base decoder adds behind its convolutions, and an odd one."""

from __future__ import annotations

from functools import partial

import torch

from v2f_kernels._triton.register import run
from v2f_kernels._triton.table_cases import image
from v2f_kernels.add_statistics.triton_op import Add

HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32


def _add(channels: int, side: int, dtype: torch.dtype, bias: bool, residual: bool, groups: int) -> None:
    x = image(channels, side, dtype)
    added = torch.empty(channels, dtype=dtype, device="meta") if bias else None
    run(Add(x, added, x if residual else None, groups))


CASES = {
    "128@112 float16 residual, statistics": partial(_add, 128, 112, HALF, False, True, 32),
    "128@112 float16 bias, statistics": partial(_add, 128, 112, HALF, True, False, 32),
    "128@112 float16 both, statistics": partial(_add, 128, 112, HALF, True, True, 32),
    "128@112 bfloat16 both, statistics": partial(_add, 128, 112, BRAIN, True, True, 32),
    "128@112 float32 both, statistics": partial(_add, 128, 112, FULL, True, True, 32),
    "128@56 float16 residual": partial(_add, 128, 56, HALF, False, True, 0),
    "256@56 float16 bias, statistics": partial(_add, 256, 56, HALF, True, False, 32),
    "256@28 float16 residual": partial(_add, 256, 28, HALF, False, True, 0),
    "512@14 float16 bias, statistics": partial(_add, 512, 14, HALF, True, False, 32),
    "512@7 float16 residual": partial(_add, 512, 7, HALF, False, True, 0),
    "96@20 float16 both, statistics": partial(_add, 96, 20, HALF, True, True, 8),
    "48@20 float16 residual, statistics": partial(_add, 48, 20, HALF, False, True, 8),
}
BY_SHAPE: dict[str, object] = {}  # no table chooses it: convolutions call it
