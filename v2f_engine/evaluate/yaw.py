"""A rough yaw of aligned faces, learnt from images of known yaw: enough to pick the near-frontal ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import VectorError

SIDE = 28
CELL = 112 // SIDE


def thumbnails(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey 28x28 means of cells, mean 0 and deviation 1 within each image, so exposure plays no part.

    Args:
        images: uint8 `[N, 112, 112, 3]`.

    Returns:
        float32 `[N, 784]`.
    """
    grey = images.mean(axis=3, dtype=np.float32)
    small = grey.reshape(len(images), SIDE, CELL, SIDE, CELL).mean(axis=(2, 4)).reshape(len(images), -1)
    small -= small.mean(axis=1, keepdims=True)
    return np.asarray(small / (small.std(axis=1, keepdims=True) + 1e-3), np.float32)


@dataclass(frozen=True)
class YawEstimator:
    """Ridge regression of yaw in degrees on thumbnails and fixed random rectified features of them.

    Args:
        projection: float32 `[784, K]`, random and fixed.
        weights: float64 `[784 + K + 1]`.
    """

    projection: NDArray[np.float32]
    weights: NDArray[np.float64]

    @classmethod
    def fit(
        cls, small: NDArray[np.float32], yaw: NDArray[np.float32], *, width: int = 1024, ridge: float = 30.0
    ) -> YawEstimator:
        """From `thumbnails` `[N, 784]` and their yaw in degrees `[N]`, left and right mirrored too.

        Raises:
            VectorError: yaw that is not finite or does not fit.
        """
        if yaw.shape != (len(small),) or not np.isfinite(yaw).all():
            raise VectorError(f"yaw must be {len(small)} finite degrees, found shape {list(yaw.shape)}.")
        generator = np.random.Generator(np.random.Philox(key=0))
        projection = generator.standard_normal((small.shape[1], width), np.float32) / np.sqrt(small.shape[1])
        mirrored = small.reshape(-1, SIDE, SIDE)[:, :, ::-1].reshape(small.shape)
        design = _design(np.concatenate([small, mirrored]), projection).astype(np.float64)
        gram = design.T @ design
        gram[np.diag_indices_from(gram)] += ridge
        target = np.concatenate([yaw, -yaw]).astype(np.float64)
        weights = np.asarray(np.linalg.solve(gram, design.T @ target), np.float64)
        return cls(projection.astype(np.float32), weights)

    def __call__(self, small: NDArray[np.float32]) -> NDArray[np.float32]:
        """Yaw in degrees, float32 `[N]`, of `thumbnails` `[N, 784]`."""
        return (_design(small, self.projection) @ self.weights).astype(np.float32)


def _design(small: NDArray[np.float32], projection: NDArray[np.float32]) -> NDArray[np.float32]:
    ones = np.ones((len(small), 1), np.float32)
    return np.concatenate([small, np.maximum(small @ projection, 0), ones], axis=1)
