"""How long it takes to find each identity's nearest other one: measured on vectors of the source, before it is done.

`nearest.nearest_other` halves a table until `LEAF` rows are left. What a small table takes grows as its rows do, since
a million rows are so many small tables; above those all goes through the op, N^2 products in all, at the rate that it
has against more vectors than a core's cache holds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from v2f_engine.backends import function
from v2f_engine.vectors.nearest import nearest_other
from v2f_engine.vectors.pilot import Clock
from v2f_engine.vectors.sources import VectorSource

Float32 = NDArray[np.float32]

SMALL = 2048
"""Rows of the table that is searched whole: a quarter of a second of one core."""
QUERIES, GALLERY = 4096, 65_536
"""Rows of either side whose products are timed: 2.7e8, against 32 MiB of int8; 1 to 4 s of one core. Against 4,096
rows, which a cache holds, the rate was a fifth lower: a block's first rows are the dear ones."""


@dataclass(frozen=True)
class NearestPlan:
    """Prediction for `nearest_other` of a table.

    Args:
        identities: N.
        seconds: expected.
        products: of vectors, in either direction: N^2.
        products_per_second: of this machine and backend, large blocks.
        memory: bytes beyond the vectors: both halves' block of codes, and a cosine, a key and a hash of each row.
        disk: bytes of `perturbation.safetensors`, which keeps the answer.
    """

    identities: int
    seconds: float
    products: float
    products_per_second: float
    memory: int
    disk: int


def rows_for(identities: int, source: VectorSource, seed: int) -> Float32:
    """Candidates of a source, enough to time a table of that many on; as many as it has where it is small."""
    return source.candidates(seed, 0, min(max(2, identities), QUERIES + GALLERY))


def plan_nearest(
    identities: int, rows: Float32, *, backend: str = "auto", clock: Clock = time.perf_counter
) -> NearestPlan:
    """Predicts the search of a table.

    Args:
        identities: N, at least 1.
        rows: float32 `[R, D]`, no row twice, R >= min(N, 2); vectors as the table's are: itself, or `rows_for`.
        backend: of `nearest_cosine`.
        clock: tells the seconds.
    """
    small, halvings = identities, 0
    while small > SMALL:
        small, halvings = -(-small // 2), halvings + 1
    small = min(small, len(rows))
    nearest_other(rows[:64], backend)  # the op's first call reads its tables
    started = clock()
    nearest_other(rows[:small], backend)
    whole = max(1e-9, clock() - started)
    seconds, rate = whole * identities / small, small * small / whole
    if halvings:
        queries = rows[: min(QUERIES, len(rows) // 2)]
        gallery = rows[len(queries) :][:GALLERY]
        nearest = function("nearest_cosine", backend)
        started = clock()
        nearest(queries[:1], gallery)
        once = clock() - started
        started = clock()
        nearest(queries, gallery)
        rate = len(queries) * len(gallery) / max(1e-9, clock() - started - once)
        seconds += halvings * identities * once / len(gallery)
        seconds += float(identities) ** 2 * (1 - 2.0**-halvings) / rate
    row = rows.shape[1] + 24
    return NearestPlan(
        identities, seconds, float(identities) ** 2, rate, identities * 24 + GALLERY * row, identities * 24
    )
