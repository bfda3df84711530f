"""Launches under the compile gate: norms of the base decoder and one of an odd model, every kernel."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from v2f_kernels._triton.register import run
from v2f_kernels._triton.table_cases import GROUPS, image
from v2f_kernels.group_norm_silu.triton_op import Backward, Forward, Shifted
from v2f_kernels.group_norm_silu.triton_resident_op import Resident

EPS = 1e-6
HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32


def _forward(channels: int, size: int, groups: int, dtype: torch.dtype) -> None:
    x, weight = _inputs(channels, size, dtype)
    run(Forward(x, weight, weight, groups, EPS))


def _shifted(channels: int, size: int, groups: int, dtype: torch.dtype) -> None:
    x, weight = _inputs(channels, size, dtype)
    run(Shifted(x, weight, weight, weight, None, groups, EPS))


def _resident(channels: int, size: int, groups: int, dtype: torch.dtype) -> None:
    x, weight = _inputs(channels, size, dtype)
    run(Resident(x, weight, weight, groups, EPS))


def _backward(channels: int, size: int, groups: int, dtype: torch.dtype) -> None:
    x, weight = _inputs(channels, size, dtype)
    statistics = torch.empty((2, groups, 2), device="meta")
    for beside in (None, x):
        run(Backward(x, x, weight, weight, statistics, EPS, beside))


def _inputs(channels: int, size: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.empty((2, channels, size, size), dtype=dtype, device="meta")
    return x.contiguous(memory_format=torch.channels_last), torch.empty(channels, device="meta")


def _cases(
    name: str, way: Callable[..., None], shapes: list[tuple[int, int, int, torch.dtype]]
) -> dict[str, Callable[[], None]]:
    return {
        f"{name} {c}@{size} {str(dtype)[6:]}": partial(way, c, size, g, dtype) for c, size, g, dtype in shapes
    }


CASES = {
    **_cases(
        "forward",
        _forward,
        [
            (512, 7, 32, HALF),
            (512, 14, 32, HALF),
            (64, 20, 8, HALF),
            (256, 28, 32, HALF),
            (256, 56, 32, HALF),
            (128, 112, 32, HALF),
            (128, 112, 32, BRAIN),
            (128, 112, 32, FULL),
            (48, 40, 8, HALF),
        ],
    ),
    **_cases(
        "shifted",
        _shifted,
        [
            (512, 14, 32, HALF),
            (256, 28, 32, HALF),
            (256, 56, 32, HALF),
            (128, 112, 32, HALF),
            (128, 112, 32, BRAIN),
            (48, 40, 8, FULL),
        ],
    ),
    **_cases(
        "resident",
        _resident,
        [
            (512, 7, 32, HALF),
            (512, 14, 32, HALF),
            (256, 14, 32, HALF),
            (256, 28, 32, HALF),
            (256, 28, 32, BRAIN),
            (256, 56, 32, HALF),
            (128, 56, 32, HALF),
            (128, 112, 32, FULL),
            (48, 40, 8, HALF),
        ],
    ),
    **_cases(
        "backward",
        _backward,
        [
            (512, 14, 32, BRAIN),
            (256, 56, 32, BRAIN),
            (128, 112, 32, BRAIN),
            (128, 112, 32, FULL),
            (48, 40, 8, HALF),
        ],
    ),
}


def _frozen(sizes: dict[str, int], dtype: torch.dtype) -> None:
    weight = torch.empty(sizes["C"], dtype=dtype, device="meta")
    run(Forward(image(sizes["C"], sizes["HW"], dtype), weight, weight, GROUPS, EPS))


def _training(sizes: dict[str, int], dtype: torch.dtype) -> None:
    for launched in (_forward, _backward):
        launched(sizes["C"], sizes["HW"], GROUPS, dtype)


BY_SHAPE = {"group_norm_silu": (_frozen, _training)}
