"""Measures of a set resampled over its identities: how much would they differ, had other people been drawn?

A resample draws as many identities as there are, with replacement (Bolle et al. 2004, the subset bootstrap). One drawn
w times counts w-fold, so a genuine pair has the weight of its person, a pair of two people the product of theirs; a
person drawn twice is no stranger to himself. No score is computed again, so 1,000 resamples of 1,000 identities with
ten images each, 45,000 genuine and 2,000,000 impostor pairs, take two seconds of one core.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from v2f_engine.randomness import Purpose, bits

RESAMPLES, FEWER, DRAWS = 1000, 200, 100_000_000
"""An end of 95 % rests on 25 of 1,000 resamples, and the deviation of a measure is known to 2 %. Above 100,000
identities as many as need that many draws, 200 at least, are enough: intervals are narrow there."""
WORDS = 2_000_000
"""Draws at a time: 16 MB."""
GRID = 768
"""Thresholds of error rates, a constant factor of the false-match rate apart: 2 % where it runs over six decades; fewer
above 20,000 identities, whose pairs below each are counted one identity a row."""
CELLS = 2**24
BIN = 1024
"""Impostor pairs between two thresholds that are looked at one by one; of more an even sample stands for all: the rate
at a threshold moves by less than 1 % of itself, where identities move it by several."""
PAIRS = 4096
"""Pairs whose weights are multiplied at a time."""
MOMENT_PAIRS = 50_000
"""Impostor pairs, evenly spread, that tell the mean and deviation of all."""

Floats = NDArray[np.float64]
Progress = Callable[[int, int], None]


def resamples_of(identities: int) -> int:
    """How many resamples a set of so many identities gets."""
    return int(np.clip(DRAWS // max(1, identities), FEWER, RESAMPLES))


def weights(identities: int, resamples: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """How often each identity is drawn: float32 `[r, identities]` at a time, `resamples` rows in all."""
    block = max(1, min(resamples, WORDS // identities, 128))
    for start in range(0, resamples, block):
        rows = np.arange(start, min(resamples, start + block))
        words = bits(seed, Purpose.BOOTSTRAP, rows, 0, identities).astype(np.uint64)
        drawn = (words * np.uint64(identities) >> np.uint64(32)).astype(np.int64)
        drawn += (rows - start)[:, None] * identities
        counts = np.bincount(drawn.ravel(), minlength=len(rows) * identities)
        yield counts.reshape(len(rows), identities).astype(np.float32)


class ErrorRates:
    """Equal error rate and true-match rates of weighted identities.

    Args:
        genuine: float32 `[G]`, cosines of pairs of one identity, and whose they are, int64 `[G]`.
        impostor: float32 `[P]`, and whose they are, int64 `[P, 2]`; distinct pairs, all or drawn from all.
        images: int64 `[I]`, of each identity.
        rates: false-match rates at which the true-match rate is told.
        near: about where the equal error rate lies; pairs far below its threshold are not looked at.
    """

    def __init__(
        self,
        genuine: tuple[NDArray[np.float32], NDArray[np.int64]],
        impostor: tuple[NDArray[np.float32], NDArray[np.int64]],
        images: NDArray[np.int64],
        *,
        rates: tuple[float, ...],
        near: float,
    ) -> None:
        self.rates = rates
        self._images = images.astype(np.float64)
        scores, who = impostor
        share = min(1.0, max(2 * near + 0.02, 2 * max(rates, default=0.0)))
        tail = np.argsort(scores, kind="stable")[::-1][: max(1, int(np.ceil(share * len(scores))))]
        grid = min(GRID, len(tail), max(128, CELLS // len(images)))
        ranks = np.unique(np.geomspace(1, len(tail), grid).astype(np.int64))
        reached = np.unique(scores[tail[ranks - 1]])
        self.thresholds = np.append(
            reached, np.nextafter(reached[-1], np.float32(np.inf))
        )  # the last by no stranger
        tail = tail[::-1]  # ascending, so that the pairs of a bin stand together
        edges = np.append(np.searchsorted(scores[tail], reached), len(tail))
        chosen, starts, scale = [], [], []
        at = 0
        for low, high in itertools.pairwise(edges.tolist()):
            step = -(-(high - low) // BIN)
            rows = tail[low:high:step]
            chosen.append(rows)
            starts.append(at)
            scale.append((high - low) / len(rows))
            at += len(rows)
        self._pairs = who[np.concatenate(chosen)]
        self._starts, self._scale = np.array(starts), np.array(scale)
        all_pairs = (self._images.sum() ** 2 - (self._images**2).sum()) / 2
        self._drawn = len(scores) / all_pairs
        self._genuine = self._counted(*genuine, len(images))

    def _counted(
        self, scores: NDArray[np.float32], who: NDArray[np.int64], identities: int
    ) -> NDArray[np.float32]:
        """float32 `[I, T + 1]`: pairs of each identity below each threshold, and in the last column all of them."""
        reached = np.searchsorted(self.thresholds, scores, side="right")
        columns = len(self.thresholds) + 1
        flat = np.bincount(who * columns + reached, minlength=identities * columns)
        return cast("NDArray[np.float32]", flat.reshape(identities, columns).cumsum(axis=1, dtype=np.float32))

    def __call__(self, drawn: NDArray[np.float32]) -> Floats:
        """float64 `[R, 1 + rates]` of weights `[R, I]`: the equal error rate, then the true-match rates."""
        below = drawn @ self._genuine
        miss = below[:, :-1] / np.maximum(below[:, -1:], 1)
        whole = drawn * self._images
        total = (whole.sum(axis=1) ** 2 - (whole**2).sum(axis=1)) / 2 * self._drawn
        false = np.append(
            self._above(drawn) / np.maximum(total, 1)[:, None], np.zeros((len(drawn), 1)), axis=1
        )
        found = [_crossing(miss - false, miss), *(1 - _crossing(rate - false, miss) for rate in self.rates)]
        return np.stack(found, axis=1)

    def _above(self, drawn: NDArray[np.float32]) -> Floats:
        """float64 `[R, T]`: weight of the impostor pairs at each threshold or above."""
        columns = np.ascontiguousarray(drawn.T)
        bins = np.zeros((len(self._starts), len(drawn)))
        for start in range(0, len(self._pairs), PAIRS):
            some = self._pairs[start : start + PAIRS]
            product = columns[some[:, 0]]
            product *= columns[some[:, 1]]
            first = int(np.searchsorted(self._starts, start, side="right")) - 1
            last = int(np.searchsorted(self._starts, start + len(some), side="left"))
            cuts = np.maximum(self._starts[first:last] - start, 0)
            bins[first:last] += np.add.reduceat(product, cuts, axis=0)
        bins *= self._scale[:, None]
        return bins[::-1].cumsum(axis=0)[::-1].T


def _crossing(rising: Floats, value: Floats) -> Floats:
    """`value` where `rising` passes zero, along the last axis, between two places in proportion; `[R]`."""
    rows = np.arange(len(rising))
    after = np.argmax(rising >= 0, axis=1)
    before = np.maximum(after - 1, 0)
    low, high = rising[rows, before], rising[rows, after]
    part = np.where(high > low, np.clip(-low / np.where(high > low, high - low, 1), 0, 1), 1.0)
    return cast(Floats, value[rows, before] * (1 - part) + value[rows, after] * part)


@dataclass(frozen=True)
class Ratio:
    """A mean over what identities bring.

    Args:
        sums: float64 `[I]`, of each identity.
        counts: float64 `[I]`, how many values are in its sum.
    """

    sums: Floats
    counts: Floats


@dataclass(frozen=True)
class Moments:
    """Mean and deviation of values of which each belongs to one identity: `[I]` sums, sums of squares, counts."""

    sums: Floats
    squares: Floats
    counts: Floats

    def __call__(self, drawn: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """(means, variances), float64 `[R]` each."""
        counts = np.maximum(drawn @ self.counts, 1e-12)
        mean = drawn @ self.sums / counts
        return mean, np.maximum(drawn @ self.squares / counts - mean**2, 0)


def moments(values: NDArray[np.floating], who: NDArray[np.int64], identities: int) -> Moments:
    """Of values `[N]` and the identity of each, int64 `[N]` below `identities`."""
    found = values.astype(np.float64)

    def per(weights: Floats | None) -> Floats:
        return np.bincount(who, weights, minlength=identities).astype(np.float64)

    return Moments(per(found), per(found**2), per(None))


@dataclass(frozen=True)
class ImpostorMoments:
    """Mean and variance of impostor cosines; `scores` float64 `[P]` of `pairs` int64 `[P, 2]`."""

    scores: Floats
    pairs: NDArray[np.int64]

    @classmethod
    def of(cls, scores: NDArray[np.float32], pairs: NDArray[np.int64]) -> ImpostorMoments:
        """Of at most `MOMENT_PAIRS` of them."""
        step = -(-len(scores) // MOMENT_PAIRS)
        return cls(scores[::step].astype(np.float64), pairs[::step])

    def __call__(self, drawn: NDArray[np.float32]) -> tuple[Floats, Floats]:
        columns = np.ascontiguousarray(drawn.T)
        sums = np.zeros((3, len(drawn)))
        for start in range(0, len(self.scores), PAIRS):
            part = slice(start, start + PAIRS)
            product = columns[self.pairs[part, 0]] * columns[self.pairs[part, 1]]
            score = self.scores[part]
            sums += np.stack([np.ones_like(score), score, score**2]) @ product
        total = np.maximum(sums[0], 1e-12)
        mean = sums[1] / total
        return mean, np.maximum(sums[2] / total - mean**2, 0)


def ratios(named: Mapping[str, Ratio], drawn: NDArray[np.float32]) -> dict[str, Floats]:
    """Name -> float64 `[R]`, the means of weighted identities."""
    return {name: drawn @ one.sums / np.maximum(drawn @ one.counts, 1e-12) for name, one in named.items()}
