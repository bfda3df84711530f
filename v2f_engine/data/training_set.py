"""What a generator is trained on: (image, feature, label) by row, from a dataset with features.

Features are recogniser outputs, float32 `[N, 512]`, un-normalised, row i belonging to image i. They come from
a `.npy` beside any dataset, or from the records of Vec2Face's own LMDB variant (jpeg, .npy bytes, label[,
landmark jpeg]), which `write_training_lmdb` also writes.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.batch import IMAGE_SIZE
from v2f_engine.data import fs, npy
from v2f_engine.data.dataset import Dataset
from v2f_engine.data.decode import decode
from v2f_engine.data.formats.lmdb import Lmdb, Record, pack_record, write_values
from v2f_engine.data.reader import open_dataset
from v2f_engine.errors import DatasetError, VectorError

BLOCK_ROWS = 65_536

Rows = Sequence[int] | NDArray[np.int64]
Features = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class TrainingBatch:
    """Some rows of a training set.

    Args:
        images: uint8 `[B, 112, 112, 3]`, RGB.
        features: float32 `[B, D]`.
        labels: int64 `[B]`.
        landmarks: uint8 `[B, 112, 112, 3]` landmark pictures, where the set has them.
    """

    images: NDArray[np.uint8]
    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    landmarks: NDArray[np.uint8] | None = None


class TrainingSet:
    """Rows of (image, feature, label). Reads on demand; safe in threads, after a fork, and to pickle.

    Args:
        dataset: the images.
        features: `[N, D]`, or None when the dataset's records hold them.
        subset: the rows to use, or None for all.
    """

    def __init__(
        self, dataset: Dataset, features: Features | None, subset: NDArray[np.int64] | None = None
    ) -> None:
        self.dataset = dataset
        self._features = features
        self._subset = subset

    def __len__(self) -> int:
        return len(self.dataset) if self._subset is None else len(self._subset)

    def _rows(self, rows: Rows) -> NDArray[np.int64]:
        chosen = np.asarray(rows, np.int64)
        if len(chosen) and not (chosen.min() >= 0 and chosen.max() < len(self)):
            raise IndexError(f"rows {chosen.min()}..{chosen.max()}; this training set has {len(self)}.")
        return chosen if self._subset is None else self._subset[chosen]

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64 `[N]`."""
        return self.dataset.labels if self._subset is None else self.dataset.labels[self._subset]

    def __getitem__(self, row: int) -> tuple[NDArray[np.uint8], NDArray[np.float32], int]:
        """(image uint8 `[112, 112, 3]`, feature float32 `[D]`, label)."""
        batch = self.batch([row])
        return batch.images[0], batch.features[0], int(batch.labels[0])

    def batch(self, rows: Rows, threads: int = 1) -> TrainingBatch:
        """Several rows, decoded in `threads` threads.

        Raises:
            DatasetError, VectorError: a row is broken; the message names it.
        """
        chosen = self._rows(rows)
        if self._features is not None:
            features = np.asarray(self._features[chosen], np.float32)
            images = self.dataset.images(chosen, threads)
            return TrainingBatch(images, features, self.dataset.labels[chosen])
        assert isinstance(self.dataset, Lmdb)
        records = [self.dataset.parts(int(row)) for row in chosen]
        where = [self.dataset.where(int(row)) for row in chosen]
        images = _stack(
            [decode(record.image, name) for record, name in zip(records, where, strict=True)], where
        )
        pairs = zip(records, where, strict=True)
        vectors = np.stack([parse_feature(record.feature or b"", name) for record, name in pairs])
        labels = np.asarray([record.label for record in records], np.int64)
        landmarks = [record.landmark for record in records]
        if None in landmarks:
            return TrainingBatch(images, vectors, labels)
        pictures = [decode(picture or b"", name) for picture, name in zip(landmarks, where, strict=True)]
        return TrainingBatch(images, vectors, labels, _stack(pictures, where))


def _stack(images: list[NDArray[np.uint8]], where: list[str]) -> NDArray[np.uint8]:
    for image, name in zip(images, where, strict=True):
        if image.shape != (IMAGE_SIZE, IMAGE_SIZE, 3):
            raise DatasetError(f"{name}: expected {IMAGE_SIZE}x{IMAGE_SIZE} pixels, found {image.shape[:2]}.")
    return np.stack(images)


def open_training_set(
    path: str | Path,
    features: str | Path | Features | None = None,
    subset: str | Path | NDArray[np.int64] | None = None,
) -> TrainingSet:
    """Opens images with their features.

    Args:
        path: a dataset in any format.
        features: `.npy` `[N, D]` or an array; None when `path` is an LMDB of the generator variant.
        subset: `.npy` of row numbers, or an array: the published code's `mask`.

    Raises:
        DatasetError: no such dataset, or one without features.
        VectorError: features of the wrong shape, dtype, length or content (row numbers are given).
    """
    dataset = open_dataset(path)
    if features is None:
        if not isinstance(dataset, Lmdb) or dataset.parts(0).feature is None:
            raise DatasetError(
                f"{path} holds no features. Give a .npy of features [{len(dataset)}, 512], or an LMDB whose "
                "records are (jpeg, feature, label)."
            )
        checked = None
    else:
        checked = check_features(features, len(dataset))
    return TrainingSet(dataset, checked, None if subset is None else _subset(subset, len(dataset)))


def check_features(source: str | Path | Features, rows: int) -> Features:
    """Features `[rows, D]` of floating type, all finite, none zero; memory-mapped when read from a file.

    Raises:
        VectorError: with the numbers of the first offending rows.
    """
    name = "features" if isinstance(source, np.ndarray) else str(source)
    array = source if isinstance(source, np.ndarray) else npy.map_file(source)
    if array.ndim != 2 or array.dtype.kind != "f" or len(array) != rows or array.shape[1] < 1:
        raise VectorError(
            f"{name}: expected floating-point features [{rows}, D], one row per image, found {array.dtype} "
            f"{array.shape}."
        )
    for start in range(0, rows, BLOCK_ROWS):
        block = array[start : start + BLOCK_ROWS]
        bad = ~np.isfinite(block).all(axis=1) | ~block.any(axis=1)
        if bad.any():
            found = (np.flatnonzero(bad)[:5] + start).tolist()
            raise VectorError(
                f"{name}: rows {found} hold NaN, infinity or nothing but zeros; extract them again."
            )
    return array


def _subset(source: str | Path | NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    name = "subset" if isinstance(source, np.ndarray) else str(source)
    array = source if isinstance(source, np.ndarray) else npy.map_file(source)
    if array.ndim != 1 or array.dtype.kind not in "iu" or not len(array):
        raise VectorError(f"{name}: expected row numbers [M], found {array.dtype} {array.shape}.")
    if int(array.min()) < 0 or int(array.max()) >= rows:
        raise VectorError(
            f"{name}: row numbers {array.min()}..{array.max()}; the dataset has rows 0..{rows - 1}."
        )
    return np.asarray(array, np.int64)


def parse_feature(data: bytes, where: str) -> NDArray[np.float32]:
    """The feature in the bytes of a `.npy`, as float32 `[D]`; nothing is unpickled or allocated on trust.

    Raises:
        VectorError: not a finite floating-point vector of just that many bytes.
    """
    array = npy.from_bytes(data, where)
    if array.dtype.kind != "f" or not array.size:
        raise VectorError(f"{where}: expected one floating-point feature, found {array.dtype} {array.shape}.")
    feature = array.reshape(-1).astype(np.float32)
    if not np.isfinite(feature).all():
        raise VectorError(f"{where}: the feature holds NaN or infinity.")
    return feature


def write_training_lmdb(
    path: str | Path, rows: Iterable[tuple[bytes, NDArray[np.float32], int]], classes: int
) -> int:
    """Writes Vec2Face's generator LMDB: msgpack((jpeg, .npy bytes, label)) under ASCII index keys.

    Args:
        path: the file; replaced atomically.
        rows: (encoded image, feature float32 `[D]`, label).
        classes: number of identities.

    Returns:
        number of records.
    """
    count = 0

    def values() -> Iterable[bytes]:
        nonlocal count
        for image, feature, label in rows:
            stream = io.BytesIO()
            np.save(stream, np.ascontiguousarray(feature, np.float32), allow_pickle=False)
            count += 1
            yield pack_record(Record(image, int(label), stream.getvalue()))

    file = fs.DurableFile(Path(path), "main", whole=False)
    with fs.named_errors(Path(path).parent):
        try:
            write_values(file, [(0, values())], classes)
            file.prepare()
            file.publish()
        except BaseException:
            file.abort()
            raise
    return count
