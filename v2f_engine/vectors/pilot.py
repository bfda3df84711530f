"""A look at the first candidates of a stream: how often two are similar, how many survive, at what speed.

At least 1e7 pairs are looked at. When none is similar, the probability is taken from the formula for
isotropic directions at the pilot's effective dimension, and never above the pilot's 95 % limit (3 / pairs).

Real sources are uneven, so the pilot also runs the greedy rejection on its own candidates and fits the
acceptance formula to the number kept. Extrapolated 3 times beyond 18,432 candidates, ten sources (isotropic,
power-law spectra, off-centre, clustered) were predicted within 10 %; ln(1 + p n) / p was up to 96 % too low.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from v2f_kernels.reject_similar import Kept

from v2f_engine.backends import function, on_host
from v2f_engine.vectors.acceptance import accepted, isotropic_violation, poisson_bounds
from v2f_engine.vectors.sources import VectorSource

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
Clock = Callable[[], float]
"""Seconds so far: `time.perf_counter`, or `time.process_time` on a machine that does other things beside."""

FEWEST_ROWS, MOST_ROWS = 4608, 18_432
"""1.06e7 and 1.70e8 pairs."""
ENOUGH = 100
"""Fewer rejections than this say nothing about unevenness."""
TIMED_ROWS = 2048
"""Candidates that are timed: 3.4e7 pairs against 16,384."""
BLOCK = 512
BINS = 200
"""Histogram bins of width 0.01 over [-1, 1]."""


@dataclass(frozen=True)
class Pilot:
    """What the first candidates of a stream tell.

    Args:
        rows, pairs: candidates drawn and pairs looked at.
        violations: pairs with a cosine of max_cosine or more.
        kept: candidates that survive greedy rejection among the pilot's own.
        p, p_low, p_high: probability that a pair is similar: estimate and one-sided 95 % limits.
        counted: False when p comes from the formula because no similar pair was seen.
        fitted_p, dispersion: parameters of `acceptance.accepted` that give `kept` for `rows`; p and 0 when
            fewer than 100 candidates were rejected.
        cosine_dimension: 1 / E[cos^2], the dimension of isotropic directions with such cosines.
        histogram: int64 `[200]`, the pilot's cosines in bins of 0.01 from -1.
        candidates_per_second, pairs_per_second: rates of this machine and backend.
        backend: the rejection backend that was timed.
        degree: int64 `[rows]`, candidates that each is similar to.
        alive: bool `[rows]`, whether it is one of `kept`.
    """

    rows: int
    pairs: int
    violations: int
    kept: int
    p: float
    p_low: float
    p_high: float
    counted: bool
    fitted_p: float
    dispersion: float
    cosine_dimension: float
    histogram: Int64
    candidates_per_second: float
    pairs_per_second: float
    backend: str
    degree: Int64
    alive: NDArray[np.bool_]

    def predicted(self, candidates: float, share: float = 1.0) -> float:
        """Identities expected from that many candidates, with similar pairs `share` times as frequent."""
        return accepted(candidates, self.fitted_p * share, self.dispersion)


def run_pilot(
    source: VectorSource,
    max_cosine: float,
    *,
    seed: int = 0,
    backend: str = "auto",
    rows: int = MOST_ROWS,
    clock: Clock = time.perf_counter,
) -> Pilot:
    """Measures a source on the first candidates of `seed`.

    Args:
        source: where candidates come from.
        max_cosine: pairs with this cosine or more are similar.
        seed: the run's seed.
        backend: rejection backend to time, or `"auto"`.
        rows: candidates to draw; 18,432 take about 3 s on one core, 4,608 a quarter of a second.
        clock: tells the seconds that rates are of.
    """
    started = clock()
    vectors = source.candidates(seed, 0, rows)
    candidates_per_second = rows / (clock() - started)
    units = np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)
    histogram, squares = np.zeros(BINS, np.int64), 0.0
    degree, alive = np.zeros(rows, np.int64), np.ones(rows, bool)
    for start, cosines in _tiles(units):
        inside = cosines[cosines > -2]
        bins = np.clip((inside + 1) * (BINS / 2), 0, BINS - 1).astype(np.int64)
        histogram += np.bincount(bins, minlength=BINS)
        squares += float(np.dot(inside, inside))
        similar = cosines >= max_cosine
        i, j = np.nonzero(similar)
        np.add.at(degree, start + i, 1)
        np.add.at(degree, j, 1)
        for row in np.unique(i):
            alive[start + row] = not alive[: similar.shape[1]][similar[row]].any()
    name = on_host("reject_similar") if backend == "auto" else backend
    reject = function("reject_similar", name)
    rate = _rate(vectors, alive, max_cosine, reject, clock)
    p, low, high = estimate(degree)
    dimension = float(histogram.sum() / squares)
    likely = p or min(isotropic_violation(dimension, max_cosine), high)
    kept = int(alive.sum())
    fitted_p, dispersion = fit_acceptance(rows, kept, likely) if rows - kept >= ENOUGH else (likely, 0.0)
    return Pilot(
        rows=rows,
        pairs=rows * (rows - 1) // 2,
        violations=int(degree.sum()) // 2,
        kept=kept,
        p=likely,
        p_low=low,
        p_high=high,
        counted=p > 0,
        fitted_p=fitted_p,
        dispersion=dispersion,
        cosine_dimension=dimension,
        histogram=histogram,
        candidates_per_second=candidates_per_second,
        pairs_per_second=rate,
        backend=name,
        degree=degree,
        alive=alive,
    )


def _rate(
    vectors: Float32, alive: NDArray[np.bool_], max_cosine: float, reject: Callable[..., Int64], clock: Clock
) -> float:
    """Pairs/s of the last candidates against who survived of those before them, as a large table will meet them.

    Candidates among themselves would say less: with most of them rejected, 4,608 of `mini` gave 61 million pairs/s
    where its table then had 104 (one core, AVX2), and of the Gaussian 90 for 107.
    """
    start = max(1, len(vectors) - min(TIMED_ROWS, len(vectors) // 4))
    base = vectors[:start][alive[:start]]
    kept = Kept(vectors.shape[1], base=base)
    reject(base[:1], max_cosine, kept=kept)  # brings the base into the form that is compared
    timed = vectors[min(start, len(vectors) - 1) :]
    started = clock()
    survivors = reject(timed, max_cosine, kept=kept)
    seconds = max(1e-9, clock() - started)
    return len(timed) * (len(base) + len(survivors) / 2) / seconds


def _tiles(units: Float32) -> Iterator[tuple[int, Float32]]:
    """(first row, cosines `[<= BLOCK, first row + BLOCK]` with all earlier rows); -9 where not earlier."""
    for start in range(0, len(units), BLOCK):
        block = units[start : start + BLOCK]
        cosines = block @ units[: start + len(block)].T
        cosines[:, start:][np.tri(len(block), dtype=bool).T] = -9
        yield start, cosines


def estimate(degree: Int64) -> tuple[float, float, float]:
    """(p, lower, upper) from how many similar partners each of m candidates has.

    Pairs share members, so the count varies more than a Poisson number when candidates are uneven: its
    variance is the count plus twice the excess of paths of length two over what evenness would give.
    """
    m, count = len(degree), int(degree.sum()) // 2
    pairs = m * (m - 1) / 2
    low, high = poisson_bounds(count)
    paths = float((degree * (degree - 1)).sum()) / 2
    excess = max(0.0, paths - pairs * (m - 2) * (count / pairs) ** 2)
    half = 1.6449 * math.sqrt(count + 2 * excess)
    return count / pairs, min(low, max(0.0, count - half)) / pairs, max(high, count + half) / pairs


def fit_acceptance(candidates: int, kept: int, p: float) -> tuple[float, float]:
    """(p, dispersion) for which `accepted(candidates, p, dispersion)` is `kept`.

    More kept than an even source would: dispersion explains it. Fewer (clusters): a larger p does.
    """
    uneven = accepted(candidates, p) <= kept
    low, high = (1e-5, 1e6) if uneven else (p, 1.0)
    for _ in range(100):
        middle = math.sqrt(low * high)
        found = accepted(candidates, p, middle) if uneven else accepted(candidates, middle)
        if (found < kept) == uneven:
            low = middle
        else:
            high = middle
    return (p, low) if uneven else (low, 0.0)
