"""Launches under the compile gate: norms of an SE-IResNet50 with and without PReLU and residual, and odd ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from v2f_kernels._triton.register import run
from v2f_kernels._triton.table_cases import image
from v2f_kernels.batch_norm_prelu.triton_op import Backward, Forward, Statistics

EPS, MOMENTUM = 1e-5, 0.1
HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32


def _both(channels: int, side: int, dtype: torch.dtype, sloped: bool, added: bool) -> None:
    x, weight = image(channels, side, dtype), torch.empty(channels, device="meta")
    count = torch.empty((), dtype=torch.int64, device="meta")
    slope = weight if sloped else None
    statistics = run(Statistics(x, weight, weight, count, MOMENTUM))
    run(Forward(x, weight, weight, statistics, EPS, slope, x if added else None))
    run(Backward(x, x, weight, weight, statistics, EPS, slope, x if added else None))


CASES: dict[str, Callable[[], None]] = {
    f"{c}@{side} {str(dtype)[6:]}{' PReLU' if sloped else ''}{' residual' if added else ''}": partial(
        _both, c, side, dtype, sloped, added
    )
    for c, side, dtype in (
        (64, 112, BRAIN),
        (128, 56, BRAIN),
        (256, 14, BRAIN),
        (512, 7, BRAIN),
        (512, 7, FULL),
        (256, 14, HALF),
        (48, 23, HALF),
    )
    for sloped, added in ((False, False), (True, False), (False, True))
}


def _of_table(sizes: dict[str, int], dtype: torch.dtype) -> None:
    for sloped, added in ((False, False), (True, False), (False, True)):
        _both(sizes["C"], sizes["HW"], dtype, sloped, added)


def _forward(sizes: dict[str, int], dtype: torch.dtype) -> None:
    x, weight = image(sizes["C"], sizes["HW"], dtype), torch.empty(sizes["C"], device="meta")
    count = torch.empty((), dtype=torch.int64, device="meta")
    statistics = run(Statistics(x, weight, weight, count, MOMENTUM))
    run(Forward(x, weight, weight, statistics, EPS, weight, None))


BY_SHAPE = {"batch_norm_prelu": (_forward, _of_table)}
