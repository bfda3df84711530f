"""Where candidate identity vectors come from. Candidate i is a function of (seed, i) alone, on every machine.

A candidate of a fitted source is mean + factor @ z. The product is computed in integers held by float64: z on
a grid of 2**-18, the factor on a grid that gives its largest entry 22 bits. A term is below 2**43 and a sum
over up to 1,024 components below 2**53, so every partial sum is exact, in any order: block size, BLAS,
threads, fused multiply-adds and GPUs cannot change a bit. The grids move an entry by less than 1e-5 of a
standard deviation.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from v2f_engine.config import one_of
from v2f_engine.errors import ConfigError, ModelNotFound
from v2f_engine.randomness import Purpose, normals
from v2f_engine.vectors.statistics import Statistics, load_statistics

Float32 = NDArray[np.float32]

MINI = Path(__file__).parents[1] / "assets" / "mini" / "statistics.safetensors"
LAST = 2**32
"""Candidates per seed: the index is one 32-bit counter word."""
Z_BITS, FACTOR_BITS = 18, 22
STEP = 4096


class VectorSource(Protocol):
    """A stream of candidates."""

    @property
    def name(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    def candidates(self, seed: int, first: int, count: int) -> Float32:
        """float32 `[count, D]`: candidates `first` .. `first + count - 1` of `seed`."""
        ...


@dataclass(frozen=True)
class GaussianSource:
    """Isotropic: every entry N(0, 1), so lengths near sqrt(D) = 22.6."""

    dimension: int = 512
    name: str = "gaussian"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(f"gaussian/1 {self.dimension}".encode()).hexdigest()

    def candidates(self, seed: int, first: int, count: int) -> Float32:
        return _draws(seed, first, count, self.dimension)


class StatisticsSource:
    """N(mean, covariance) of fitted features."""

    def __init__(self, statistics: Statistics, name: str) -> None:
        self.name = name
        self.sha256 = statistics.sha256
        self.dimension = statistics.mean.size
        self.statistics = statistics
        exponent = int(np.frexp(np.abs(statistics.factor).max())[1])  # largest entry < 2**exponent
        self._unit = 2.0 ** (exponent - FACTOR_BITS - Z_BITS)
        factor = statistics.factor.astype(np.float64) * 2.0 ** (FACTOR_BITS - exponent)
        self._factor = np.ascontiguousarray(np.rint(factor).T)

    def candidates(self, seed: int, first: int, count: int) -> Float32:
        out = np.empty((count, self.statistics.mean.size), np.float32)
        for start in range(0, count, STEP):
            z = _draws(seed, first + start, min(STEP, count - start), len(self._factor))
            steps = np.rint(z.astype(np.float64) * 2.0**Z_BITS)
            out[start : start + STEP] = (steps @ self._factor) * self._unit + self.statistics.mean
        return out


def _draws(seed: int, first: int, count: int, n: int) -> Float32:
    if first + count > LAST:
        raise ConfigError(
            f"A seed has {LAST:,} candidates; {first + count:,} were asked for. Use another seed."
        )
    return normals(seed, Purpose.IDENTITY_VECTOR, np.arange(first, first + count), 0, n)


def find_source(source: str | Path | Statistics | VectorSource) -> VectorSource:
    """A source by name (`gaussian`, `mini`), by statistics file, or given as an object.

    Raises:
        ConfigError: an unknown name, or no source at all.
        ModelNotFound: `mini` is not part of this installation.
        VectorError: a statistics file that is missing or broken.
    """
    if isinstance(source, Statistics):
        return StatisticsSource(source, source.origin or "statistics")
    if not isinstance(source, (str, Path)):
        if not callable(getattr(source, "candidates", None)):
            raise ConfigError(
                f"source: expected auto, gaussian, mini, a file of `v2f ids fit` or a source, found {source!r:.60}."
            )
        return source
    if isinstance(source, Path) or source.endswith(".safetensors"):
        return StatisticsSource(load_statistics(source), Path(source).name)
    if one_of("vector source", source, ("gaussian", "mini")) == "gaussian":
        return GaussianSource()
    if not MINI.is_file():
        raise ModelNotFound(
            f"The embedded statistics {MINI} are missing. Reinstall, or use --source gaussian."
        )
    return StatisticsSource(load_statistics(MINI), "mini")
