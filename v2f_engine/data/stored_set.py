"""A training set on disk: any dataset format, features inside its records or in a `.npy` beside it.

What cannot be used (damaged records, unreadable images, features that are missing, broken, NaN or of another
length) is refused by name, or replaced. A replacement is a function of the row number and the data alone, so
the same step of the same training sees the same rows on any number of threads, ranks or resumptions.
"""

from __future__ import annotations

import math
from collections import Counter
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from v2f_engine.batch import IMAGE_SIZE
from v2f_engine.data.bad_rows import BadRow, BadRows
from v2f_engine.data.dataset import Dataset
from v2f_engine.data.decode import decode
from v2f_engine.data.features_file import Features, parse_feature, unusable_rows
from v2f_engine.data.formats.lmdb import Lmdb, Record
from v2f_engine.data.training_rows import RowNumbers, Rows
from v2f_engine.errors import DatasetError, VectorError

PROBED = 64
"""Records that are looked at to learn whether records hold features and landmarks, and of which length."""
MAX_REPLACEMENTS = 1000
"""Rows tried in place of a bad one before the set is given up."""
GOLDEN = (math.sqrt(5) - 1) / 2


class StoredSet:
    """Reads rows on demand; safe in threads, after a fork, and to pickle. Obeys the `TrainingSet` protocol.

    Args:
        dataset: the images.
        features: `[N, D]` beside the dataset; None when records hold them, or when there are none.
        subset: the rows to use, or None for all.
        skip: whether bad rows are replaced; otherwise they raise.
        in_records: whether features are read from the records.
        with_landmarks: whether landmark pictures are read from the records.
        feature_rows: int64 `[len(dataset)]`, where the feature of each image stands in `features`; None where
            there is one for every image.
    """

    def __init__(
        self,
        dataset: Dataset,
        features: Features | None = None,
        subset: NDArray[np.int64] | None = None,
        *,
        skip: bool = False,
        in_records: bool = False,
        with_landmarks: bool = False,
        feature_rows: NDArray[np.int64] | None = None,
    ) -> None:
        self.dataset = dataset
        self._feature_rows = feature_rows
        self.skip = skip
        self.bad = BadRows()
        self._features, self._subset = features, subset
        self._in_records, self._with_landmarks = in_records, with_landmarks
        self._feature_dim = None if features is None else int(features.shape[1])
        if in_records:
            self._feature_dim = probe(dataset).feature_dim

    def __len__(self) -> int:
        return len(self.dataset) if self._subset is None else len(self._subset)

    @property
    def feature_dim(self) -> int | None:
        return self._feature_dim

    @property
    def classes(self) -> int:
        return self._labels[1]

    @property
    def labels(self) -> NDArray[np.int64]:
        return self._labels[0]

    @cached_property
    def _labels(self) -> tuple[NDArray[np.int64], int]:
        """(labels renumbered from 0 in ascending order, number of them)."""
        found = self._found_labels
        readable = found >= 0
        known, numbers = np.unique(found[readable], return_inverse=True)
        labels = np.full(len(found), -1, np.int64)
        labels[readable] = numbers
        return labels, len(known)

    def dataset_labels(self) -> NDArray[np.int64]:
        """int64 `[N]`: the dataset's own label of each row, not renumbered; -1 where it cannot be read."""
        return self._found_labels

    @cached_property
    def _found_labels(self) -> NDArray[np.int64]:
        if self._subset is None or not isinstance(self.dataset, Lmdb):
            try:
                labels = self.dataset.labels
                return labels if self._subset is None else labels[self._subset]
            except DatasetError:
                if not self.skip:
                    raise
        found = np.full(len(self), -1, np.int64)
        for row in range(len(self)):
            try:
                found[row] = self.dataset.label(self._index(row))
            except DatasetError as error:
                if not self.skip:
                    raise
                self.bad.add(row, "label", str(error))
        return found

    def _index(self, row: int) -> int:
        return row if self._subset is None else int(self._subset[row])

    def take(self, rows: RowNumbers) -> StoredSet:
        """Only these rows; labels are numbered anew. Replacements of bad rows come from among them."""
        chosen = np.asarray(rows, np.int64)
        taken = StoredSet(
            self.dataset,
            self._features,
            chosen if self._subset is None else self._subset[chosen],
            skip=self.skip,
            in_records=self._in_records,
            with_landmarks=self._with_landmarks,
            feature_rows=self._feature_rows,
        )
        taken.__dict__["_unusable"] = self._unusable  # one pass over the features is enough
        return taken

    @cached_property
    def _unusable(self) -> frozenset[int]:
        """Rows of the features that hold no feature; a set that refuses them was checked when it was opened."""
        if self._features is None or not self.skip:
            return frozenset()
        return frozenset(unusable_rows(self._features).tolist())

    def encoded(self, row: int) -> bytes:
        """The image of a row as it is stored. Raises DatasetError."""
        return self.dataset.data(self._index(row))

    def key(self, row: int) -> str:
        """What to call a row in messages."""
        return self.dataset.where(self._index(row))

    def read(self, rows: RowNumbers) -> Rows:
        """Rows, decoded.

        Raises:
            IndexError: no such row.
            BadRow: a row cannot be used and the set refuses such rows; the message names it.
            DatasetError: no usable row was found in place of a bad one.
        """
        read = [self._usable(int(row)) for row in rows]
        images = np.empty((len(read), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        for place, row in enumerate(read):
            images[place] = row.image
        features = landmarks = None
        if self._feature_dim is not None:
            features = np.empty((len(read), self._feature_dim), np.float32)
            for place, row in enumerate(read):
                features[place] = row.feature
        if self._with_landmarks:
            landmarks = np.stack([row.landmark for row in read if row.landmark is not None])
        labels = np.fromiter((row.label for row in read), np.int64, len(read))
        return Rows(images, labels, features, [row.key for row in read], landmarks)

    def landmarks(self, rows: RowNumbers) -> NDArray[np.uint8] | None:
        """Landmark pictures of the rows that `read` gives; also in `Rows.landmarks`, without reading twice."""
        return self.read(rows).landmarks if self._with_landmarks else None

    def _usable(self, row: int) -> _Row:
        """Row `row`, or the first usable one of its replacements."""
        count = len(self)
        if not 0 <= row < count:
            raise IndexError(f"row {row}; this training set has {count}.")
        stride = _stride(count)
        for attempt in range(min(count, MAX_REPLACEMENTS)):
            candidate = (row + attempt * stride) % count
            if candidate in self.bad:
                continue
            try:
                return self._read(candidate)
            except BadRow as error:
                if not self.skip:
                    raise
                self.bad.add(candidate, error.kind, str(error))
        raise DatasetError(
            f"{self.dataset.path}: row {row} cannot be used, and neither can {min(count, MAX_REPLACEMENTS) - 1} "
            f"others tried in its place; {len(self.bad)} bad rows so far: {self.bad.report()['by_kind']}."
        )

    def _read(self, row: int) -> _Row:
        index = self._index(row)
        where = self.dataset.where(index)
        record = self._record(index, where)
        image = _picture(record.image, where, "image")
        label = int(self.labels[row])
        if label < 0:
            raise BadRow("label", f"{where}: its label cannot be read.")
        landmark = None
        if self._with_landmarks:
            if record.landmark is None:
                raise BadRow("landmark", f"{where}: expected a landmark picture in the record, found none.")
            landmark = _picture(record.landmark, f"{where}: landmark picture", "landmark")
        return _Row(image, self._feature(record, index, where), label, landmark, where)

    def _record(self, index: int, where: str) -> Record:
        try:
            if self._in_records or self._with_landmarks:
                assert isinstance(self.dataset, Lmdb)
                return self.dataset.parts(index)
            return Record(self.dataset.data(index), 0)
        except DatasetError as error:
            raise BadRow("record", str(error)) from error

    def _feature(self, record: Record, index: int, where: str) -> NDArray[np.float32] | None:
        if self._features is not None:
            index = index if self._feature_rows is None else int(self._feature_rows[index])
            if index in self._unusable:
                raise BadRow("feature", f"{where}: its feature holds NaN, infinity or nothing but zeros.")
            return np.asarray(self._features[index], np.float32)
        if not self._in_records:
            return None
        if record.feature is None:
            raise BadRow("no feature", f"{where}: expected (image, feature, label), found no feature.")
        try:
            feature = parse_feature(record.feature, where)
        except VectorError as error:
            raise BadRow("feature", str(error)) from error
        if len(feature) != self._feature_dim:
            raise BadRow(
                "feature dimension",
                f"{where}: expected a feature of {self._feature_dim} numbers, found {len(feature)}.",
            )
        return feature


class _Row:
    """One row, decoded."""

    __slots__ = ("feature", "image", "key", "label", "landmark")

    def __init__(
        self,
        image: NDArray[np.uint8],
        feature: NDArray[np.float32] | None,
        label: int,
        landmark: NDArray[np.uint8] | None,
        key: str,
    ) -> None:
        self.image, self.feature, self.label, self.landmark, self.key = image, feature, label, landmark, key


def _stride(count: int) -> int:
    """About the golden section of `count` and coprime to it: strides visit every row once, evenly spread."""
    stride = max(1, round(count * GOLDEN))
    while math.gcd(stride, count) != 1:
        stride += 1
    return stride


def _picture(data: bytes, where: str, kind: str) -> NDArray[np.uint8]:
    try:
        image = decode(data, where)
    except DatasetError as error:
        raise BadRow(kind, str(error)) from error
    if image.shape != (IMAGE_SIZE, IMAGE_SIZE, 3):
        raise BadRow(
            kind,
            f"{where}: expected {IMAGE_SIZE}x{IMAGE_SIZE} pixels, found {image.shape[0]}x{image.shape[1]}.",
        )
    return image


class Probe:
    """What the first records of a dataset hold.

    Args:
        feature_dim: most frequent length of a feature, or None without features.
        landmarks: whether most records have a landmark picture.
    """

    def __init__(self, feature_dim: int | None, landmarks: bool) -> None:
        self.feature_dim, self.landmarks = feature_dim, landmarks


def probe(dataset: Dataset) -> Probe:
    """Looks at the first readable records; broken ones do not decide."""
    if not isinstance(dataset, Lmdb):
        return Probe(None, False)
    lengths: Counter[int] = Counter()
    records = landmarks = 0
    for index in range(min(PROBED, len(dataset))):
        try:
            record = dataset.parts(index)
            records += 1
            landmarks += record.landmark is not None
            if record.feature is not None:
                lengths[len(parse_feature(record.feature, ""))] += 1
        except (DatasetError, VectorError):
            continue
    dim = lengths.most_common(1)[0][0] if lengths else None
    return Probe(dim, 2 * landmarks > records)
