"""`perturb` of NumPy arrays by the compiled extension: the same bits as `reference`; it leaves the GIL."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from v2f_kernels._native import EXTENSION
from v2f_kernels._rows import Float32
from v2f_kernels.philox.native import places
from v2f_kernels.philox.reference import check_integer


def perturb(vectors: Float32, sigma: Float32, noise: Float32) -> Float32:
    """float32 `[B, D]`; the contract is in this folder's `__init__.py`. NumPy arrays only."""
    _check(vectors, sigma)
    if noise.shape != vectors.shape or noise.dtype != np.float32:
        raise ValueError(
            f"perturb expects noise float32 {list(vectors.shape)}, found {noise.dtype} {list(noise.shape)}"
        )
    x, levels, drawn = (np.ascontiguousarray(part) for part in (vectors, sigma, noise))
    y = np.empty_like(x)
    EXTENSION.perturb(x, levels, drawn, y)
    return y


def perturb_drawn(
    vectors: Float32, sigma: Float32, seed: int, purpose: int, identity: ArrayLike, image: ArrayLike
) -> Float32:
    """`perturb` with noise drawn row by row, which never leaves the cache."""
    _check(vectors, sigma)
    people, pictures = places(identity, image)
    if len(people) != len(vectors):
        raise ValueError(f"perturb_drawn expects {len(vectors)} places, one a row, found {len(people)}")
    x, levels = np.ascontiguousarray(vectors), np.ascontiguousarray(sigma)
    y = np.empty_like(x)
    key, use = check_integer("seed", seed, 64), check_integer("purpose", purpose, 32)
    EXTENSION.perturb_drawn(x, levels, key, use, people, pictures, y)
    return y


def _check(vectors: Float32, sigma: Float32) -> None:
    fits = vectors.ndim == 2 and vectors.shape[1] > 0 and sigma.shape == vectors.shape[:1]
    if not fits or vectors.dtype != np.float32 or sigma.dtype != np.float32:
        raise ValueError(
            f"perturb expects float32 vectors [B, D] and sigma [B]; found {vectors.dtype} {list(vectors.shape)}, "
            f"{sigma.dtype} {list(sigma.shape)}"
        )
