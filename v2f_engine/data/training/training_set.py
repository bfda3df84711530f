"""Opens what a trainer is to read: images and labels in any format, and for a generator their features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine import npy
from v2f_engine.arguments import ARRAY_OR_PATH, PATH, SWITCH, WORD, takes
from v2f_engine.config import one_of
from v2f_engine.data.formats import open_dataset
from v2f_engine.data.training.features_file import Features, check_features, check_record, map_features
from v2f_engine.data.training.row_reader import RowReader, probe
from v2f_engine.data.training.stored_set import StoredSet
from v2f_engine.errors import DatasetError, VectorError


@takes(
    path=PATH, features=ARRAY_OR_PATH, subset=ARRAY_OR_PATH, split=WORD, on_bad=WORD,
    with_features=SWITCH, with_landmarks=SWITCH,
)  # fmt: skip
def open_training_set(
    path: str | Path,
    features: str | Path | Features | None = None,
    subset: str | Path | NDArray[np.int64] | None = None,
    *,
    split: str | None = None,
    on_bad: str = "refuse",
    with_features: bool | None = None,
    with_landmarks: bool | None = None,
) -> StoredSet:
    """Opens a dataset for training; rows are read on demand (`MemorySet.load` reads them all at once).

    Args:
        path: a dataset in any format: LMDB (published or ours), ImageFolder, WebDataset, RecordIO, Parquet.
        features: `.npy` `[N, D]` or an array, one row per image of the dataset, or one per row of `subset`; None
            when `path` is an LMDB of the generator variant, whose records hold them.
        subset: `.npy` of row numbers, or an array: the published code's index mask.
        split: which of several sets at `path` (`train`, `test`); None where there is one.
        on_bad: what becomes of a row that cannot be used: "refuse" raises and names it, "skip" replaces it by
            another row and notes it in `bad`.
        with_features: True refuses a set without features, False does not read them; None takes what is there.
        with_landmarks: the same for landmark pictures.

    Raises:
        DatasetError: no such dataset, or one without what was asked for.
        VectorError: features of the wrong shape, dtype or length, or (refused) content; row numbers are given.
    """
    if features is not None and not isinstance(features, (str, Path)):
        features = np.asarray(features)
    if subset is not None and not isinstance(subset, (str, Path)):
        subset = np.asarray(subset)
    skip = one_of("on_bad", on_bad, ("refuse", "skip")) == "skip"
    dataset = open_dataset(path, split=split)
    held = probe(dataset)
    rows = None if subset is None else _subset(subset, len(dataset))
    checked = places = None
    if features is not None and with_features is not False:
        length = len(npy.map_file(features) if isinstance(features, (str, Path)) else features)
        if rows is not None and length == len(rows) != len(dataset):
            places = np.full(len(dataset), -1, np.int64)
            places[rows] = np.arange(length)
        else:
            length = len(dataset)
        checked = (map_features if skip else check_features)(features, length)
    in_records = features is None and with_features is not False and held.feature_dim is not None
    if with_features and checked is None and not in_records:
        raise DatasetError(
            f"{path} holds no features. Give a .npy of features [{len(dataset)}, 512] (`v2f features` makes "
            "one), or an LMDB whose records are (jpeg, feature, label)."
        )
    if with_landmarks and not held.landmarks:
        raise DatasetError(
            f"{path} holds no landmark pictures; expected an LMDB of (jpeg, feature, label, landmark jpeg)."
        )
    reader = RowReader(
        dataset,
        checked,
        feature_rows=places,
        in_records=in_records,
        with_landmarks=held.landmarks if with_landmarks is None else with_landmarks,
        checked=not skip,
    )
    opened = StoredSet(reader, rows, skip=skip)
    if checked is not None and isinstance(features, (str, Path)) and (subset is None or places is not None):
        check_record(features, opened.dataset_labels())
    return opened


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
