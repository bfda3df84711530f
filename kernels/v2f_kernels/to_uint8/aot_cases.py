"""Launches under the compile gate: the base decoder's tail in every dtype and an odd one."""

from __future__ import annotations

from functools import partial

import torch

from v2f_kernels._triton.register import run
from v2f_kernels._triton.table_cases import GROUPS, image
from v2f_kernels.to_uint8.triton_op import Tail


def _tail(channels: int, size: int, dtype: torch.dtype) -> None:
    x = torch.empty((2, channels, size, size), dtype=dtype, device="meta")
    x = x.contiguous(memory_format=torch.channels_last)
    weight, conv_bias = torch.empty(channels, device="meta"), torch.empty(3, device="meta")
    statistics = torch.empty((2, 8, 2), device="meta")
    conv_weight = torch.empty((3, channels, 3, 3), dtype=dtype, device="meta")
    run(Tail(x, weight, weight, statistics, 1e-6, conv_weight, conv_bias))


CASES = {
    "128@112 float16": partial(_tail, 128, 112, torch.float16),
    "128@112 bfloat16": partial(_tail, 128, 112, torch.bfloat16),
    "128@112 float32": partial(_tail, 128, 112, torch.float32),
    "48@112 float16": partial(_tail, 48, 112, torch.float16),
}


def _by_shape(sizes: dict[str, int], dtype: torch.dtype) -> None:
    channels = sizes["C"]
    norm, conv_bias = (torch.empty(n, dtype=dtype, device="meta") for n in (channels, 3))
    conv_weight = torch.empty((3, channels, 3, 3), dtype=dtype, device="meta")
    statistics = torch.empty((2, GROUPS, 2), device="meta")
    run(Tail(image(channels, sizes["HW"], dtype), norm, norm, statistics, 1e-6, conv_weight, conv_bias))


BY_SHAPE = {"to_uint8": (_by_shape, _by_shape)}  # it has no gradients
