"""Vectors as int8 tiles on a device (layout: tiles.cuh): made from rows, or appended to row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from v2f_kernels._cuda.compile import CHUNK_BYTES
from v2f_kernels._cuda.launch import Argument, Launcher
from v2f_kernels._rows import LONGEST, MAX_DIMENSION, SHORTEST, as_rows

TILE = 128
WARPS = 8
"""Rows or tiles per block of the kernels that give a warp to each."""


def bound_scale() -> np.float32:
    """Multiplies every error bound of the screens; the proof needs 1. Tests replace this function."""
    return np.float32(1.0)


def tiles(rows: int) -> int:
    return -(-rows // TILE)


@dataclass
class Tiles:
    """Quantised rows on a device.

    Attributes:
        q: uint8, one 16 KiB chunk per 128 rows and 128 dimensions.
        scale, error: float32 `[capacity]`; norm: float64 `[capacity]`; bounds: float32 `[capacity / 128, 5]`.
        count: int32 `[1]`, rows in use.
        master: float32 `[*, D]`, the originals.
        rows: int64 `[capacity]`, row of `master` that each belongs to; None: the same number.
    """

    q: torch.Tensor
    scale: torch.Tensor
    error: torch.Tensor
    norm: torch.Tensor
    bounds: torch.Tensor
    count: torch.Tensor
    master: torch.Tensor
    rows: torch.Tensor | None = None

    @classmethod
    def reserve(
        cls, launch: Launcher, capacity: int, master: torch.Tensor, rows: torch.Tensor | None = None
    ) -> Tiles:
        """Room for `capacity` rows, rounded up to whole blocks; nothing in use."""
        n = tiles(-(-capacity // launch.shape.block) * launch.shape.block)
        where = launch.device
        return cls(
            torch.zeros(n * launch.shape.chunks * CHUNK_BYTES, dtype=torch.uint8, device=where),
            torch.ones(n * TILE, dtype=torch.float32, device=where),
            torch.zeros(n * TILE, dtype=torch.float32, device=where),
            torch.ones(n * TILE, dtype=torch.float64, device=where),
            torch.zeros(n, 5, dtype=torch.float32, device=where),
            torch.zeros(1, dtype=torch.int32, device=where),
            master,
            rows,
        )

    @property
    def capacity(self) -> int:
        return len(self.scale)

    @property
    def side(self) -> tuple[Argument, ...]:
        """The arguments V2F_SIDE of the kernels."""
        return (self.q, self.scale, self.error, self.norm, self.master, self.rows)

    def quantise(self, launch: Launcher, rows: torch.Tensor, first: int, bad: torch.Tensor) -> None:
        """Replaces the contents by these rows `[n, D]`, which also become the originals.

        Rows without direction are counted in bad[0], the first one's number (plus `first`) is bad[1].
        """
        n = len(rows)
        self.master = rows
        self.count.fill_(n)
        grid = -(-tiles(n) * TILE // WARPS)
        limits = np.float64(SHORTEST), np.float64(LONGEST)
        made = (self.q, self.scale, self.error, self.norm)
        launch("quantise", (grid, 1), 32 * WARPS, rows, np.int32(n), np.int64(first), *limits, *made, bad)
        self.bound(launch, tiles(n))

    def bound(self, launch: Launcher, n: int, start: torch.Tensor | None = None) -> None:
        """Renews the bounds of n tiles, from the one that row *start is in."""
        grid = (-(-n // WARPS), 1)
        launch("bound_tiles", grid, 32 * WARPS, self.scale, self.error, self.count, start, self.bounds)


def rows_of(what: str, vectors: Any) -> tuple[bool, torch.Tensor]:
    """(whether on a GPU, float32 rows `[N, D]` where they lie, without a copy).

    Raises:
        ValueError: another dtype or rank, or D outside 1..1024.
    """
    if not (isinstance(vectors, torch.Tensor) and vectors.is_cuda):
        return False, torch.as_tensor(as_rows(what, vectors))
    if vectors.dtype != torch.float32 or vectors.ndim != 2 or not 1 <= vectors.shape[1] <= MAX_DIMENSION:
        raise ValueError(
            f"{what} must be float32 [N, D] with D <= {MAX_DIMENSION}, found {vectors.dtype} {list(vectors.shape)}"
        )
    return True, vectors


def refuse_bad(what: str, bad: torch.Tensor) -> None:
    """Waits for the device.

    Raises:
        ValueError: `quantise` counted rows that are not finite, or shorter than 1e-6 or longer than 1e6.
    """
    n, first = (int(v) for v in bad.tolist())
    if n:
        raise ValueError(f"{what}: {n} rows have no usable direction; first: {first}")


def no_bad(device: torch.device) -> torch.Tensor:
    """int64 `[2]`: no bad row yet."""
    return torch.tensor([0, torch.iinfo(torch.int64).max], device=device)


def parts(launch: Launcher, n: int, n_tiles: int) -> int:
    """Into how many parts side b is cut so that all processors have a block; no part is empty."""
    blocks = -(-n // launch.shape.block)
    return max(1, min(n_tiles, launch.processors // blocks))
