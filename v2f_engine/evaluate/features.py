"""Images of any source into a table of features with labels: what every measurement starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from v2f_engine.batch import ImageBatch
from v2f_engine.errors import VectorError
from v2f_engine.models.feature_health import judge_features
from v2f_engine.scores import label_groups
from v2f_engine.vectors.gate import check_vectors

if TYPE_CHECKING:
    from torch import nn

    from v2f_engine.data import Dataset

CHUNK = 256


@dataclass(frozen=True)
class FeatureTable:
    """Features of images, with the identity of each.

    Args:
        features: float32 `[N, D]`, finite, no zero norm, not all of one direction.
        labels: int64 `[N]`, identity of each row; any numbers. Identities are ordered by their number.

    Raises:
        VectorError: bad rows, features of a collapsed recogniser, labels that do not fit, or fewer than two
            identities.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        rows = check_vectors(self.features, "features", allow_duplicates=True, dimension=None)
        labels = np.asarray(self.labels)
        if labels.shape != (len(rows),) or labels.dtype.kind not in "iu":
            raise VectorError(
                f"labels must be integers [{len(rows)}], one per feature, "
                f"found {labels.dtype} {list(labels.shape)}."
            )
        if len(np.unique(labels)) < 2:
            raise VectorError("Measuring how far apart identities are needs two of them or more, found one.")
        judge_features(rows).check("features")
        object.__setattr__(self, "features", rows)
        object.__setattr__(self, "labels", labels.astype(np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def units(self) -> NDArray[np.float32]:
        """Features scaled to norm 1, float32 `[N, D]`."""
        norm = np.linalg.norm(self.features.astype(np.float64), axis=1, keepdims=True)
        units: NDArray[np.float32] = (self.features / norm).astype(np.float32)
        return units

    @property
    def groups(self) -> list[NDArray[np.int64]]:
        """Rows of each identity, in ascending order of the identity's number."""
        return label_groups(self.labels)

    @property
    def centres(self) -> NDArray[np.float32]:
        """Mean of each identity's unit features, float32 `[identities, D]`, in the order of `groups`."""
        units = self.units
        return np.stack([units[group].mean(axis=0) for group in self.groups])


def read_features(
    source: Dataset | Iterable[ImageBatch],
    recogniser: nn.Module,
    *,
    flip_sum: bool = False,
    bf16: bool = False,
    seen: Callable[[ImageBatch], None] | None = None,
) -> FeatureTable:
    """Features of every image of a dataset or of an iterable of batches, in one pass, in bounded memory.

    Args:
        source: what `data.open_dataset` gives, or batches from rendering or `Engine.images`.
        recogniser: in eval mode; see `models.weights.load_recogniser`.
        flip_sum, bf16: as in `models.features.extract_features`.
        seen: called with each batch of images, e.g. to keep some for a picture or to show progress.

    Raises:
        DatasetError: a broken image. VectorError: fewer than two identities.
    """
    from v2f_engine.models.features import extract_features

    features, labels = [], []
    for batch in _batches(source):
        features.append(extract_features(recogniser, batch.images, flip_sum=flip_sum, bf16=bf16))
        labels.append(batch.identity)
        if seen is not None:
            seen(batch)
    if not features:
        raise VectorError("The source holds no images: nothing to measure.")
    return FeatureTable(np.concatenate(features), np.concatenate(labels))


def _batches(source: Dataset | Iterable[ImageBatch]) -> Iterator[ImageBatch]:
    from v2f_engine.data import Dataset

    return source.batches(CHUNK) if isinstance(source, Dataset) else iter(source)
