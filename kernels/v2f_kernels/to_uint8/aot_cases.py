"""Launches under the compile gate: the base decoder's tail in every dtype and an odd one."""

from __future__ import annotations

from functools import partial

import torch

from v2f_kernels.to_uint8 import triton_op as gpu


def _tail(channels: int, size: int, dtype: torch.dtype) -> None:
    x = torch.empty((2, channels, size, size), dtype=dtype, device="meta")
    x = x.contiguous(memory_format=torch.channels_last)
    weight, conv_bias = torch.empty(channels, device="meta"), torch.empty(3, device="meta")
    statistics = torch.empty((2, 8, 2), device="meta")
    conv_weight = torch.empty((3, channels, 3, 3), dtype=dtype, device="meta")
    gpu.run_tail(x, weight, weight, statistics, 1e-6, conv_weight, conv_bias)


CASES = {
    "128@112 float16": partial(_tail, 128, 112, torch.float16),
    "128@112 bfloat16": partial(_tail, 128, 112, torch.bfloat16),
    "128@112 float32": partial(_tail, 128, 112, torch.float32),
    "48@112 float16": partial(_tail, 48, 112, torch.float16),
}
