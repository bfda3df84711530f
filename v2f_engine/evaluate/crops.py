"""IJB's loose crops: five points to the 112 template, then features."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.gate.decode import decode
from v2f_engine.data.gate.resize import Resized
from v2f_engine.errors import DatasetError
from v2f_engine.faces.geometry import similarity, warp

if TYPE_CHECKING:
    from torch import nn

    from v2f_engine.evaluate.ijb import IjbProtocol

CHUNK = 256
SHOWN = 5


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
