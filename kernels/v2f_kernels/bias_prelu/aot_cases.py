"""Launches under the compile gate: a recogniser's stem and blocks, and channels that fill no byte."""

from __future__ import annotations

from functools import partial

import torch

from v2f_kernels._triton.register import run
from v2f_kernels._triton.table_cases import image
from v2f_kernels.bias_prelu.triton_op import Backward, Forward

F16, BF16, F32 = torch.float16, torch.bfloat16, torch.float32


def _constants(channels: int, edges: bool) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (4, 4, channels) if edges else (channels,)
    return torch.empty(shape, device="meta"), torch.empty(channels, device="meta")


def _forward(channels: int, side: int, dtype: torch.dtype, edges: bool, keep: bool) -> None:
    run(Forward(image(channels, side, dtype), *_constants(channels, edges), keep))


def _backward(channels: int, side: int, dtype: torch.dtype) -> None:
    bits = torch.empty((2 * side * side, -(-channels // 8)), dtype=torch.uint8, device="meta")
    run(Backward(image(channels, side, dtype), bits, _constants(channels, False)[1]))


CASES = {
    "forward stem 64@112 bfloat16": partial(_forward, 64, 112, BF16, False, True),
    "forward stem 64@112 bfloat16, nothing kept": partial(_forward, 64, 112, BF16, False, False),
    "forward 64@112 bfloat16": partial(_forward, 64, 112, BF16, True, True),
    "forward 128@28 bfloat16": partial(_forward, 128, 28, BF16, True, True),
    "forward 256@14 bfloat16": partial(_forward, 256, 14, BF16, True, True),
    "forward 256@14 bfloat16, nothing kept": partial(_forward, 256, 14, BF16, True, False),
    "forward 512@7 bfloat16": partial(_forward, 512, 7, BF16, True, True),
    "forward 256@14 float32": partial(_forward, 256, 14, F32, True, True),
    "forward 52@14 float16": partial(_forward, 52, 14, F16, True, True),
    "backward 64@112 bfloat16": partial(_backward, 64, 112, BF16),
    "backward 128@28 bfloat16": partial(_backward, 128, 28, BF16),
    "backward 256@14 bfloat16": partial(_backward, 256, 14, BF16),
    "backward 512@7 bfloat16": partial(_backward, 512, 7, BF16),
    "backward 256@14 float32": partial(_backward, 256, 14, F32),
    "backward 52@14 float16": partial(_backward, 52, 14, F16),
}


def _frozen(sizes: dict[str, int], dtype: torch.dtype) -> None:
    for edges in (False, True):
        _forward(sizes["C"], sizes["HW"], dtype, edges, False)


def _training(sizes: dict[str, int], dtype: torch.dtype) -> None:
    for edges in (False, True):
        _forward(sizes["C"], sizes["HW"], dtype, edges, True)
    _backward(sizes["C"], sizes["HW"], dtype)


BY_SHAPE = {"bias_prelu": (_frozen, _training)}
