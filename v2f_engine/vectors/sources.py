"""Where candidate identity vectors come from. Candidate i is a function of (seed, i) alone, on every machine.

A candidate of a fitted source is mean + factor @ z. The product is computed in integers held by float64: z on
a grid of 2**-18, the factor on a grid that gives its largest entry 22 bits. A term is below 2**43 and a sum
over up to 1,024 components below 2**53, so every partial sum is exact, in any order: block size, BLAS,
threads, fused multiply-adds and GPUs cannot change a bit. The grids move an entry by less than 1e-5 of a
standard deviation.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from v2f_engine.config import one_of
from v2f_engine.errors import ConfigError, ModelNotFound
from v2f_engine.randomness import Purpose, normals
from v2f_engine.vectors.files import kind_of
from v2f_engine.vectors.group_names import key_of
from v2f_engine.vectors.labelled import FORMAT as LABELLED
from v2f_engine.vectors.labelled import LabelledStatistics, load_labelled
from v2f_engine.vectors.mix import MixLike, order_of_mix, parts_of_mix
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
    """N(mean, covariance) of fitted features.

    Args:
        statistics: the fit.
        name: for people.
        key: keys its candidates beside the seed; 0, or of a group of a `labelled_source.LabelledSource`.
    """

    def __init__(self, statistics: Statistics, name: str, key: int = 0) -> None:
        self.name, self.key = name, key
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
            z = _draws(seed, first + start, min(STEP, count - start), len(self._factor), self.key)
            steps = np.rint(z.astype(np.float64) * 2.0**Z_BITS)
            out[start : start + STEP] = (steps @ self._factor) * self._unit + self.statistics.mean
        return out


def _draws(seed: int, first: int, count: int, n: int, key: int = 0) -> Float32:
    if first + count > LAST:
        raise ConfigError(
            f"A seed has {LAST:,} candidates; {first + count:,} were asked for. Use another seed."
        )
    return normals(seed, Purpose.IDENTITY_VECTOR, np.arange(first, first + count), key, n)


@dataclass(frozen=True, eq=False)
class LabelledSource:
    """Several groups, each a source of its own, in a mix.

    A group's candidates are a function of (seed, the group's name, number) alone: neither the other groups nor the mix
    change them. `candidates` are those of all groups in the order of the mix, to look at; a table takes them group by
    group (`filling`).

    Args:
        name: for people.
        column: what the groups are by.
        names: of the groups, ascending.
        sources: of each group.
        counts: people that each was fitted on.
        parts: of the mix, whole numbers without a common factor; see `mix.parts_of_mix`.
        fitted: what they were made of.
    """

    name: str
    column: str
    names: tuple[str, ...]
    sources: tuple[VectorSource, ...]
    counts: tuple[int, ...]
    parts: tuple[int, ...]
    fitted: LabelledStatistics

    @classmethod
    def of(cls, fitted: LabelledStatistics, name: str) -> LabelledSource:
        """In the shares of the people that it was fitted on."""
        sources = tuple(
            StatisticsSource(one, f"{name}, group {group!r}", key_of(group))
            for group, one in zip(fitted.names, fitted.groups, strict=True)
        )
        parts = parts_of_mix(None, fitted.names, fitted.counts)
        return cls(name, fitted.column, fitted.names, sources, fitted.counts, parts, fitted)

    @property
    def dimension(self) -> int:
        return self.sources[0].dimension

    @property
    def together(self) -> Statistics:
        """Everybody's mean and covariance."""
        return self.fitted.together

    @property
    def sha256(self) -> str:
        """Of the groups; the mix is asked for, and stands beside it in a table's provenance."""
        told = [[name, one.sha256] for name, one in zip(self.names, self.sources, strict=True)]
        return hashlib.sha256(f"labelled/1 {json.dumps(told)}".encode()).hexdigest()

    def mixed(self, asked: MixLike | None) -> LabelledSource:
        """In another mix; None: in the shares of the fit. Raises ConfigError as `mix.parts_of_mix`."""
        return replace(self, parts=parts_of_mix(asked, self.names, self.counts))

    def candidates(self, seed: int, first: int, count: int) -> Float32:
        order = order_of_mix(self.parts, first + count)
        before = np.bincount(order[:first], minlength=len(self.names))
        order = order[first:]
        out = np.empty((count, self.dimension), np.float32)
        for group in np.unique(order):
            own = order == group
            out[own] = self.sources[group].candidates(seed, int(before[group]), int(own.sum()))
        return out

    def describe(self) -> dict[str, Any]:
        """For provenance: JSON values."""
        return {"column": self.column, "groups": list(self.names), "parts": list(self.parts)}


def mixed_source(source: VectorSource, mix: MixLike | None) -> VectorSource:
    """The source in the mix asked for; as it is where none is.

    Raises:
        ConfigError: a mix of a source without groups, or one that names none of its groups.
    """
    if mix is None:
        return source
    if not isinstance(source, LabelledSource):
        raise ConfigError(
            f"mix (--mix): {source.name} has no groups. Give a source that was fitted with them: v2f ids fit FEATURES "
            "--groups groups.csv --column age."
        )
    return source.mixed(mix)


def find_source(source: str | Path | Statistics | LabelledStatistics | VectorSource) -> VectorSource:
    """A source by name (`gaussian`, `mini`), by statistics file, labelled or not, or given as an object.

    Raises:
        ConfigError: an unknown name, or no source at all.
        ModelNotFound: `mini` is not part of this installation.
        VectorError: a statistics file that is missing or broken.
    """
    if isinstance(source, Statistics):
        return StatisticsSource(source, source.origin or "statistics")
    if isinstance(source, LabelledStatistics):
        return LabelledSource.of(source, source.origin or "labelled statistics")
    if not isinstance(source, (str, Path)):
        if not callable(getattr(source, "candidates", None)):
            raise ConfigError(
                f"source: expected auto, gaussian, mini, a file of `v2f ids fit` or a source, found {source!r:.60}."
            )
        return source
    if isinstance(source, Path) or source.endswith(".safetensors"):
        if kind_of(source) == LABELLED:
            return LabelledSource.of(load_labelled(source), Path(source).name)
        return StatisticsSource(load_statistics(source), Path(source).name)
    if one_of("vector source", source, ("gaussian", "mini")) == "gaussian":
        return GaussianSource()
    if not MINI.is_file():
        raise ModelNotFound(
            f"The embedded statistics {MINI} are missing. Reinstall, or use --source gaussian."
        )
    return StatisticsSource(load_statistics(MINI), "mini")
