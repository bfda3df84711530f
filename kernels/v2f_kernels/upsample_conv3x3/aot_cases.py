"""Launches under the compile gate: the base decoder's four upsamplings and an odd one."""

from __future__ import annotations

from functools import partial

import torch

from v2f_kernels._triton.register import run
from v2f_kernels._triton.table_cases import image
from v2f_kernels.upsample_conv3x3.triton_op import Upsample

HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32


def _upsample(channels: int, size: int, dtype: torch.dtype, out_groups: int) -> None:
    x = torch.empty((2, channels, size, size), dtype=dtype, device="meta")
    folded = torch.empty((channels, channels, 4, 4), dtype=dtype, device="meta")
    x, folded = (t.contiguous(memory_format=torch.channels_last) for t in (x, folded))
    run(Upsample(x, folded, torch.empty(channels, device="meta"), out_groups))


CASES = {
    "128@56 float16": partial(_upsample, 128, 56, HALF, 32),
    "128@56 bfloat16 bare": partial(_upsample, 128, 56, BRAIN, 0),
    "128@56 float32": partial(_upsample, 128, 56, FULL, 32),
    "256@28 float16": partial(_upsample, 256, 28, HALF, 32),
    "256@14 float16": partial(_upsample, 256, 14, HALF, 32),
    "512@7 float16": partial(_upsample, 512, 7, HALF, 32),
    "48@20 float16": partial(_upsample, 48, 20, HALF, 8),
}


def _by_shape(sizes: dict[str, int], dtype: torch.dtype) -> None:
    channels = sizes["C"]
    folded = torch.empty((channels, channels, 4, 4), dtype=dtype, device="meta")
    run(
        Upsample(
            image(channels, sizes["HW"], dtype), folded, torch.empty(channels, dtype=dtype, device="meta"), 0
        )
    )


_BOTH = (_by_shape, _by_shape)  # its gradients are cuDNN's
BY_SHAPE = {"upsample_conv3x3": _BOTH, "upsample_conv3x3_folded": _BOTH}
