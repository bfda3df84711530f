"""The published measure of how far apart identities are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from v2f_engine.backends import function
from v2f_engine.config import at_least, between
from v2f_engine.vectors.gate import check_vectors

PUBLISHED_THRESHOLD = 0.40
"""Of the published measure, with ArcFace-R100 trained on Glint360K as the judge."""


@dataclass(frozen=True)
class SeparabilityCurve:
    """Unique identities among the first N.

    Args:
        first: int64 `[K]`, prefix lengths N.
        unique: int64 `[K]`, identities of that prefix without an earlier one above the threshold.
        threshold: a cosine strictly above this makes a later identity a repeat.
        repeated: bool `[N]`, the rows that are not unique.
    """

    first: NDArray[np.int64]
    unique: NDArray[np.int64]
    threshold: float
    repeated: NDArray[np.bool_]

    @property
    def share(self) -> float:
        """Unique share of the whole table."""
        return float(self.unique[-1] / self.first[-1])


def separability_curve(
    vectors: ArrayLike,
    *,
    threshold: float = PUBLISHED_THRESHOLD,
    step: int = 1000,
    backend: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> SeparabilityCurve:
    """The published measure of identity separability, in blocks instead of one N x N matrix.

    An identity is unique if its cosine with no earlier identity, unique or not, is above `threshold`.
    200,000 identities take tens of MB beside the table, which may be a memory map.

    Args:
        vectors: `[N, D]` mean (or sampled) features of the identities, in order.
        threshold: 0.40 in the publication, with ArcFace-R100 trained on Glint360K as the judge.
        step: prefix lengths are multiples of this, and N.
        backend: speed only.
        progress: called as progress(pairs looked at, pairs in all) after each block.

    Raises:
        VectorError: bad rows. ConfigError: threshold outside [-1, 1) or step below 1.
    """
    between("threshold", threshold, -1, 1)
    at_least("step", step, 1)
    rows = check_vectors(vectors, allow_duplicates=True, dimension=None)
    above = min(math.nextafter(threshold, 2), 1.0)  # the op counts cosines of max_cosine or more

    def seen(done: int, total: int, unique: int) -> None:
        if progress is not None:
            progress(done * (done - 1) // 2, total * (total - 1) // 2)

    repeated: NDArray[np.bool_] = function("similar_to_earlier", backend)(rows, above, progress=seen)
    first = np.unique(np.append(np.arange(step, len(rows), step), len(rows)))
    unique = np.cumsum(~repeated)[first - 1]
    return SeparabilityCurve(first, unique, threshold, repeated)
