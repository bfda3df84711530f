"""How typical a vector is of the source that it was drawn from, and which way it may go and stay so.

The measure is Mahalanobis': a candidate is mean + factor @ z, and its distance is the length of z, whatever the factor;
of K components about sqrt(K), with a standard deviation of 0.71. A push on a vector, times the covariance, is the push
in that measure: it moves the vector where the source varies, and leaves what the source holds fixed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import ConfigError
from v2f_engine.vectors.sources import GaussianSource, StatisticsSource, VectorSource

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

FACTOR_BITS, PUSH_BITS = 22, 21
"""Whole numbers below two to these; sums of 1,024 products stay below 2**53, so float64 adds exactly, in any order."""
THINNEST = 1e-6
"""Share of the largest deviation below which a direction is none: float32 vectors do not tell there."""
BLOCK = 4096


@dataclass(frozen=True, eq=False)
class Likelihood:
    """The normal distribution behind a source.

    Args:
        mean: float64 `[D]`.
        directions: float64 `[D, K]`, orthonormal.
        deviations: float64 `[K]`, standard deviation along each.
        factor: float64 `[D, K]`, whole numbers: covariance is factor @ factor.T, on a grid. Not the covariance itself:
            its largest entry's grid is as wide as the thinnest deviations of `mini` squared.
        share: such that v @ covariance @ v times this is about 1, for v the direction of a candidate.
    """

    mean: Float64
    directions: Float64
    deviations: Float64
    factor: Float64
    share: float

    @classmethod
    def of(cls, source: VectorSource) -> Likelihood:
        """Of a Gaussian or of fitted statistics.

        Raises:
            ConfigError: a source that is neither.
        """
        if isinstance(source, GaussianSource):
            d = source.dimension
            return cls(np.zeros(d), np.eye(d), np.ones(d), np.eye(d), 1.0)
        if not isinstance(source, StatisticsSource):
            raise ConfigError(
                f"source: {source.name!r} is {type(source).__name__}, expected the Gaussian or a file of `v2f ids "
                "fit`: nothing else says what is typical of its vectors."
            )
        factor = source.statistics.factor.astype(np.float64)
        deviations = np.linalg.norm(factor, axis=0)
        if not deviations.max() > 0:
            raise ConfigError(
                f"source: {source.name!r} has no covariance, so nothing says which way a vector may go."
            )
        kept = deviations > THINNEST * deviations.max()
        exponent = int(np.frexp(np.abs(factor).max())[1])
        whole = np.rint(factor * 2.0 ** (FACTOR_BITS - exponent))
        squares = (whole * whole).sum(axis=0)  # the columns are orthogonal: eigenvalues of the covariance
        share = float(squares.sum() / (squares * squares).sum())
        return cls(source.statistics.mean, factor[:, kept] / deviations[kept], deviations[kept], whole, share)

    @property
    def spread(self) -> float:
        """Standard deviation of a candidate's distance: of the chi distribution with K degrees of freedom."""
        k = len(self.deviations)
        expected = math.sqrt(2) * math.exp(math.lgamma((k + 1) / 2) - math.lgamma(k / 2))
        return math.sqrt(k - expected**2)

    def distances(self, vectors: Float32) -> Float64:
        """float64 `[N]`: Mahalanobis' distance of each of `[N, D]` to the mean."""
        found = np.empty(len(vectors))
        for start in range(0, len(vectors), BLOCK):
            apart = vectors[start : start + BLOCK].astype(np.float64) - self.mean
            along = (apart @ self.directions) / self.deviations
            found[start : start + BLOCK] = np.sqrt((along * along).sum(axis=1))
        return found

    def mean_distance(self, vectors: Float32) -> float:
        """Of all `[N, D]`: how typical they are together."""
        return float(self.distances(vectors).mean())

    def within(self, pushes: Float64) -> Float64:
        """Pushes float64 `[N, D]` times the covariance: the same bits whatever N, threads and library."""
        return _exactly(_exactly(pushes, self.factor), self.factor.T) * self.share


def _exactly(rows: Float64, whole: Float64) -> Float64:
    """Rows, each rounded to whole numbers of a unit of its own, times a matrix of whole numbers."""
    top = np.abs(rows).max(axis=1, keepdims=True)
    unit = 2.0 ** (PUSH_BITS - np.frexp(np.where(top > 0, top, 1.0))[1])
    return np.asarray((np.rint(rows * unit) @ whole) / unit)
