"""The cosine that decides: one definition, bit for bit, for all of `reject_similar` and `nearest_cosine`.

    cosine(x, y) = dot(x, y) / (sqrt(dot(x, x)) * sqrt(dot(y, y)))        float64, in this order

`dot` multiplies float32 entries in float64 (exact: 24 + 24 bits fit in 53) and adds them by **halving**: pad
with zeros to the next power of two n, then `s = s[:n/2] + s[n/2:]` until one number is left. Elementwise
additions only, so the value depends neither on block size nor on vector width, library or device, and it is
symmetric in x and y. A fast path (BLAS, int8, tensor cores) may skip this for a pair only when its own error
bound proves that the outcome of the comparison is the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


def dot(x: Float32, y: Float32) -> Float64:
    """Row-wise dot product. x, y: float32 `[..., D]`, broadcast; returns float64 `[...]`."""
    products = x.astype(np.float64) * y.astype(np.float64)
    width = 1 << max(products.shape[-1] - 1, 0).bit_length()
    if width != products.shape[-1]:
        pad = [(0, 0)] * (products.ndim - 1) + [(0, width - products.shape[-1])]
        products = np.pad(products, pad)
    while width > 1:
        width //= 2
        products = products[..., :width] + products[..., width : 2 * width]
    return np.asarray(products[..., 0])


def norm(x: Float32) -> Float64:
    """Euclidean length of each row. x: float32 `[..., D]`; returns float64 `[...]`."""
    return np.asarray(np.sqrt(dot(x, x)))


def cosine(x: Float32, y: Float32) -> Float64:
    """Row-wise cosine. x, y: float32 `[..., D]` without zero rows; returns float64 `[...]`."""
    return np.asarray(dot(x, y) / (norm(x) * norm(y)))
