"""`perturb_measured` of NumPy arrays by the compiled extension: the same bits as `reference`; it leaves the GIL."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from v2f_kernels._native import EXTENSION
from v2f_kernels._rows import Float32, Float64
from v2f_kernels.philox.native import places
from v2f_kernels.philox.reference import check_integer


def perturb_measured(
    vectors: Float32, sigma: Float32, seed: int, purpose: int, identity: ArrayLike, image: ArrayLike
) -> tuple[Float32, Float64]:
    """(y float32 `[B, D]`, cosine float64 `[B]`), row by row, so that nothing leaves the cache in between."""
    fits = vectors.ndim == 2 and vectors.shape[1] > 0 and sigma.shape == vectors.shape[:1]
    if not fits or vectors.dtype != np.float32 or sigma.dtype != np.float32:
        raise ValueError(
            f"perturb expects float32 vectors [B, D] and sigma [B]; found {vectors.dtype} {list(vectors.shape)}, "
            f"{sigma.dtype} {list(sigma.shape)}"
        )
    people, pictures = places(identity, image)
    if len(people) != len(vectors):
        raise ValueError(f"perturb expects {len(vectors)} places, one a row, found {len(people)}")
    x, levels = np.ascontiguousarray(vectors), np.ascontiguousarray(sigma)
    y, cosine = np.empty_like(x), np.empty(len(x), np.float64)
    key, use = check_integer("seed", seed, 64), check_integer("purpose", purpose, 32)
    EXTENSION.perturb_drawn(x, levels, key, use, people, pictures, y, cosine)
    return y, cosine
