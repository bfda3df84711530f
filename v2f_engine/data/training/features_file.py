"""Stored features: a `.npy` `[N, D]` beside a dataset, or the `.npy` bytes inside one of its records.

Un-normalised recogniser outputs, row i belonging to image i. Nothing is unpickled or allocated on trust.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine import npy
from v2f_engine.errors import VectorError

BLOCK_ROWS = 65_536
RECORD = ".json"
"""Ending of the record beside a `.npy` of features, which `v2f features` writes."""

Features = NDArray[np.floating[Any]]


def map_features(source: str | Path | Features, rows: int) -> Features:
    """Features `[rows, D]` of floating type; memory-mapped when read from a file.

    Raises:
        VectorError: another shape, type or length.
    """
    name = "features" if isinstance(source, np.ndarray) else str(source)
    array = source if isinstance(source, np.ndarray) else npy.map_file(source)
    if array.ndim != 2 or array.dtype.kind != "f" or len(array) != rows or array.shape[1] < 1:
        raise VectorError(
            f"{name}: expected floating-point features [{rows}, D], one row per image, found {array.dtype} "
            f"{array.shape}."
        )
    return array


def unusable_rows(features: Features) -> NDArray[np.int64]:
    """Numbers of the rows that hold NaN, infinity or nothing but zeros."""
    found = []
    for start in range(0, len(features), BLOCK_ROWS):
        block = features[start : start + BLOCK_ROWS]
        found.append(np.flatnonzero(~np.isfinite(block).all(axis=1) | ~block.any(axis=1)) + start)
    return np.concatenate([np.zeros(0, np.int64), *found]).astype(np.int64)


def check_features(source: str | Path | Features, rows: int) -> Features:
    """As `map_features`, and every row usable.

    Raises:
        VectorError: with the numbers of the first offending rows.
    """
    array = map_features(source, rows)
    bad = unusable_rows(array)
    if len(bad):
        name = "features" if isinstance(source, np.ndarray) else str(source)
        raise VectorError(
            f"{name}: rows {bad[:5].tolist()} hold NaN, infinity or nothing but zeros; extract them again, "
            'or open the set with on_bad="skip".'
        )
    return array


def parse_feature(data: bytes, where: str) -> NDArray[np.float32]:
    """The feature in the bytes of a `.npy`, as float32 `[D]`.

    Raises:
        VectorError: not a finite floating-point vector of just that many bytes, or nothing but zeros.
    """
    array = npy.from_bytes(data, where)
    if array.dtype.kind != "f" or not array.size:
        raise VectorError(f"{where}: expected one floating-point feature, found {array.dtype} {array.shape}.")
    feature = array.reshape(-1).astype(np.float32)
    if not np.isfinite(feature).all() or not feature.any():
        raise VectorError(f"{where}: the feature holds NaN, infinity or nothing but zeros.")
    return feature


def digest_of_labels(labels: NDArray[np.int64]) -> str:
    """sha256 that tells whether features and images are of one dataset, in one order."""
    return hashlib.sha256(np.ascontiguousarray(labels, "<i8").tobytes()).hexdigest()


def dataset_of(path: str | Path) -> tuple[str, str | None] | None:
    """(dataset, split) that features were extracted from, as the record beside them says; None without a record."""
    try:
        told = json.loads(Path(path).with_suffix(RECORD).read_bytes())["dataset"]
        return str(told["path"]), told.get("split")
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check_record(path: str | Path, labels: NDArray[np.int64]) -> None:
    """Compares the record beside a `.npy` of features, where there is one, with the dataset's labels.

    Raises:
        VectorError: the features were extracted from another dataset, or one in another order.
    """
    record = Path(path).with_suffix(RECORD)
    if not record.is_file():
        return
    try:
        recorded = json.loads(record.read_text())["labels_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VectorError(f"{record}: is damaged ({error!r}). Extract the features again.") from error
    if recorded != digest_of_labels(labels):
        raise VectorError(
            f"{path}: was extracted from another dataset, or from one in another order: {record} says so. "
            "Extract the features of this dataset (`v2f features`)."
        )
