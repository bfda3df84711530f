"""`perturb` for NumPy arrays and torch tensors: the same additions in the same order for both."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from v2f_kernels import _cosine
from v2f_kernels._cosine import Float32, Float64
from v2f_kernels.philox.reference import draw

STEP = 256
"""Rows at a time: float64 temporaries of 256 rows (1 MiB) stay in the cache, 4 times as fast as 50,000."""


def perturb(vectors: Any, sigma: Any, noise: Any) -> Any:
    """float32 `[B, D]`; the contract is in this folder's `__init__.py`."""
    shape = tuple(vectors.shape)
    fits = len(shape) == 2 and tuple(sigma.shape) == shape[:1] and tuple(noise.shape) == shape
    dtypes = {str(array.dtype).removeprefix("torch.") for array in (vectors, sigma, noise)}
    if not fits or dtypes != {"float32"}:
        raise ValueError(
            f"perturb expects float32 vectors [B, D], sigma [B], noise [B, D]; found {sorted(dtypes)} "
            f"{list(shape)}, {list(sigma.shape)}, {list(noise.shape)}"
        )
    moved = vectors + sigma[:, None] * noise
    ratio = (_squared_length(vectors) / _squared_length(moved)) ** 0.5
    ratio = ratio.astype(np.float32) if isinstance(ratio, np.ndarray) else ratio.float()
    return moved * ratio[:, None]


def perturb_drawn(
    vectors: Any, sigma: Any, seed: int, purpose: int, identity: ArrayLike, image: ArrayLike
) -> Any:
    """`perturb` with noise drawn here."""
    noise = draw("normal", seed, purpose, identity, image, vectors.shape[1])
    if isinstance(vectors, np.ndarray):
        return perturb(vectors, sigma, noise)
    import torch

    return perturb(vectors, sigma, torch.from_numpy(noise).to(vectors.device))


def perturb_measured(
    vectors: Float32, sigma: Float32, seed: int, purpose: int, identity: ArrayLike, image: ArrayLike
) -> tuple[Float32, Float64]:
    """(y float32 `[B, D]`, cosine float64 `[B]`)."""
    people, pictures = np.broadcast_arrays(np.atleast_1d(np.asarray(identity)), np.asarray(image))
    y, cosine = np.empty_like(vectors), np.empty(len(vectors), np.float64)
    for start in range(0, len(vectors), STEP):
        part = slice(start, start + STEP)
        with np.errstate(invalid="ignore"):
            y[part] = perturb_drawn(vectors[part], sigma[part], seed, purpose, people[part], pictures[part])
            cosine[part] = _cosine.cosine(vectors[part], y[part])
    return y, cosine


def _squared_length(x: Any) -> Any:
    """float64 `[B]`, by halving as in `v2f_kernels._cosine`."""
    total = x.astype(np.float64) if isinstance(x, np.ndarray) else x.double()
    total = total * total
    while (width := total.shape[1]) > 1:
        half = 1 << ((width - 1).bit_length() - 1)
        folded = total[:, : width - half] + total[:, half:]
        total = folded if width == 2 * half else _join(folded, total[:, width - half : half])
    return total[:, 0]


def _join(left: Any, right: Any) -> Any:
    if isinstance(left, np.ndarray):
        return np.concatenate([left, right], axis=1)
    import torch

    return torch.cat([left, right], dim=1)
