"""Launches under the compile gate: maps of a recogniser and of VGG16, and channels that fill no tile."""

from __future__ import annotations

from functools import partial

import torch

from v2f_kernels._triton.register import run
from v2f_kernels._triton.table_cases import image
from v2f_kernels.unit_distance.triton_op import Backward, Forward

F16, BF16, F32 = torch.float16, torch.bfloat16, torch.float32


def _distance(channels: int, side: int, dtype: torch.dtype, weighted: bool, backward: bool) -> None:
    x = image(channels, side, dtype)
    weight = torch.empty(channels, device="meta") if weighted else None
    run(Forward(x, x, weight, 1e-4))
    if backward:
        run(Backward(torch.empty(2, device="meta"), x, x, weight, 1e-4))


CASES = {
    "64@56 bfloat16": partial(_distance, 64, 56, BF16, False, True),
    "128@28 bfloat16": partial(_distance, 128, 28, BF16, False, True),
    "256@14 bfloat16": partial(_distance, 256, 14, BF16, False, True),
    "64@112 bfloat16 weighted": partial(_distance, 64, 112, BF16, True, True),
    "512@7 bfloat16 weighted": partial(_distance, 512, 7, BF16, True, True),
    "256@14 float32": partial(_distance, 256, 14, F32, False, True),
    "52@14 float16": partial(_distance, 52, 14, F16, False, True),
}


def _any_weight(sizes: dict[str, int], dtype: torch.dtype, backward: bool) -> None:
    for weighted in (False, True):
        _distance(sizes["C"], sizes["HW"], dtype, weighted, backward)


BY_SHAPE = {"unit_distance": (partial(_any_weight, backward=False), partial(_any_weight, backward=True))}
