"""`reject_similar` in NumPy: a float32 BLAS screen, float64 where it leaves doubt, candidates in order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_kernels._rows import BAND, Float32, Float64, Int64, as_rows, blocks, check, decide, lengths, unit
from v2f_kernels.reject_similar.kept import Kept
from v2f_kernels.reject_similar.progress import Progress, silent

Block = tuple[Float32, Float64]

BLOCK = 1024
KEPT_BLOCK = 2048
"""Kept rows per product: 1,024 x 2,048 float32 cosines are 8 MiB."""


def reject_similar(
    vectors: Any, max_cosine: float, *, kept: Kept | None = None, block: int | None = None
) -> Int64:
    """Indices of the kept rows; the contract is in this folder's `__init__.py`."""
    rows = as_rows("vectors", vectors)
    check(max_cosine, block)
    store = Kept(rows.shape[1]) if kept is None else kept
    store.check(rows.shape[1])
    accepted = []
    for first, candidates in blocks(rows, block or BLOCK):
        norms = lengths("vectors", candidates, first)
        units = unit(candidates, norms)
        earlier = ((others, n) for _, others, n in store.blocks(KEPT_BLOCK))
        alive = _unlike(candidates, units, norms, max_cosine, earlier)
        alive = alive[_greedy(candidates[alive], units[alive], norms[alive], max_cosine)]
        store.append(candidates[alive], norms[alive])
        accepted.append(first + alive)
    return np.concatenate(accepted) if accepted else np.empty(0, np.int64)


def similar_to_earlier(
    vectors: Any, max_cosine: float, *, block: int | None = None, progress: Progress = silent
) -> NDArray[np.bool_]:
    """bool `[N]`: similar to an earlier row, kept or not; the contract is in `__init__.py`."""
    rows = as_rows("vectors", vectors)
    check(max_cosine, block)
    norms = lengths("vectors", rows)
    similar = np.zeros(len(rows), bool)
    for first, candidates in blocks(rows, block or BLOCK):
        own = norms[first : first + len(candidates)]
        units = unit(candidates, own)
        above = blocks(rows[:first], KEPT_BLOCK)
        earlier = ((others, norms[a : a + len(others)]) for a, others in above)
        alive = _unlike(candidates, units, own, max_cosine, earlier)
        among = _similar(units @ candidates.T, candidates, candidates, own, own, max_cosine)
        similar[first : first + len(candidates)] = np.tril(among, -1).any(axis=1)
        similar[first + np.setdiff1d(np.arange(len(candidates)), alive)] = True
        progress(first + len(candidates), len(rows), first + len(candidates) - int(similar.sum()))
    return similar


def _similar(
    screen: Float32, x: Float32, y: Float32, nx: Float64, ny: Float64, max_cosine: float
) -> NDArray[np.bool_]:
    """bool `[X, Y]`: cosine(x, y) >= max_cosine. `screen` is unit(x) @ y.T, wrong by less than BAND * ny."""
    similar = screen >= ((max_cosine + BAND) * ny).astype(np.float32)
    i, j = np.nonzero((screen >= ((max_cosine - BAND) * ny).astype(np.float32)) & ~similar)
    similar[i, j] = decide(x, y, nx, ny, i, j) >= max_cosine
    return similar


def _unlike(
    rows: Float32, units: Float32, norms: Float64, max_cosine: float, earlier: Iterable[Block]
) -> Int64:
    """Indices of the candidates that are similar to none of the earlier rows, blocks with their lengths."""
    alive = np.arange(len(rows))
    for others, lengths_of_others in earlier:
        if not alive.size:
            break
        screen = units[alive] @ others.T
        possible = (screen >= ((max_cosine - BAND) * lengths_of_others).astype(np.float32)).any(axis=1)
        some = np.flatnonzero(possible)
        if some.size:
            who = alive[some]
            similar = _similar(screen[some], rows[who], others, norms[who], lengths_of_others, max_cosine)
            alive = np.delete(alive, some[similar.any(axis=1)])
    return alive


def _greedy(rows: Float32, units: Float32, norms: Float64, max_cosine: float) -> Int64:
    """Indices kept among the candidates of one block, in order."""
    similar = np.triu(_similar(units @ rows.T, rows, rows, norms, norms, max_cosine), 1)
    alive = np.ones(len(rows), bool)
    for i in np.flatnonzero(similar.any(axis=1)):
        if alive[i]:
            alive &= ~similar[i]
    return np.flatnonzero(alive)
