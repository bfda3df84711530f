"""A look at the first candidates of a stream: how often two are similar, and how fast this machine is.

At least 1e7 pairs are looked at. When none is similar, the probability is taken from the formula for
isotropic directions at the pilot's effective dimension, and never above the pilot's 95 % limit (3 / pairs).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from v2f_kernels.reject_similar import OP, Kept

from v2f_engine.vectors.acceptance import isotropic_violation, poisson_bounds
from v2f_engine.vectors.separability import pick_backend
from v2f_engine.vectors.sources import Source

FEWEST_ROWS, MOST_ROWS = 4608, 18_432
"""1.06e7 and 1.70e8 pairs; the pilot doubles until it has seen ENOUGH similar pairs or has the most rows."""
ENOUGH = 400
Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

BLOCK = 512
BINS = 200
"""Histogram bins of width 0.01 over [-1, 1]."""


@dataclass(frozen=True)
class Pilot:
    """What the first candidates of a stream tell.

    Args:
        rows, pairs: candidates drawn and pairs looked at.
        violations: pairs with a cosine of max_cosine or more.
        p, p_low, p_high: probability that a pair is similar: estimate and one-sided 95 % limits.
        counted: False when p comes from the formula because no similar pair was seen.
        dispersion: squared coefficient of variation of the candidates' own probabilities.
        cosine_dimension: 1 / E[cos^2], the dimension of isotropic directions with such cosines.
        histogram: int64 `[200]`, cosines of the first 1e7 pairs in bins of 0.01 from -1.
        candidates_per_second, pairs_per_second: rates of this machine and backend.
        backend: the rejection backend that was timed.
    """

    rows: int
    pairs: int
    violations: int
    p: float
    p_low: float
    p_high: float
    counted: bool
    dispersion: float
    cosine_dimension: float
    histogram: NDArray[np.int64]
    candidates_per_second: float
    pairs_per_second: float
    backend: str


def run_pilot(
    source: Source, max_cosine: float, *, seed: int = 0, backend: str = "auto", most_rows: int = MOST_ROWS
) -> Pilot:
    """Measures a source on the first candidates of `seed`; half a second when similar pairs are common.

    Args:
        source: where candidates come from.
        max_cosine: pairs with this cosine or more are similar.
        seed: the run's seed.
        backend: rejection backend to time, or `"auto"`.
        most_rows: rarer similarity is looked for in up to this many candidates (2 s for 18,432 on one core).
    """
    started = time.perf_counter()
    vectors = source.candidates(seed, 0, FEWEST_ROWS)
    candidates_per_second = FEWEST_ROWS / (time.perf_counter() - started)
    units = _unit(vectors)
    histogram, squares = np.zeros(BINS, np.int64), 0.0
    for cosines in _tiles(units, 0):
        inside = cosines[np.isfinite(cosines)]
        bins = np.clip((inside + 1) * (BINS / 2), 0, BINS - 1).astype(np.int64)
        histogram += np.bincount(bins, minlength=BINS)
        squares += float(np.dot(inside, inside))
    degree = _degrees(units, 0, np.zeros(0, np.int64), max_cosine)
    while degree.sum() < 2 * ENOUGH and 2 * len(units) <= most_rows:
        before = len(units)
        units = np.concatenate([units, _unit(source.candidates(seed, before, before))])
        degree = _degrees(units, before, degree, max_cosine)
    name, reject = pick_backend(OP, backend)
    kept = Kept(units.shape[1], capacity=FEWEST_ROWS)
    started = time.perf_counter()
    reject(vectors, max_cosine, kept=kept)
    seconds = time.perf_counter() - started
    p, low, high, dispersion = estimate(degree)
    dimension = float(histogram.sum() / squares)
    return Pilot(
        rows=len(degree),
        pairs=len(degree) * (len(degree) - 1) // 2,
        violations=int(degree.sum()) // 2,
        p=p or min(isotropic_violation(dimension, max_cosine), high),
        p_low=low,
        p_high=high,
        counted=p > 0,
        dispersion=dispersion,
        cosine_dimension=dimension,
        histogram=histogram,
        candidates_per_second=candidates_per_second,
        pairs_per_second=len(kept) * FEWEST_ROWS / 2 / seconds,
        backend=name,
    )


def _unit(vectors: Float32) -> Float32:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def _tiles(units: Float32, first: int) -> Iterator[Float32]:
    """Cosines of the rows from `first` on with all earlier rows, BLOCK rows a tile; NaN where not earlier."""
    for start in range(first, len(units), BLOCK):
        block = units[start : start + BLOCK]
        cosines = block @ units[: start + len(block)].T
        cosines[:, start:][np.tri(len(block), dtype=bool).T] = np.nan
        yield cosines


def _degrees(units: Float32, first: int, degree: Int64, max_cosine: float) -> Int64:
    """int64 `[N]`: similar partners of each row, given those among the rows before `first`."""
    total = np.concatenate([degree, np.zeros(len(units) - first, np.int64)])
    for tile, cosines in enumerate(_tiles(units, first)):
        i, j = np.nonzero(cosines >= max_cosine)
        np.add.at(total, first + tile * BLOCK + i, 1)
        np.add.at(total, j, 1)
    return total


def estimate(degree: Int64) -> tuple[float, float, float, float]:
    """(p, lower, upper, dispersion) from how many similar partners each of m candidates has.

    Pairs share members, so the count varies more than a Poisson number when candidates are uneven: its
    variance is the count plus twice the excess of paths of length two over what evenness would give.
    """
    m, count = len(degree), int(degree.sum()) // 2
    pairs = m * (m - 1) / 2
    p = count / pairs
    low, high = poisson_bounds(count)
    paths = float((degree * (degree - 1)).sum()) / 2
    even = pairs * (m - 2) * p * p
    spread = max(0.0, paths / even - 1) if paths >= 30 else 0.0
    half = 1.6449 * math.sqrt(count + 2 * max(0.0, paths - even))
    return p, min(low, max(0.0, count - half)) / pairs, max(high, count + half) / pairs, spread
