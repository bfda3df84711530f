"""Frechet distance of two sets of features, and the floor that a finite number of images has.

Between Gaussians of the sets' means and covariances: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)). The covariances are
the sample's own, without shrinkage, and may be singular: the trace of the root is the sum of the singular values of
A1 A2^T, where A is a centred set over sqrt(n - 1) (A^T A = C), so no root of a matrix is taken. Few images inflate
the distance, so it stands beside that of as many images of other rendered people.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from v2f_kernels._extras import install

from v2f_engine.errors import MissingDependency, VectorError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

CHIP = 150
"""Side of the aligned face that dlib's recogniser reads."""
_SCALE = 0.5255 * 100 / 35.24
_TO_CHIP = np.array([[_SCALE, 0, 74.0 - _SCALE * 55.9], [0, _SCALE, 47.1 - _SCALE * 51.6]])
"""Eyes of ArcFace's template, (38.3, 51.7) and (73.5, 51.5), to the middles of the eyes' corners of dlib's mean face at
a padding of 0.25, (47.7, 47.1) and (100.3, 47.1)."""


def frechet_distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Of features `[N, D]` and `[M, D]`; float64 throughout.

    Raises:
        VectorError: other shapes, fewer than two rows, or values that are not finite.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise VectorError(
            f"A Frechet distance takes features [N, D] and [M, D], N and M at least 2, found {list(a.shape)} and "
            f"{list(b.shape)}."
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise VectorError("Features must be finite, found NaN or infinity.")
    between = a.mean(axis=0) - b.mean(axis=0)
    first, second = _root(a), _root(b)
    common = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    within = (first**2).sum() + (second**2).sum() - 2 * common
    return float(between @ between + max(0.0, within))


def _root(rows: Float64) -> Float64:
    """A with A^T A = covariance, `[min(N, D), D]`."""
    centred = (rows - rows.mean(axis=0)) / np.sqrt(len(rows) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r"))


def against_rendered(made: Float32, real: Float32, people: NDArray[np.int64]) -> dict[str, Any]:
    """Generated features to those of every second rendered person, and these to the other people's.

    Args:
        made, real: `[M, D]`, `[N, D]`.
        people: int64 `[N]`, whose each rendered row is.

    Raises:
        VectorError: fewer than two rendered people.
    """
    _, number = np.unique(people, return_inverse=True)
    here, others = np.flatnonzero(number % 2 == 0), np.flatnonzero(number % 2 == 1)
    n = min(len(made), len(here), len(others))
    if n < 2:
        raise VectorError(
            f"A floor needs images of two rendered people and more, found {len(others)} beside the first."
        )
    anchor = real[_spread(here, n)]
    distance = frechet_distance(made[_spread(np.arange(len(made)), n)], anchor)
    floor = frechet_distance(real[_spread(others, n)], anchor)
    return {
        "distance": distance,
        "floor": floor,
        "ratio": distance / floor,
        "n": n,
        "dimension": int(real.shape[1]),
    }


def _spread(rows: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    return rows[np.linspace(0, len(rows) - 1, n).astype(np.int64)]


def dlib_features(images: Iterable[NDArray[np.uint8]]) -> Float32:
    """float32 `[N, 128]` by dlib's recogniser (CC0), about 25 ms each, of aligned faces uint8 `[112, 112, 3]`.

    Raises:
        MissingDependency: dlib or its models are absent; with the install line.
    """
    try:
        import dlib
        import face_recognition_models as models
    except ImportError as error:
        raise MissingDependency(
            f"dlib's recogniser needs {error.name}; install it with: {install('judge')}"
        ) from error
    network = dlib.face_recognition_model_v1(models.face_recognition_model_location())
    rows = [np.array(network.compute_face_descriptor(chip(image))) for image in images]
    return np.stack(rows).astype(np.float32)


def chip(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An aligned face as dlib's recogniser wants it: uint8 `[150, 150, 3]`; 8 of its lowest rows repeat the edge."""
    return np.asarray(
        cv2.warpAffine(image, _TO_CHIP, (CHIP, CHIP), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE),
        np.uint8,
    )
