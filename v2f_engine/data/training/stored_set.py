"""A training set on disk: any dataset format, features inside its records or in a `.npy` beside it.

What cannot be used (damaged records, unreadable images, features that are missing, broken, NaN or of another
length) is refused by name, or replaced. A replacement is a function of the row number and the data alone, so
the same step of the same training sees the same rows on any number of threads, ranks or resumptions.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from v2f_engine.batch import IMAGE_SIZE
from v2f_engine.data.gate.resize import Resized
from v2f_engine.data.training.row_reader import Row, RowReader
from v2f_engine.data.training.rows import BadRow, BadRows, RowNumbers, Rows
from v2f_engine.errors import DatasetError

MAX_REPLACEMENTS = 1000
"""Rows tried in place of a bad one before the set is given up."""
GOLDEN = (math.sqrt(5) - 1) / 2


class StoredSet:
    """Reads rows on demand; safe in threads, after a fork, and to pickle. Obeys the `TrainingSet` protocol.

    Args:
        reader: of the dataset's images.
        subset: the rows to use, or None for all.
        skip: whether bad rows are replaced; otherwise they raise.
    """

    def __init__(
        self, reader: RowReader, subset: NDArray[np.int64] | None = None, *, skip: bool = False
    ) -> None:
        self._reader, self._subset, self.skip = reader, subset, skip
        self.dataset = reader.dataset
        self.bad = BadRows()

    def __len__(self) -> int:
        return len(self.dataset) if self._subset is None else len(self._subset)

    @property
    def resized(self) -> Resized:
        """Which of the dataset's pictures were not 112x112 when they were read."""
        return self.dataset.resized

    def resized_among(self, rows: int) -> dict[str, int]:
        """Counts by size of the pictures resized among the first `rows` rows."""
        some = slice(rows) if self._subset is None else np.unique(self._subset[:rows])
        return self.resized.counts_of(some)

    @property
    def feature_dim(self) -> int | None:
        return self._reader.feature_dim

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

    def told(self) -> list[str]:
        """What a user should see of how the set is read, or, where bad rows are replaced, what is wrong with it.

        Raises:
            DatasetError: it cannot be read wholly, and bad rows are refused.
        """
        try:
            return self.dataset.told()
        except DatasetError as error:
            if not self.skip:
                raise
            return [str(error)]

    def dataset_labels(self) -> NDArray[np.int64]:
        """int64 `[N]`: the dataset's own label of each row, not renumbered; -1 where it cannot be read."""
        return self._found_labels

    @cached_property
    def _found_labels(self) -> NDArray[np.int64]:
        if self._subset is None or not self.dataset.composite:
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
        return StoredSet(
            self._reader, chosen if self._subset is None else self._subset[chosen], skip=self.skip
        )

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
        found = [self._usable(int(row)) for row in rows]
        images = np.empty((len(found), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        for place, (row, _) in enumerate(found):
            images[place] = row.image
        features = landmarks = None
        if self.feature_dim is not None:
            features = np.empty((len(found), self.feature_dim), np.float32)
            for place, (row, _) in enumerate(found):
                features[place] = row.feature
        if self._reader.with_landmarks:
            landmarks = np.stack([row.landmark for row, _ in found if row.landmark is not None])
        labels = np.fromiter((label for _, label in found), np.int64, len(found))
        return Rows(images, labels, features, [row.key for row, _ in found], landmarks)

    def landmarks(self, rows: RowNumbers) -> NDArray[np.uint8] | None:
        """Landmark pictures of the rows that `read` gives; also in `Rows.landmarks`, without reading twice."""
        return self.read(rows).landmarks if self._reader.with_landmarks else None

    def _usable(self, row: int) -> tuple[Row, int]:
        """Row `row` and its label, or the first usable one of its replacements."""
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

    def _read(self, row: int) -> tuple[Row, int]:
        read = self._reader.read(self._index(row))
        label = int(self.labels[row])
        if label < 0:
            raise BadRow("label", f"{read.key}: its label cannot be read.")
        return read, label


def _stride(count: int) -> int:
    """About the golden section of `count` and coprime to it: strides visit every row once, evenly spread."""
    stride = max(1, round(count * GOLDEN))
    while math.gcd(stride, count) != 1:
        stride += 1
    return stride
