"""What every trainer reads, whatever it is stored in: rows of (image, label, feature), by number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.bad_rows import BadRows

RowNumbers = Sequence[int] | NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Some rows of a training set, in the order asked for.

    Args:
        images: uint8 `[B, 112, 112, 3]`, RGB.
        labels: int64 `[B]`, 0 .. classes - 1.
        features: float32 `[B, D]`, un-normalised, or None where the set has none.
        keys: what to call each row in messages; where a row was replaced, the replacement's key.
        landmarks: uint8 `[B, 112, 112, 3]` landmark pictures, or None.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    features: NDArray[np.float32] | None
    keys: list[str]
    landmarks: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.labels)


class TrainingSet(Protocol):
    """Rows by number. Reading is safe in threads; what is read depends on the row numbers alone."""

    @property
    def bad(self) -> BadRows:
        """Rows that could not be used, so far."""
        ...

    def __len__(self) -> int: ...

    @property
    def classes(self) -> int:
        """Number of identities."""
        ...

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64 `[N]`, 0 .. classes - 1; -1 where a row's label cannot be read and `on_bad` is "skip"."""
        ...

    @property
    def feature_dim(self) -> int | None:
        """Length of a feature, or None without features."""
        ...

    def read(self, rows: RowNumbers) -> Rows:
        """These rows, decoded. A bad row is replaced, or raises, as the set was opened."""
        ...

    def landmarks(self, rows: RowNumbers) -> NDArray[np.uint8] | None:
        """uint8 `[B, 112, 112, 3]` landmark pictures of the rows that `read` gives, or None."""
        ...
