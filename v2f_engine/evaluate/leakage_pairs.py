"""How many of all pairs of two sets are above some cosines: of rows, and of people. Exact, in bounded memory.

The published table counts identity **pairs**: every generated identity with every real one. A row has such a pair only
where its nearest neighbour is above, so after the search for those (`v2f_kernels.nearest_cosine`) a float32 product of
the few rows that are left, block by block, counts all of them, and what lies within its rounding of a threshold is
decided by the float64 cosine (`v2f_kernels._cosine`, as in that search).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from v2f_kernels._rows import BAND, blocks, decide, lengths, unit

ROWS, BLOCK = 1024, 8192
"""Synthetic and gallery rows a product: 32 MiB of float32."""
LEVELS = 2**26
"""Bytes of the table of people against people, when the rows of one person lie anywhere in a gallery."""

Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """Pairs above one threshold.

    Args:
        count: above it.
        total: all pairs of the two sets.
        share: count by total, in [0, 1].
    """

    count: int
    total: int
    share: float

    @classmethod
    def of(cls, count: int, left: int, right: int) -> Pairs:
        return cls(int(count), left * right, int(count) / (left * right))


@dataclass(frozen=True)
class PairCounts:
    """Counts above each threshold.

    Args:
        rows: of pairs of rows.
        people: of pairs of people with at least one pair of rows above; None without labels on either side.
        decided: pairs of rows within the product's rounding of a threshold, decided in float64.
    """

    rows: tuple[Pairs, ...]
    people: tuple[Pairs, ...] | None
    decided: int


def count_pairs(
    synthetic: Vectors,
    gallery: Vectors,
    nearest: NDArray[np.float64],
    thresholds: Sequence[float],
    *,
    labels: Labels | None = None,
    gallery_labels: Labels | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PairCounts:
    """Pairs whose float64 cosine is above each threshold.

    Args:
        synthetic, gallery: float32 `[N, D]` and `[M, D]`, D at most 1024; memory maps are read in blocks.
        nearest: float64 `[N]`, the largest cosine of each synthetic row, from `nearest_cosine`.
        thresholds: at least one, in any order.
        labels, gallery_labels: int64 `[N]` and `[M]`, the person of each row; without, each row is one.
        progress: called with (synthetic rows done, rows that have a pair above the lowest threshold).

    Raises:
        ValueError: rows without direction.
    """
    steps = np.unique(np.asarray(thresholds, np.float64))
    rows = np.flatnonzero(nearest > steps[0])
    by_people = labels is not None or gallery_labels is not None
    people, left = _numbered(labels, len(synthetic))
    others, right = _numbered(gallery_labels, len(gallery))
    rows = rows[np.argsort(people[rows], kind="stable")]
    person = np.unique(people[rows], return_inverse=True)[1].reshape(-1)  # 0, 1, ... of those that are left
    norms = _norms(gallery) if len(rows) else np.empty(0)
    found, met, decided = np.zeros(len(steps) + 1, np.int64), np.zeros(len(steps), np.int64), 0
    # The rows of a gallery's person may lie in any block: then one table for all of them.
    wide = by_people and gallery_labels is not None
    for group in _groups(person, LEVELS // right if wide else ROWS):
        base, size = person[group.start], int(person[group.stop - 1] - person[group.start]) + 1
        table = np.zeros((size, right if wide else 0), np.uint8)
        for first, y in blocks(gallery, BLOCK):
            if by_people and not wide:
                table = np.zeros((size, len(y)), np.uint8)
            for start in range(group.start, group.stop, ROWS):
                part = slice(start, min(group.stop, start + ROWS))
                i, j, level, close = _above(synthetic[rows[part]], y, norms[first : first + len(y)], steps)
                found += np.bincount(level, minlength=len(found))
                decided += close
                if by_people:
                    whom = others[first + j] if wide else j
                    np.maximum.at(table, (person[part][i] - base, whom), level.astype(np.uint8))
            if by_people and not wide:
                met += _levels(table, len(steps))
        met += _levels(table, len(steps)) if wide else 0
        if progress is not None:
            progress(group.stop, len(rows))
    above = np.cumsum(found[::-1])[::-1][1:]
    places = np.searchsorted(steps, np.asarray(thresholds, np.float64))
    return PairCounts(
        tuple(Pairs.of(above[place], len(synthetic), len(gallery)) for place in places),
        tuple(Pairs.of(met[place], left, right) for place in places) if by_people else None,
        decided,
    )


def centres(features: Vectors, labels: Labels | None) -> Vectors:
    """Mean of each person's features as they are, float32 `[P, D]`, people ascending; without labels the rows.

    As the published `scripts/center_features.py` takes it: features are not brought to one length first.
    """
    if labels is None:
        return features
    numbers, count = _numbered(labels, len(features))
    sums = np.zeros((count, features.shape[1]))
    for first, part in blocks(features, BLOCK):
        np.add.at(sums, numbers[first : first + len(part)], part)
    return (sums / np.bincount(numbers)[:, None]).astype(np.float32)


def _numbered(labels: Labels | None, rows: int) -> tuple[Labels, int]:
    """(the people of the rows as 0, 1, ..., how many); each row is one without labels."""
    if labels is None:
        return np.arange(rows), rows
    known, numbers = np.unique(labels, return_inverse=True)
    return numbers.reshape(-1), len(known)


def _norms(gallery: Vectors) -> NDArray[np.float64]:
    return np.concatenate([lengths("gallery", part, first) for first, part in blocks(gallery, BLOCK)])


def _groups(person: Labels, most: int) -> Iterator[slice]:
    """Rows of whole people: at most `most` of them and ROWS rows, unless one person has more."""
    starts = np.append(np.flatnonzero(np.diff(person, prepend=-1)), len(person))
    first = 0
    while first < len(starts) - 1:
        last = int(np.searchsorted(starts, starts[first] + ROWS, side="right")) - 1
        last = max(first + 1, min(last, first + max(1, most)))
        yield slice(int(starts[first]), int(starts[last]))
        first = last


def _above(
    synthetic: Vectors, y: Vectors, ny: NDArray[np.float64], steps: NDArray[np.float64]
) -> tuple[Labels, Labels, Labels, int]:
    """(row, gallery row, steps it is above) `[P]` of pairs about or above the lowest step; how many were close."""
    x = np.ascontiguousarray(synthetic, np.float32)
    nx = lengths("synthetic", x)
    screen = (unit(x, nx) @ y.T) * (1.0 / ny).astype(np.float32)
    i, j = np.nonzero(screen > np.float32(steps[0] - BAND))
    about = screen[i, j].astype(np.float64)
    level = np.searchsorted(steps, about - BAND, side="left")
    close = np.flatnonzero(level != np.searchsorted(steps, about + BAND, side="left"))
    level[close] = np.searchsorted(steps, decide(x, y, nx, ny, i[close], j[close]), side="left")
    return i, j, level, len(close)


def _levels(table: NDArray[np.uint8], steps: int) -> Labels:
    """int64 `[steps]`: entries that are above step 0, 1, ..."""
    return np.array([np.count_nonzero(table > step) for step in range(steps)], np.int64)
