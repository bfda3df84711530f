"""Similarity scores: what a threshold accepts, and where genuine and impostor errors meet."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import ConfigError

TELLING = 10
"""Impostor pairs above a threshold before its rate is one to rely on: +-32 % (one standard error)."""


CHUNK = 1024
"""Pairs whose features are gathered at a time: 4 MiB of two rows of 512, which stay in the cache; 1.8 times as fast as
65,536 (1.0 us a pair)."""
ENUMERATED = 4
"""Where there are up to so many times the pairs asked for, all are listed and drawn from; else repeats are dropped."""


def genuine_impostor(
    features: NDArray[np.float32], labels: NDArray[np.int64], *, impostors: int = 2_000_000, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosines of all pairs of one label, and of distinct pairs of two: all of them where there are no more.

    Both kinds come from one arithmetic, pair by pair: a matrix product here and a sum of products there differ in the
    last bit, which gave a recogniser that answers every picture alike an equal error rate of 0 or 100 %.

    Args:
        features: float32 `[N, D]`, any norm above zero.
        labels: int64 `[N]`.
        impostors: at most so many pairs of two labels.
        seed: of their draw.

    Returns:
        genuine float32 `[G]`, by label and within it by row; impostor float32 `[I]`.
    """
    return scores_of(features, labels, impostor_pairs(labels, impostors, seed))


def scores_of(
    features: NDArray[np.float32], labels: NDArray[np.int64], different: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """As `genuine_impostor`, of given pairs of two labels, int64 `[P, 2]`."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    genuine = [np.empty(0, np.float32)]
    for group in label_groups(labels):
        first, second = np.triu_indices(len(group), 1)
        genuine.append(_cosines(unit, np.stack([group[first], group[second]], axis=1)))
    return np.concatenate(genuine), _cosines(unit, different)


def label_groups(labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows of each label, in ascending order of the labels."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)


def impostor_count(labels: NDArray[np.int64]) -> int:
    """Pairs of rows that have two labels."""
    counts = np.unique(labels, return_counts=True)[1].astype(np.int64)
    return (len(labels) ** 2 - int((counts**2).sum())) // 2


def impostor_pairs(labels: NDArray[np.int64], limit: int, seed: int = 0) -> NDArray[np.int64]:
    """int64 `[P, 2]`: distinct pairs of rows of two labels, the smaller row first; all of them, or `limit` drawn.

    Every pair is equally likely, however unequal the labels' counts: what is drawn is one of all ordered pairs.
    """
    total = impostor_count(labels)
    groups = label_groups(labels)
    order = np.concatenate(groups)
    sizes = np.repeat([len(group) for group in groups], [len(group) for group in groups])
    starts = np.repeat(
        np.cumsum([0, *(len(group) for group in groups[:-1])]), [len(group) for group in groups]
    )
    ends = np.cumsum(len(labels) - sizes)  # ordered pairs up to each row, its own label's rows left out

    def pairs(ordered: NDArray[np.int64]) -> NDArray[np.int64]:
        place = np.searchsorted(ends, ordered, side="right")
        other = ordered - (ends[place] - (len(labels) - sizes[place]))
        other = np.where(other < starts[place], other, other + sizes[place])
        one, two = order[place], order[other]
        return np.stack([np.minimum(one, two), np.maximum(one, two)], axis=1)

    generator = np.random.Generator(np.random.Philox(key=seed))
    if total <= ENUMERATED * limit:
        found = pairs(np.arange(2 * total, dtype=np.int64))
        found = found[np.unique(found[:, 0] * len(labels) + found[:, 1], return_index=True)[1]]
        return found if total <= limit else found[np.sort(generator.choice(total, limit, replace=False))]
    drawn = np.empty((0, 2), np.int64)
    while len(drawn) < limit:
        drawn = np.concatenate([drawn, pairs(generator.integers(0, 2 * total, limit - len(drawn) // 2))])
        drawn = drawn[_firsts(drawn[:, 0] * len(labels) + drawn[:, 1])]
    return drawn[:limit]


def _firsts(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each value of `[N]` is first seen, in order.

    Key and place in one number are sorted three times as fast as `np.unique` finds first places.
    """
    bits = len(keys).bit_length()
    if int(keys.max(initial=0)) >> (62 - bits):
        return np.sort(np.unique(keys, return_index=True)[1])
    both = np.sort(keys << bits | np.arange(len(keys)))
    ranked = both >> bits
    first = np.flatnonzero(np.diff(ranked, prepend=-1))
    return np.sort(both[first] & ((1 << bits) - 1))


def _cosines(unit: NDArray[np.float32], pairs: NDArray[np.int64]) -> NDArray[np.float32]:
    """float32 `[P]`: of rows of length 1."""
    cosines = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), CHUNK):
        part = pairs[start : start + CHUNK]
        cosines[start : start + CHUNK] = np.einsum("nd,nd->n", unit[part[:, 0]], unit[part[:, 1]])
    return cosines


def equal_error_rate(genuine: NDArray[np.float32], impostor: NDArray[np.float32]) -> tuple[float, float]:
    """(error rate, threshold) where false matches and false non-matches are equally frequent.

    The rate is the mean of both errors at the threshold where they cross, both being step functions.
    """
    if not len(genuine) or not len(impostor):
        raise ConfigError(
            f"EER needs both kinds of pairs, found {len(genuine)} genuine, {len(impostor)} impostor."
        )
    g, i = np.sort(genuine), np.sort(impostor)
    thresholds = np.unique(np.concatenate([g, i]))
    miss = np.searchsorted(g, thresholds, side="left") / len(g)
    false = 1.0 - np.searchsorted(i, thresholds, side="left") / len(i)
    at = int(np.argmin(np.abs(miss - false)))
    return float((miss[at] + false[at]) / 2), float(thresholds[at])


def require_pairs(pairs: int, fmr: float, telling: int = TELLING) -> None:
    """Raises ConfigError unless `fmr` is in (0, 1) and `telling` of that many impostor pairs are above it."""
    if not 0 < fmr < 1:
        raise ConfigError(f"fmr must lie between 0 and 1, found {fmr!r}.")
    if pairs * fmr < telling:
        raise ConfigError(
            f"A false-match rate of {fmr:g} needs {math.ceil(telling / fmr):,} pairs of different identities "
            f"or more, found {pairs:,}. Give more identities or a higher rate."
        )


def threshold_at_fmr(impostor: NDArray[np.float32], fmr: float) -> float:
    """The lowest threshold at which at most a share `fmr` of impostor pairs scores at or above it.

    Raises:
        ConfigError: fewer than `1 / fmr` impostor pairs; to set a limit by, have TELLING times as many.
    """
    require_pairs(len(impostor), fmr, telling=1)
    allowed = int(np.floor(len(impostor) * fmr))
    ranked = np.sort(impostor)[::-1]
    return float(np.nextafter(ranked[allowed], np.float32(np.inf)))


class ScoreHistogram:
    """Cosines of any number of pairs in 2**20 bins over [-1, 1]: `threshold_at_fmr` to 2e-6 in 8 MiB."""

    BINS = 2**20

    def __init__(self) -> None:
        self._counts = np.zeros(self.BINS, np.int64)

    @property
    def count(self) -> int:
        """Pairs added."""
        return int(self._counts.sum())

    def add(self, cosines: NDArray[np.float32]) -> None:
        """Adds cosines of any shape; rounding beyond [-1, 1] counts as the end."""
        bins = ((cosines.ravel() + np.float32(1)) * np.float32(self.BINS / 2)).astype(np.int64)
        self._counts += np.bincount(np.clip(bins, 0, self.BINS - 1), minlength=self.BINS)

    def threshold_at_fmr(self, fmr: float) -> tuple[float, float]:
        """(lowest threshold that at most a share `fmr` reaches, the share that reaches it).

        Raises:
            ConfigError: as `require_pairs`.
        """
        require_pairs(self.count, fmr)
        reaching = np.append(np.cumsum(self._counts[::-1])[::-1], 0)  # pairs in bin b or above
        first = int(np.argmax(reaching <= fmr * self.count))
        return first * 2 / self.BINS - 1, float(reaching[first] / self.count)
