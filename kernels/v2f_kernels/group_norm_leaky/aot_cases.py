"""Launches under the compile gate: norms of the discriminator, before and after its leaky ReLUs, and an odd one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from v2f_kernels._triton.register import run
from v2f_kernels._triton.table_cases import image
from v2f_kernels.group_norm_leaky.triton_op import Backward, Forward

EPS, GROUPS, SLOPE = 1e-5, 8, 0.1
HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32


def _both(channels: int, size: int, groups: int, dtype: torch.dtype, stage: bool) -> None:
    """A stage's norm, behind a convolution's bias and leaky ReLU, or a residual block's, before one."""
    x, weight = image(channels, size, dtype), torch.empty(channels, device="meta")
    slopes = (SLOPE, 1.0) if stage else (1.0, SLOPE)
    shift = weight if stage else None
    run(Forward(x, weight, weight, groups, EPS, *slopes, shift))
    statistics = torch.empty((2, groups, 2), device="meta")
    run(Backward(x, x, weight, weight, statistics, EPS, *slopes, shift))


CASES: dict[str, Callable[[], None]] = {
    f"{'stage' if stage else 'block'} {c}@{size} {str(dtype)[6:]}": partial(_both, c, size, groups, dtype, stage)
    for c, size, groups, dtype in (
        (128, 56, 8, BRAIN),
        (256, 28, 8, BRAIN),
        (512, 14, 8, BRAIN),
        (128, 56, 8, FULL),
        (256, 28, 8, FULL),
        (512, 14, 8, HALF),
        (48, 40, 6, HALF),
        (24, 9, 2, FULL),
    )
    for stage in (True, False)
}  # fmt: skip


def _of_table(sizes: dict[str, int], dtype: torch.dtype) -> None:
    for stage in (True, False):
        _both(sizes["C"], sizes["HW"], GROUPS, dtype, stage)


def _frozen(sizes: dict[str, int], dtype: torch.dtype) -> None:
    x, weight = image(sizes["C"], sizes["HW"], dtype), torch.empty(sizes["C"], dtype=dtype, device="meta")
    for slopes, shift in (((SLOPE, 1.0), weight), ((1.0, SLOPE), None)):
        run(Forward(x, weight, weight, GROUPS, EPS, *slopes, shift))


BY_SHAPE = {"group_norm_leaky": (_frozen, _of_table)}
