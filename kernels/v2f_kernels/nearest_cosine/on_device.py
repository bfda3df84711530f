"""`nearest_cosine` on an NVIDIA GPU: int8 tensor cores find what may be best, exact cosines pick one.

Differences from the contract: `queries` and `gallery` may also be CUDA tensors; with CUDA queries the
answer is a pair of CUDA tensors. `device`: by default where the queries are, else the current CUDA device.
Kernels: nearest.cu.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from v2f_kernels._cuda import tiles as tiles_module
from v2f_kernels._cuda.launch import CupyLauncher, Launcher
from v2f_kernels._cuda.tiles import Tiles, no_bad, parts, refuse_bad, rows_of, tiles
from v2f_kernels._rows import Float64, Int64, check_gallery

SOURCE = Path(__file__).parent / "nearest.cu"
QUERIES = 65536
BLOCK = 262144
"""Gallery rows at a time: 128 MiB of int8 at 512-d."""
NOTHING_YET = 0x3FFFFFFF
"""The kernels' `ordered(-2.0f)`: below every cosine."""


def launcher(device: torch.device, dimension: int) -> Launcher:
    """Tests replace this by one that runs the same kernels on the CPU."""
    return CupyLauncher.on(device, SOURCE, dimension, frozenset({"nearest"}))


def nearest_cosine(
    queries: Any, gallery: Any, *, block: int | None = None, device: str | torch.device | None = None
) -> tuple[Float64, Int64] | tuple[torch.Tensor, torch.Tensor]:
    """Largest cosine of each query and its gallery row; the contract is in this folder's `__init__.py`."""
    (on_gpu, x), (_, y) = rows_of("queries", queries), rows_of("gallery", gallery)
    check_gallery(x, y, block)
    launch = launcher(torch.device(device or (x.device if on_gpu else "cuda")), x.shape[1])
    where, size, few = launch.device, min(block or BLOCK, len(y)), min(QUERIES, max(len(x), 1))
    side_a, side_b = Tiles.reserve(launch, few, x), Tiles.reserve(launch, size, y)
    bad_x, bad_y = no_bad(where), no_bad(where)
    floors = torch.full((len(x),), NOTHING_YET, dtype=torch.int32, device=where)
    cosine = torch.full((len(x),), -torch.inf, dtype=torch.float64, device=where)
    index = torch.full((len(x),), -1, dtype=torch.int64, device=where)
    lock = torch.zeros(len(x), dtype=torch.int32, device=where)
    scale = tiles_module.bound_scale()
    for first in range(0, len(y), size):
        others = y[first : first + size].to(where).contiguous()
        side_b.quantise(launch, others, first, bad_y)
        for start in range(0, len(x), few):
            some = slice(start, min(len(x), start + few))
            side_a.quantise(launch, x[some].to(where).contiguous(), start, bad_x)
            n = some.stop - some.start
            grid = (-(-n // launch.shape.block), parts(launch, n, tiles(len(others))))
            compared = (*side_b.side, side_b.count, side_b.bounds, scale, np.int64(first))
            found = (floors[some], cosine[some], index[some], lock[some])
            launch("nearest", grid, launch.shape.threads, *side_a.side, np.int32(n), *compared, *found)
    if not len(x):
        return (cosine, index) if on_gpu else (cosine.cpu().numpy(), index.cpu().numpy())
    refuse_bad("queries", bad_x)
    refuse_bad("gallery", bad_y)
    return (cosine, index) if on_gpu else (cosine.cpu().numpy(), index.cpu().numpy())
