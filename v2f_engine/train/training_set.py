"""What a trainer reads: images, labels and, for a generator, features, all addressable by row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine.batch import ImageBatch
from v2f_engine.errors import DatasetError


@dataclass(frozen=True)
class TrainingSet:
    """Images held in memory (37.6 KB each: 50,000 take 1.9 GB).

    Args:
        images: uint8 `[N, 112, 112, 3]`, RGB.
        labels: int64 `[N]`, contiguous from 0.
        features: float32 `[N, 512]`, un-normalised, or None.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    features: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise DatasetError(f"{len(self.images)} images but {len(self.labels)} labels.")
        if self.features is not None and len(self.features) != len(self.labels):
            raise DatasetError(f"{len(self.features)} features but {len(self.labels)} labels.")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> int:
        return int(self.labels.max()) + 1

    @classmethod
    def of(cls, batches: Iterable[ImageBatch], features: NDArray[np.float32] | None = None) -> TrainingSet:
        """From finished batches; identities become labels 0, 1, ... in ascending order."""
        kept = list(batches)
        identity = np.concatenate([batch.identity for batch in kept])
        labels = np.unique(identity, return_inverse=True)[1].astype(np.int64)
        return cls(np.concatenate([batch.images for batch in kept]), labels, features)


def read_blocks(folder: Path, limit: int | None = None) -> TrainingSet:
    """Reads `*.npz` blocks with `images` uint8 and `identity` int64, in name order.

    Args:
        folder: where they lie.
        limit: read no more blocks than this.

    Raises:
        DatasetError: no block there.
    """
    paths = sorted(folder.glob("*.npz"))[:limit]
    if not paths:
        raise DatasetError(
            f"{folder}: expected *.npz blocks of rendered people, found none. Run `v2f render` first."
        )
    batches = []
    for path in paths:
        with np.load(path, allow_pickle=False) as block:
            batches.append(ImageBatch(block["images"], block["identity"], block["image"]))
    return TrainingSet.of(batches)


def open_training_set(path: Path) -> TrainingSet:
    """A dataset in any format this engine reads, or a folder of rendered `*.npz` blocks, held in memory.

    Raises:
        DatasetError: nothing readable there, or images that are not 112x112.
    """
    if path.is_dir() and any(path.glob("*.npz")):
        return read_blocks(path)
    from v2f_engine.data.reader import open_dataset

    faces = open_dataset(path)
    images = faces.images(range(len(faces)), threads=2)
    labels = np.unique(faces.labels, return_inverse=True)[1].astype(np.int64)
    return TrainingSet(images, labels)
