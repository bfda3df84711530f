"""Five points to the 112 template: the similarity, and the picture drawn through it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from v2f_engine.batch import IMAGE_SIZE
from v2f_engine.errors import DatasetError

TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Left eye, right eye, nose, left and right corner of the mouth, in pixels: ArcFace's alignment."""
SAMPLES = 4
"""Samples of a reduced picture along each side of a pixel of the crop; their mean is the pixel."""


def similarity(source: NDArray[np.floating], target: NDArray[np.floating] = TEMPLATE) -> NDArray[np.float64]:
    """Least-squares similarity `[2, 3]` (scale, rotation, shift; no mirror) from `[N, 2]` points to `target`.

    Umeyama's (1991) in the plane, where it has a closed form; in float64.

    Raises:
        DatasetError: all points in one place.
    """
    a, b = source - source.mean(0), target - target.mean(0)
    square = (a * a).sum()
    if not square > 0:
        raise DatasetError("Five landmarks in one place: there is nothing to align.")
    cos = (a * b).sum() / square
    sin = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / square
    turn = np.array([[cos, -sin], [sin, cos]])
    return np.concatenate([turn, (target.mean(0) - turn @ source.mean(0))[:, None]], 1)


def scale_of(matrix: NDArray[np.float64]) -> float:
    """How many pixels of the crop a pixel of the picture becomes."""
    return float(np.hypot(matrix[0, 0], matrix[1, 0]))


def moved(points: NDArray[np.floating], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points `[N, 2]` through a similarity `[2, 3]`."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], np.float64)


def inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The similarity `[2, 3]` that goes back."""
    turn = np.linalg.inv(matrix[:, :2])
    return np.concatenate([turn, (-turn @ matrix[:, 2])[:, None]], 1)


def warp(image: NDArray[np.uint8], matrix: NDArray[np.float64], side: int = IMAGE_SIZE) -> NDArray[np.uint8]:
    """The aligned `[side, side, 3]` crop, bilinear, black outside, of a similarity from image to crop."""
    turn, shift = matrix[:, :2], matrix[:, 2]
    y, x = np.mgrid[0:side, 0:side].astype(np.float64)
    at = np.stack([x.ravel(), y.ravel()], 1) - shift
    px, py = (at @ np.linalg.inv(turn).T).T
    x0, y0 = np.floor(px).astype(np.int64), np.floor(py).astype(np.int64)
    fx, fy = (px - x0)[:, None], (py - y0)[:, None]
    height, width = image.shape[:2]

    def pixel(column: NDArray[np.int64], row: NDArray[np.int64]) -> NDArray[np.float64]:
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        found = image[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)].astype(np.float64)
        return np.asarray(found * inside[:, None], np.float64)

    top = pixel(x0, y0) * (1 - fx) + pixel(x0 + 1, y0) * fx
    bottom = pixel(x0, y0 + 1) * (1 - fx) + pixel(x0 + 1, y0 + 1) * fx
    values = top * (1 - fy) + bottom * fy
    return np.asarray(np.rint(values), np.uint8).reshape(side, side, 3)


def warp_by_area(
    image: NDArray[np.uint8], matrix: NDArray[np.float64], side: int = IMAGE_SIZE
) -> NDArray[np.uint8]:
    """As `warp`, but every pixel of the picture counts where the crop is smaller than what it shows.

    The part of the picture under the crop is reduced to the means of whole blocks, a quarter to a half of the crop's
    pixel wide, and `SAMPLES` x `SAMPLES` bilinear samples of that are averaged for each pixel. Bilinear alone would
    read four pixels of hundreds, and turn hair and skin into a pattern (aliasing).
    """
    scale = scale_of(matrix)
    if scale >= 1:
        return warp(image, matrix, side)
    block = max(1, int(0.5 / scale))
    part, matrix = _under(image, matrix, side)
    if block > 1:
        part, matrix = _reduced(part, block), reduced_matrix(matrix, block)
    fine = np.concatenate(
        [matrix[:, :2] * SAMPLES, (matrix[:, 2:] + 0.5) * SAMPLES - 0.5], 1
    )  # centres of pixels at +0.5
    drawn = warp(part, fine, side * SAMPLES).astype(np.uint16)
    sums = drawn.reshape(side, SAMPLES, side, SAMPLES, 3).sum((1, 3))
    return np.asarray(np.rint(sums / SAMPLES**2), np.uint8)


def reduced_matrix(matrix: NDArray[np.float64], block: int) -> NDArray[np.float64]:
    """The similarity from a picture that was reduced by whole blocks."""
    turn = matrix[:, :2]
    centre = turn @ np.full(2, (block - 1) / 2)  # pixel 0 of the reduced picture lies there
    return np.concatenate([turn * block, (matrix[:, 2] + centre)[:, None]], 1)


def _under(
    image: NDArray[np.uint8], matrix: NDArray[np.float64], side: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The upright part of the picture that the crop shows, black where there is no picture, and the similarity from it.

    The blackness is added here, so that blocks that lie half outside count half.
    """
    corners = np.array([[-1, -1], [side, -1], [-1, side], [side, side]], np.float64)
    seen = moved(corners, inverse(matrix))
    low, high = np.floor(seen.min(0)).astype(np.int64) - 2, np.ceil(seen.max(0)).astype(np.int64) + 3
    height, width = image.shape[:2]
    left, top = np.clip(low, 0, (width, height))
    right, bottom = np.clip(high, 0, (width, height))
    around = ((top - low[1], high[1] - bottom), (left - low[0], high[0] - right), (0, 0))
    part = np.pad(image[top:bottom, left:right], np.maximum(around, 0))
    turn = matrix[:, :2]
    return part, np.concatenate([turn, (matrix[:, 2] + turn @ low)[:, None]], 1)


def _reduced(image: NDArray[np.uint8], block: int) -> NDArray[np.uint8]:
    """Means of blocks of `block` x `block` pixels; the last ones are filled with the edge's black."""
    height, width = image.shape[:2]
    whole = np.pad(image, ((0, -height % block), (0, -width % block), (0, 0)))
    sums = whole.reshape(len(whole) // block, block, -1, block, 3).sum((1, 3), dtype=np.uint32)
    return np.asarray(np.rint(sums / block**2), np.uint8)
