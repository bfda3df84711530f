"""One row of a training set: image, feature and landmark picture read, decoded and judged."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.formats.dataset import Dataset, Record
from v2f_engine.data.gate.decode import decode
from v2f_engine.data.gate.resize import Resized
from v2f_engine.data.training.features_file import Features, parse_feature, unusable_rows
from v2f_engine.data.training.rows import BadRow
from v2f_engine.errors import DatasetError, VectorError

PROBED = 64
"""Records that are looked at to learn whether records hold features and landmarks, and of which length."""


class Row(NamedTuple):
    """One row, decoded: uint8 `[112, 112, 3]` image, float32 `[D]` feature or None, the landmark picture or None."""

    image: NDArray[np.uint8]
    feature: NDArray[np.float32] | None
    landmark: NDArray[np.uint8] | None
    key: str


class RowReader:
    """Reads an image of a dataset with what belongs to it.

    Args:
        dataset: the images.
        features: `[N, D]` beside the dataset; None when records hold them, or when there are none.
        feature_rows: int64 `[len(dataset)]`, where the feature of each image stands in `features`; None where
            there is one for every image.
        in_records: whether features are read from the records.
        with_landmarks: whether landmark pictures are read from the records.
        checked: whether all `features` were found usable when they were opened.
    """

    def __init__(
        self,
        dataset: Dataset,
        features: Features | None = None,
        *,
        feature_rows: NDArray[np.int64] | None = None,
        in_records: bool = False,
        with_landmarks: bool = False,
        checked: bool = True,
    ) -> None:
        self.dataset, self.with_landmarks = dataset, with_landmarks
        self._features, self._feature_rows, self._in_records = features, feature_rows, in_records
        self._checked = checked
        _ = dataset.resized  # made here, once: threads would each make their own
        self.feature_dim = None if features is None else int(features.shape[1])
        if in_records:
            self.feature_dim = probe(dataset).feature_dim

    @cached_property
    def _unusable(self) -> frozenset[int]:
        """Rows of the features that hold no feature: one pass over all of them."""
        if self._features is None or self._checked:
            return frozenset()
        return frozenset(unusable_rows(self._features).tolist())

    def read(self, index: int) -> Row:
        """Image `index` of the dataset with its feature and landmark picture.

        Raises:
            BadRow: it cannot be used.
        """
        where = self.dataset.where(index)
        record = self._record(index, where)
        image = _picture(record.image, where, "image", self.dataset.resized, index)
        landmark = None
        if self.with_landmarks:
            if record.landmark is None:
                raise BadRow("landmark", f"{where}: expected a landmark picture in the record, found none.")
            landmark = _picture(record.landmark, f"{where}: landmark picture", "landmark", Resized(1), 0)
        return Row(image, self._feature(record, index, where), landmark, where)

    def _record(self, index: int, where: str) -> Record:
        try:
            return self.dataset.parts(index)
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
        if len(feature) != self.feature_dim:
            raise BadRow(
                "feature dimension",
                f"{where}: expected a feature of {self.feature_dim} numbers, found {len(feature)}.",
            )
        return feature


def _picture(data: bytes, where: str, kind: str, resized: Resized, index: int) -> NDArray[np.uint8]:
    """The picture at 112x112, counted by `resized` as number `index` where it had another size."""
    try:
        return resized.face(decode(data, where), index, where)
    except DatasetError as error:
        raise BadRow(kind, str(error)) from error


@dataclass(frozen=True)
class Probe:
    """What the first records of a dataset hold.

    Args:
        feature_dim: most frequent length of a feature, or None without features.
        landmarks: whether most records have a landmark picture.
    """

    feature_dim: int | None
    landmarks: bool


def probe(dataset: Dataset) -> Probe:
    """Looks at the first readable records; broken ones do not decide."""
    if not dataset.composite:
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
