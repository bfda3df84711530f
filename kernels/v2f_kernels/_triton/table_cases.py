"""Launches under the compile gate of every entry of a device's table that a Triton kernel serves.

An entry `C=128 HW=56, fp16` of `tuned/<device>.json` is launched on meta tensors as a frozen network does it; one with
`gradients`, forward and backward as training does. What is compiled already for a case of the op's own `aot_cases` is
found to be the same kernel and listed once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from v2f_kernels import _tuned
from v2f_kernels._shapes import ANY, parse_shape

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
GROUPS = 32
"""Of the network's norms."""


def table_cases(
    cases: Any, known: Mapping[str, _tuned.Table] | None = None
) -> dict[str, Callable[[], object]]:
    """Label -> launch, of every entry that uses Triton for an op of this folder.

    Args:
        cases: an op's module `aot_cases`. Its `BY_SHAPE` maps an op, of which a folder may hold two, to what is
            launched for a shape class and dtype: without gradients, and with them.
        known: device -> table; the committed ones by default.
    """
    found: dict[str, Callable[[], object]] = {}
    for device, table in (_tuned.tables() if known is None else known).items():
        for op, picks in table.backends.items():
            if op not in cases.BY_SHAPE:
                continue
            for key, pick in picks.items():
                shape, *rest = key.split(", ")
                if pick.use == "triton" and shape != ANY:
                    forward, training = cases.BY_SHAPE[op]
                    way = training if rest[1:] else forward
                    call = partial(way, parse_shape(op, shape), DTYPES[rest[0]])
                    found[f"table of {device}: {op} {key}"] = call
    return found


def image(channels: int, side: int, dtype: torch.dtype) -> torch.Tensor:
    """Two images without memory, channels-last."""
    x = torch.empty((2, channels, side, side), dtype=dtype, device="meta")
    return x.contiguous(memory_format=torch.channels_last)
