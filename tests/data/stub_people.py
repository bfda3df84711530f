"""Stub images for the data tests: cheap, and a pure function of (identity, image)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from v2f_engine.batch import ImageBatch


def picture(identity: int, image: int) -> np.ndarray:
    """uint8 `[112, 112, 3]`: a smooth pattern of its own for each (identity, image)."""
    colours = np.random.default_rng([identity, 7]).integers(30, 200, (4, 4, 3))
    small = np.kron(colours, np.ones((28, 28, 1), np.int64))
    return (small + image * 3 + np.arange(112)[:, None, None] // 4).astype(np.uint8)


def make_batches(images_per_id: int, size: int = 4) -> Callable[[range], Iterator[ImageBatch]]:
    """A source whose batches cut across identities, with two attributes."""

    def make(identities: range) -> Iterator[ImageBatch]:
        rows = [(identity, image) for identity in identities for image in range(images_per_id)]
        for start in range(0, len(rows), size):
            identity, image = np.array(rows[start : start + size], np.int64).T
            images = np.stack([picture(i, k) for i, k in zip(identity.tolist(), image.tolist(), strict=True)])
            attributes = {"yaw": (image * 10).astype(np.float32), "sigma": (identity / 8).astype(np.float32)}
            yield ImageBatch(images, identity, image, attributes)

    return make


def tree(root: Path) -> dict[str, str]:
    """Path -> sha256 of every file below `root`, hidden ones included; folders as `path/`."""
    digests: dict[str, str] = {}
    for folder, folders, files in os.walk(root):
        for name in folders:
            digests[f"{os.path.relpath(os.path.join(folder, name), root)}/"] = ""
        for name in files:
            path = os.path.join(folder, name)
            digests[os.path.relpath(path, root)] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return digests
