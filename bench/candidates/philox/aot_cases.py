"""Launches under the compile gate: the three kinds of numbers."""

from __future__ import annotations

from functools import partial

import torch

from bench.candidates.philox import triton_op as gpu


def _draw(kind: str) -> None:
    place = torch.empty(8, dtype=torch.uint32, device="meta")
    out = torch.empty((8, 512), dtype=gpu.DTYPES[kind], device="meta")
    gpu.launch_draw(kind, 2**63 + 1, 3, place, place, out)


CASES = {kind: partial(_draw, kind) for kind in gpu.DTYPES}
BY_SHAPE: dict[str, object] = {}  # no table chooses a backend for it
