"""`nearest_cosine` in NumPy: a float32 BLAS screen keeps every row that may be best, float64 picks one."""

from __future__ import annotations

from typing import Any

import numpy as np

from v2f_kernels._rows import (
    BAND,
    Float32,
    Float64,
    Int64,
    as_rows,
    blocks,
    check_gallery,
    decide,
    lengths,
    unit,
)

QUERIES, BLOCK = 1024, 2048


def nearest_cosine(queries: Any, gallery: Any, *, block: int | None = None) -> tuple[Float64, Int64]:
    """Largest cosine of each query and its gallery row; the contract is in this folder's `__init__.py`."""
    x, y = as_rows("queries", queries), as_rows("gallery", gallery)
    check_gallery(x, y, block)
    nx = lengths("queries", x)
    units = unit(x, nx)
    cosine, index = np.full(len(x), -np.inf), np.zeros(len(x), np.int64)
    for first, others in blocks(y, block or BLOCK):
        ny = lengths("gallery", others, first)
        for start in range(0, len(x), QUERIES):
            part = slice(start, start + QUERIES)
            best, where = _best(x[part], units[part], nx[part], others, ny, cosine[part])
            better = (
                best > cosine[part]
            )  # an equal cosine further down the gallery does not replace the first
            cosine[part][better] = best[better]
            index[part][better] = first + where[better]
    return cosine, index


def _best(
    x: Float32, units: Float32, nx: Float64, y: Float32, ny: Float64, so_far: Float64
) -> tuple[Float64, Int64]:
    """Best cosine `[Q]` and its row in one gallery block; -inf where no row can reach `so_far`."""
    screen = (units @ y.T) * (1.0 / ny).astype(np.float32)
    top = screen.max(axis=1)
    cosine, index = np.full(len(x), -np.inf), np.zeros(len(x), np.int64)
    rows = np.flatnonzero(top >= so_far - BAND)
    # A row further than 2 * BAND below the screened maximum is below it in float64 as well.
    floor = np.maximum(top[rows] - 2 * BAND, so_far[rows] - BAND)
    i, j = np.nonzero(screen[rows] >= floor[:, None])
    exact = decide(x, y, nx, ny, rows[i], j)
    order = np.lexsort((j, -exact, i))
    i, j, exact = i[order], j[order], exact[order]
    first = np.flatnonzero(np.diff(i, prepend=-1))
    cosine[rows[i[first]]], index[rows[i[first]]] = exact[first], j[first]
    return cosine, index
