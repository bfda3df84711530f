"""People and judges for the tests of choosing: cheap, in NumPy alone, each a pure function of its pixels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from v2f_engine.batch import ImageBatch
from v2f_engine.data import Encoder, Plan, write_dataset
from v2f_engine.selection.judges import Judges

PEOPLE, IMAGES = 5, 6


def picture(identity: int, image: int) -> np.ndarray:
    """uint8 `[112, 112, 3]`: colours of the person, each cell moved by the image; images 1 and 4 are one picture."""
    image = 1 if image == 4 else image
    colours = np.random.default_rng([identity, 7]).integers(60, 190, (4, 4, 3))
    moved = np.random.default_rng([identity, image, 8]).integers(-50, 50, (4, 4, 3))
    return np.kron(colours + moved, np.ones((28, 28, 1), np.int64)).astype(np.uint8)


def people(images: int = IMAGES) -> Callable[[range], Iterator[ImageBatch]]:
    """A source with an attribute, in batches that cut across people."""

    def make(identities: range) -> Iterator[ImageBatch]:
        rows = [(identity, image) for identity in identities for image in range(images)]
        for start in range(0, len(rows), 4):
            identity, image = np.array(rows[start : start + 4], np.int64).T
            pictures = np.stack(
                [picture(i, k) for i, k in zip(identity.tolist(), image.tolist(), strict=True)]
            )
            yield ImageBatch(pictures, identity, image, {"yaw": (image * 10).astype(np.float32)})

    return make


def source(root: Path, format: str = "webdataset", images: int = IMAGES) -> Path:
    """A set of `PEOPLE` in shards of two."""
    plan = Plan.of(PEOPLE, images, 2 * images)
    write_dataset(root, {"seed": 3}, plan, people(images), format=format, encoder=Encoder("png"))
    return root


class Cells:
    """A recogniser: the mean of each of 16 cells and 3 channels, less the middle grey."""

    notes: tuple[str, ...] = ()

    def __init__(self, dim: int = 48, answer: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
        self.dim, self.calls, self.answer = dim, 0, answer

    def describe(self) -> dict[str, Any]:
        return {"name": "cells", "sha256": "0" * 64}

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.calls += 1
        assert images.shape[1:] == (112, 112, 3)
        features = features_of(images)
        return features if self.answer is None else self.answer(features)


def features_of(images: np.ndarray) -> np.ndarray:
    """float32 `[B, 48]`."""
    cells = images.reshape(len(images), 4, 28, 4, 28, 3).mean((2, 4), dtype=np.float64)
    return (cells.reshape(len(images), 48) - 127.5).astype(np.float32)


def brightness(images: np.ndarray) -> np.ndarray:
    return images.mean((1, 2, 3), dtype=np.float64).astype(np.float32)


def judges(answer: Callable[[np.ndarray], np.ndarray] | None = None) -> Judges:
    return Judges(Cells(answer=answer), brightness, {"name": "brightness"})


def tree(root: Path) -> dict[str, str]:
    """Path -> sha256 of every file below `root`, hidden ones included; folders as `path/`."""
    digests: dict[str, str] = {}
    for folder, folders, files in os.walk(root):
        digests |= {f"{os.path.relpath(os.path.join(folder, name), root)}/": "" for name in folders}
        for name in files:
            path = Path(folder) / name
            digests[os.path.relpath(path, root)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return digests
