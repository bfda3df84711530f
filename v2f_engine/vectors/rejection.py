"""Keeping identities apart: greedy rejection in order."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from v2f_engine.backends import function
from v2f_engine.config import between
from v2f_engine.vectors.gate import check_vectors


def reject_similar(vectors: ArrayLike, max_cosine: float = 0.3, backend: str = "auto") -> NDArray[np.int64]:
    """Indices of the identities kept: greedy in order, each unlike every one kept before it.

    Args:
        vectors: `[N, 512]` float, checked as `gate.check_vectors` does, except that repeated rows are allowed
            (the later one is rejected).
        max_cosine: keep a row if its cosine with every kept earlier row is below this.
        backend: `"auto"`, `"reference"`, `"native"` or `"cupy"`: speed only, never the answer.

    Returns:
        int64 `[A]`, ascending.

    Raises:
        VectorError: bad rows, with their numbers.
        ConfigError: max_cosine outside [-1, 1].
    """
    between("max_cosine", max_cosine, -1, 1)
    rows = check_vectors(vectors, allow_duplicates=True, dimension=None)
    kept: NDArray[np.int64] = function("reject_similar", backend)(rows, float(max_cosine))
    return kept
