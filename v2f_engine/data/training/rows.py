"""What every trainer reads, whatever it is stored in: rows of (image, label, feature), by number, and the bad ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.gate.resize import Resized
from v2f_engine.errors import DatasetError

RowNumbers = Sequence[int] | NDArray[np.int64]

KINDS = ("record", "image", "label", "no feature", "feature", "feature dimension", "landmark")
"""What can be wrong: a damaged record, an unreadable or misshapen image, an unreadable label, a feature that
is missing, broken (or NaN, infinite, zero), or of another length, an unreadable landmark picture."""
LISTED = 1000
"""Rows that a report names; it counts them all."""


class BadRow(DatasetError):
    """A row that cannot be used.

    Args:
        kind: of `KINDS`.
        message: names the row, what was expected and what was found.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class BadRows:
    """What was found so far; each row counts once. Safe in threads."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[str, str]] = {}

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, row: int) -> bool:
        return row in self._found

    def add(self, row: int, kind: str, reason: str) -> None:
        """Notes row `row`; the first reason stays."""
        self._found.setdefault(row, (kind, reason))

    def dump(self) -> dict[str, list[str]]:
        """JSON values that `restore` takes: a resumed run knows what was found before."""
        return {str(row): [kind, reason] for row, (kind, reason) in sorted(self._found.items())}

    def restore(self, dumped: dict[str, list[str]]) -> None:
        """Adds what `dump` gave."""
        for row, (kind, reason) in dumped.items():
            self.add(int(row), kind, reason)

    def report(self) -> dict[str, Any]:
        """JSON values: `count`, counts `by_kind`, and the first thousand `rows` with their reasons."""
        found = sorted(self._found.items())
        return {
            "count": len(found),
            "by_kind": dict(sorted(Counter(kind for _, (kind, _) in found).items())),
            "rows": [{"row": row, "kind": kind, "reason": text} for row, (kind, text) in found[:LISTED]],
        }


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

    @property
    def resized(self) -> Resized:
        """Pictures read so far that were not 112x112."""
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
