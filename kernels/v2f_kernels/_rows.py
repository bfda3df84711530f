"""Rows of vectors, checked and cut into blocks: shared by `reject_similar` and `nearest_cosine`.

Both screen pairs by a float32 matrix product and decide the doubtful ones by `_cosine`. The bound behind
BAND: with u a candidate scaled to unit length in float32 and y a raw row, any order of summation gives
|fl(u . y) - u . y| <= g |u| |y| with g = D * 2**-24 / (1 - D * 2**-24), 6.1e-5 at D = 1024 and 3.1e-5 at
D = 512 (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1); scaling u and rounding
the threshold add less than 4e-7. So a screened value further than 1e-4 |y| from t |y| decides the pair.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_kernels import _cosine

BAND = 1e-4
MAX_DIMENSION = 1024
SHORTEST, LONGEST = 1e-6, 1e6
PAIRS = 4096
"""Pairs decided per step: float64 products of 4,096 pairs in 512-d are 16 MiB."""

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


def as_rows(what: str, vectors: Any) -> Float32:
    """`vectors` as a float32 `[N, D]` array without copying; a memory map stays one.

    Raises:
        ValueError: another dtype or rank, or D outside 1..1024.
    """
    rows = vectors if isinstance(vectors, np.ndarray) else np.asarray(vectors)
    if rows.dtype != np.float32 or rows.ndim != 2 or not 1 <= rows.shape[1] <= MAX_DIMENSION:
        raise ValueError(
            f"{what} must be float32 [N, D] with D <= {MAX_DIMENSION}, found {rows.dtype} {list(rows.shape)}"
        )
    return rows


def check(max_cosine: float, block: int | None) -> None:
    """The refusals of `reject_similar` that concern numbers.

    Raises:
        ValueError: a cosine outside [-1, 1], or a block below 1.
    """
    if not -1.0 <= max_cosine <= 1.0:
        raise ValueError(f"max_cosine must lie in [-1, 1], found {max_cosine!r}")
    check_block(block)


def check_block(block: int | None) -> None:
    """Raises ValueError for rows per step below 1; None leaves the number to the backend."""
    if block is not None and block < 1:
        raise ValueError(f"block must be at least 1, found {block}")


def check_gallery(queries: Any, gallery: Any, block: int | None) -> None:
    """The refusals of `nearest_cosine` that concern two checked sets of rows, arrays or tensors.

    Raises:
        ValueError: an empty gallery, another number of entries than the queries', or a block below 1.
    """
    if queries.shape[1] != gallery.shape[1] or not len(gallery):
        raise ValueError(
            f"gallery must be [G >= 1, {queries.shape[1]}] like the queries, found {list(gallery.shape)}"
        )
    check_block(block)


def refuse_undirected(what: str, norms: Float64, first: int) -> Float64:
    """The lengths `[N]` themselves. `first` is the number of row 0 in messages.

    Raises:
        ValueError: one that is not finite, below 1e-6 or above 1e6.
    """
    bad = np.flatnonzero(~((norms >= SHORTEST) & (norms <= LONGEST)))
    if bad.size:
        shown = ", ".join(f"{first + int(row)} (length {norms[row]:g})" for row in bad[:5])
        raise ValueError(f"{what}: {bad.size} rows have no usable direction; first: {shown}")
    return norms


def lengths(what: str, rows: Float32, first: int = 0) -> Float64:
    """float64 `[N]` lengths of checked rows. `first` is the number of row 0 in messages.

    Raises:
        ValueError: a row that is not finite, or shorter than 1e-6 or longer than 1e6.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.empty(len(rows), np.float64)
        for start in range(0, len(rows), PAIRS):
            norms[start : start + PAIRS] = _cosine.norm(rows[start : start + PAIRS])
    return refuse_undirected(what, norms, first)


def blocks(rows: Float32, size: int) -> Iterator[tuple[int, Float32]]:
    """(first row, rows `[<= size, D]`) from the first to the last, contiguous in memory."""
    for start in range(0, len(rows), size):
        yield start, np.ascontiguousarray(rows[start : start + size])


def unit(rows: Float32, norms: Float64) -> Float32:
    """Rows divided by their lengths, each quotient rounded to float32."""
    return np.asarray((rows / norms[:, None]).astype(np.float32))


def decide(x: Float32, y: Float32, nx: Float64, ny: Float64, i: Int64, j: Int64) -> Float64:
    """float64 `[P]`: the deciding cosine of the pairs (x[i], y[j]), with lengths nx, ny."""
    out = np.empty(len(i), np.float64)
    for start in range(0, len(i), PAIRS):
        a, b = i[start : start + PAIRS], j[start : start + PAIRS]
        out[start : start + PAIRS] = _cosine.dot(x[a], y[b]) / (nx[a] * ny[b])
    return out
