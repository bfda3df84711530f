"""IJB's loose crops: five points to the 112 template, then features."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from v2f_engine.batch import IMAGE_SIZE
from v2f_engine.data.gate.decode import decode
from v2f_engine.data.gate.resize import Resized
from v2f_engine.errors import DatasetError

if TYPE_CHECKING:
    from torch import nn

    from v2f_engine.evaluate.ijb import IjbProtocol

TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Left eye, right eye, nose, left and right corner of the mouth, in pixels: ArcFace's alignment."""
CHUNK = 256
SHOWN = 5


def similarity(source: NDArray[np.floating], target: NDArray[np.floating] = TEMPLATE) -> NDArray[np.float64]:
    """Least-squares similarity `[2, 3]` (scale, rotation, shift; no mirror) from `[5, 2]` points to `target`."""
    a, b = source - source.mean(0), target - target.mean(0)
    square = (a * a).sum()
    if not square > 0:
        raise DatasetError("Five landmarks in one place: there is nothing to align.")
    cos = (a * b).sum() / square
    sin = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / square
    turn = np.array([[cos, -sin], [sin, cos]])
    return np.concatenate([turn, (target.mean(0) - turn @ source.mean(0))[:, None]], 1)


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


def read_crops(
    protocol: IjbProtocol,
    folder: Path,
    recogniser: nn.Module,
    *,
    bf16: bool = False,
    progress: Callable[[int, int], None] | None = None,
    resized: Resized | None = None,
) -> NDArray[np.float32]:
    """Features `[N, D]` of all images of a protocol, mirrored features summed.

    Args:
        protocol: with landmarks; without, images are aligned faces already, 112x112 or resized.
        folder: of the images.
        resized: counts images without landmarks that were not 112x112.

    Raises:
        DatasetError: images are missing (counted before any is read), broken, or neither aligned nor with landmarks.
    """
    from v2f_engine.models.features import extract_features

    missing = missing_crops(protocol, folder)
    if missing:
        raise DatasetError(
            f"{len(missing):,} of {len(protocol.names):,} images are not in {folder}, among them "
            f"{', '.join(missing[:SHOWN])}. Expected the loose crops of the protocol there (loose_crop), all of them."
        )
    resized = Resized(len(protocol.names)) if resized is None else resized
    parts = []
    for start in range(0, len(protocol.names), CHUNK):
        rows = range(start, min(len(protocol.names), start + CHUNK))
        images = np.stack([_aligned(protocol, folder, row, resized) for row in rows])
        parts.append(extract_features(recogniser, images, flip_sum=True, bf16=bf16))
        if progress is not None:
            progress(rows.stop, len(protocol.names))
    return np.concatenate(parts)


def missing_crops(protocol: IjbProtocol, folder: Path) -> list[str]:
    """Names of the protocol that are no files of the folder, in order.

    Raises:
        DatasetError: there is no such folder.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} is no folder; expected the images of the protocol (loose_crop).")
    there = {entry.name for entry in os.scandir(folder)}
    names = dict.fromkeys(protocol.names)
    return [name for name in names if name not in there and not (folder / name).is_file()]


def _aligned(protocol: IjbProtocol, folder: Path, row: int, resized: Resized) -> NDArray[np.uint8]:
    path = folder / protocol.names[row]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}).") from error
    image = decode(data, str(path))
    if protocol.landmarks is not None:
        return warp(image, similarity(protocol.landmarks[row].astype(np.float64)))
    return resized.face(image, row, str(path))
