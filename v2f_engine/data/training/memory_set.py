"""A training set held in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from v2f_engine.batch import IMAGE_SIZE, ImageBatch
from v2f_engine.data.gate.resize import Resized
from v2f_engine.data.training.rows import BadRows, RowNumbers, Rows, TrainingSet
from v2f_engine.errors import DatasetError


@dataclass(frozen=True)
class MemorySet:
    """Images held in memory (37.6 KB each: 50,000 take 1.9 GB); obeys the `TrainingSet` protocol.

    Args:
        images: uint8 `[N, 112, 112, 3]`, RGB.
        labels: int64 `[N]`, contiguous from 0.
        features: float32 `[N, 512]`, un-normalised, or None.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    features: NDArray[np.float32] | None = None
    bad: BadRows = field(default_factory=BadRows, compare=False, repr=False)
    resized: Resized = field(default_factory=lambda: Resized(0), compare=False, repr=False)

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

    @property
    def feature_dim(self) -> int | None:
        return None if self.features is None else int(self.features.shape[1])

    def read(self, rows: RowNumbers) -> Rows:
        chosen = np.asarray(rows, np.int64)
        features = None if self.features is None else self.features[chosen]
        keys = [f"row {row}" for row in chosen.tolist()]
        return Rows(self.images[chosen], self.labels[chosen], features, keys)

    def take(self, rows: RowNumbers) -> MemorySet:
        """Only these rows; labels are numbered anew. A run of rows is shared, others are copied."""
        chosen = np.asarray(rows, np.int64)
        run = len(chosen) > 0 and bool((np.diff(chosen) == 1).all())
        at = slice(int(chosen[0]), int(chosen[-1]) + 1) if run else chosen
        labels = np.unique(self.labels[at], return_inverse=True)[1].astype(np.int64)
        features = None if self.features is None else self.features[at]
        return MemorySet(self.images[at], labels, features, resized=self.resized)

    def landmarks(self, rows: RowNumbers) -> None:
        return None

    @classmethod
    def of(cls, batches: Iterable[ImageBatch], features: NDArray[np.float32] | None = None) -> MemorySet:
        """From finished batches; identities become labels 0, 1, ... in ascending order."""
        kept = list(batches)
        identity = np.concatenate([batch.identity for batch in kept])
        labels = np.unique(identity, return_inverse=True)[1].astype(np.int64)
        return cls(np.concatenate([batch.images for batch in kept]), labels, features)

    @classmethod
    def load(cls, stored: TrainingSet, batch: int = 512) -> MemorySet:
        """All rows of another training set, read once; bad ones are left out under `on_bad="skip"`.

        Raises:
            DatasetError: a bad row, where the set refuses them.
        """
        # filled in place: joining parts would hold everything twice
        images = np.empty((len(stored), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        labels = np.empty(len(stored), np.int64)
        dim = stored.feature_dim
        features = None if dim is None else np.empty((len(stored), dim), np.float32)
        count = 0
        for start in range(0, len(stored), batch):
            wanted = range(start, min(len(stored), start + batch))
            read = stored.read(list(wanted))
            good = np.array([row not in stored.bad for row in wanted])
            filled = slice(count, count + int(good.sum()))
            images[filled], labels[filled] = read.images[good], read.labels[good]
            if features is not None and read.features is not None:
                features[filled] = read.features[good]
            count = filled.stop
        kept = np.unique(labels[:count], return_inverse=True)[1].astype(np.int64)
        known = None if features is None else features[:count]
        return cls(images[:count], kept, known, stored.bad, stored.resized)
