"""What a measurement reads: a dataset through a recogniser, or features somebody has extracted already."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.config import one_of
from v2f_engine.errors import ConfigError, DatasetError, VectorError
from v2f_engine.evaluate.features import FeatureTable
from v2f_engine.vectors.streams import open_vectors

if TYPE_CHECKING:
    from v2f_engine.data import Dataset
    from v2f_engine.models.embedder import Reader
    from v2f_engine.models.weights import LoadedRecogniser

CHUNK = 256
VECTORS = (".npy", ".npz", ".pt", ".pth", ".safetensors")
"""Endings of files of vectors; everything else is a dataset."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class FeatureSource:
    """Features of a dataset or of a file.

    Args:
        name: for tables and files.
        features: float32 `[N, D]`; may be a memory map.
        labels: int64 `[N]`, or None where they are not known.
        dataset: the images, where there are any: row i of the features is its image `rows[i]`.
        rows: int64 `[N]`.
        recogniser: what read them, for reports.
        kind: `dataset`, `features`, or `identity table` for one of `v2f ids sample`.
    """

    name: str
    features: NDArray[np.float32]
    labels: NDArray[np.int64] | None = None
    dataset: Dataset | None = None
    rows: NDArray[np.int64] | None = None
    recogniser: dict[str, Any] = field(default_factory=dict)
    kind: str = "dataset"

    def table(self) -> FeatureTable:
        """Features with labels. Raises ConfigError where there are no labels."""
        if self.labels is None:
            raise ConfigError(
                f"{self.name}: this measurement needs labels, whose each row is: give the set itself, not features, "
                "or --labels, a .npy of integers, where the command has it."
            )
        return FeatureTable(np.asarray(self.features), self.labels)

    def image(self, row: int) -> NDArray[np.uint8] | None:
        """The image of a row, uint8 `[112, 112, 3]`, or None without images."""
        if self.dataset is None or self.rows is None:
            return None
        image: NDArray[np.uint8] = self.dataset.images([int(self.rows[row])])[0]
        return image

    def attribute(self, name: str) -> Any:
        """One column of the dataset's attributes, for the rows that were read.

        Raises:
            DatasetError: features alone, or a dataset without attributes. ConfigError: none of that name.
        """
        table = None if self.dataset is None else self.dataset.attributes()
        if table is None:
            raise DatasetError(f"{self.name} has no attributes to break down by.")
        names = [column for column in table.dtype.names or () if column not in ("identity", "image")]
        return table[one_of("attribute", name, names)][self.rows]


def open_source(
    path: Path,
    *,
    labels: Path | None = None,
    recogniser: LoadedRecogniser | Reader | Callable[[], LoadedRecogniser | Reader] | None = None,
    images_per_id: int | None = None,
    split: str | None = None,
    told: Callable[[list[str]], object] | None = None,
    flip_sum: bool = False,
    bf16: bool = False,
    progress: Progress | None = None,
) -> FeatureSource:
    """Features from a file, or of the images of a dataset in any format.

    Args:
        path: features `[N, D]` or a table of identities (`VECTORS`; a `.npy` of float32 is mapped), or a dataset.
        labels: `.npy` of integers `[N]` beside features.
        recogniser: reads a dataset's images; called only when needed.
        images_per_id: at most so many images of each identity; all by default.
        split: which of several sets at `path`; None where there is one.
        told: called with what a user should know of how a dataset is read.
        flip_sum, bf16: as in `models.features.extract_features`.
        progress: called with (images done, images in all).

    Raises:
        VectorError, DatasetError, ConfigError: as named.
    """
    if is_vectors(path):
        if split is not None:
            raise ConfigError(f"{path} is a file of features and has no split {split!r}; leave --split out.")
        features = open_vectors(path, dimension=None)
        if features.dtype != np.float32:  # other types are copied
            features = features.astype(np.float32)
        found = None if labels is None else read_labels(labels, len(features))
        reader = read_by(path)
        return FeatureSource(path.stem, features, found, recogniser=reader, kind=_kind(path))
    if labels is not None:
        raise ConfigError(f"{path} is a dataset and has labels of its own; leave --labels out.")
    from v2f_engine.data import open_dataset
    from v2f_engine.models.features import extract_features

    dataset = open_dataset(path, split=split)
    if told is not None:
        told(dataset.told())
    rows = first_of_each(dataset.labels, images_per_id)
    loaded = recogniser() if callable(recogniser) else recogniser
    if loaded is None:
        raise ConfigError(f"{path} holds images; give a recogniser to read them.")
    parts = []
    for start in range(0, len(rows), CHUNK):
        images = dataset.images(rows[start : start + CHUNK])
        parts.append(extract_features(loaded.model, images, flip_sum=flip_sum, bf16=bf16))
        if progress is not None:
            progress(start + len(images), len(rows))
    if told is not None and dataset.resized.counts:
        told([dataset.resized.line()])
    if not parts:
        raise VectorError(f"{path} holds no images: nothing to measure.")
    reader = {"name": loaded.name, "sha256": loaded.sha256, **getattr(loaded, "pixels", {})}
    reader |= dataset.resized.record()
    return FeatureSource(path.name, np.concatenate(parts), dataset.labels[rows], dataset, rows, reader)


def is_vectors(path: Path) -> bool:
    """Whether a path names features, and not a dataset, by its ending alone."""
    return path.suffix.lower() in VECTORS


def read_by(path: Path) -> dict[str, Any]:
    """The recogniser that `v2f features` noted beside a file of features; nothing where nobody noted any."""
    try:
        noted = json.loads(path.with_suffix(".json").read_text())["recogniser"]
        return {"name": str(noted["name"]), "sha256": str(noted["sha256"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _kind(path: Path) -> str:
    """What a file of vectors is, for records: only a table of ours says so of itself."""
    from v2f_engine.vectors.identities import FORMAT

    if path.suffix.lower() != ".safetensors":
        return "features"
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            return "identity table" if (file.metadata() or {}).get("format") == FORMAT else "features"
    except SafetensorError:  # another container under that name, which is read by what it holds
        return "features"


def first_of_each(labels: NDArray[np.int64], count: int | None) -> NDArray[np.int64]:
    """Rows of the first `count` images of each label, in order; all rows for None."""
    if count is None:
        return np.arange(len(labels), dtype=np.int64)
    order = np.argsort(labels, kind="stable")
    ranked = labels[order]
    start = np.flatnonzero(np.diff(ranked, prepend=ranked[:1] - 1))
    within = np.arange(len(order)) - np.repeat(start, np.diff(np.append(start, len(order))))
    return np.sort(order[within < count]).astype(np.int64)


def read_labels(path: Path, rows: int) -> NDArray[np.int64]:
    """Integers `[rows]` of a `.npy`.

    Raises:
        VectorError: another shape or type.
    """
    from v2f_engine import npy

    found = npy.map_file(path)
    if found.shape != (rows,) or found.dtype.kind not in "iu":
        raise VectorError(f"{path}: expected integers [{rows}], found {found.dtype} {list(found.shape)}.")
    return np.asarray(found, np.int64)
