"""Launches under the compile gate: the discriminator's pictures, whole and half precision, and odd ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from v2f_kernels._triton.register import run
from v2f_kernels._triton.table_cases import image
from v2f_kernels.multi_scale_stem.triton_op import Fold, Unfold

HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32


def _both(side: int, dtype: torch.dtype, rows: torch.dtype) -> None:
    _forward(side, dtype, rows)
    run(Fold(image(48, side, rows), 3, dtype))


def _forward(side: int, dtype: torch.dtype, rows: torch.dtype) -> None:
    run(Unfold(image(3, side, dtype), rows))


CASES: dict[str, Callable[[], None]] = {
    f"{side} {str(dtype)[6:]} to {str(rows)[6:]}": partial(_both, side, dtype, rows)
    for side, dtype, rows in (
        (112, FULL, BRAIN),
        (112, BRAIN, BRAIN),
        (112, FULL, FULL),
        (112, HALF, HALF),
        (37, FULL, HALF),
    )
}


def _frozen(sizes: dict[str, int], dtype: torch.dtype) -> None:
    _forward(sizes["HW"], dtype, dtype)


def _training(sizes: dict[str, int], dtype: torch.dtype) -> None:
    for picture in {dtype, FULL}:
        _both(sizes["HW"], picture, dtype)


BY_SHAPE = {"multi_scale_stem": (_frozen, _training)}
