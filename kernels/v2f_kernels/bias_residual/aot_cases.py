"""Launches under the compile gate: ends of a recogniser's blocks, and channels that fill no tile."""

from __future__ import annotations

from functools import partial

import torch

from v2f_kernels._triton.register import run
from v2f_kernels._triton.table_cases import image
from v2f_kernels.bias_residual.triton_op import Sum

F16, BF16, F32 = torch.float16, torch.bfloat16, torch.float32


def _sum(channels: int, side: int, dtype: torch.dtype) -> None:
    x = image(channels, side, dtype)
    run(Sum(x, torch.empty(channels, device="meta"), x))


CASES = {
    "64@56 bfloat16": partial(_sum, 64, 56, BF16),
    "128@28 bfloat16": partial(_sum, 128, 28, BF16),
    "256@14 bfloat16": partial(_sum, 256, 14, BF16),
    "512@7 bfloat16": partial(_sum, 512, 7, BF16),
    "256@14 float32": partial(_sum, 256, 14, F32),
    "52@14 float16": partial(_sum, 52, 14, F16),
}


def _any_use(sizes: dict[str, int], dtype: torch.dtype) -> None:
    _sum(sizes["C"], sizes["HW"], dtype)


BY_SHAPE = {"bias_residual": (_any_use, _any_use)}
