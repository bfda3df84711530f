"""What a generator knows of the vectors it was trained on, and what it says of vectors that come from elsewhere.

A generator has seen features of one extractor only: of one length, in one subspace. Vectors of length 1 (insightface's
normed embeddings) all give the same face: cosine between people 0.86 where `mini`'s own vectors give 0.02. Isotropic
ones of the right length give faces, but of a hundred such people of `mini` 19 % are unique, of its own 55 % (equal
error rates 8.19 % and 0.60 %, ten images each, `mini`'s recogniser at its limit).

Lengths. Of 20,000 draws of `mini`'s statistics the lengths are 0.62 to 1.50 of their median, of 240 pictures of 40
people whom it has not seen 0.61 to 1.42, and centres of six pictures have 0.86 of it. So a row may be half or twice as
long as the model's median, and the median of `FEW` rows and more 2/3 to 3/2 of the model's.

Subspace. Outside of the directions that hold 99 % of the variance of `mini`'s statistics (73 of 512) lie 1 % of its own
vectors' squared distance from the mean, 3 % of those 240 pictures', 13 % of pure noise's, and 85 % of a Gaussian's.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import ArtefactError, V2FWarning, VectorError
from v2f_engine.vectors.gate import SHORTEST, refuse_rows
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.sources import (
    MINI,
    GaussianSource,
    LabelledSource,
    StatisticsSource,
    VectorSource,
    find_source,
)
from v2f_engine.vectors.statistics import Statistics, load_statistics

Float32 = NDArray[np.float32]

ROW, MEDIAN, FEW = 2.0, 1.5, 8
"""Factors by which a row's length, and the median of `FEW` rows and more, may differ from the model's median."""
DRAWN = 2048
"""Candidates of seed 0 whose median length is a source's: it lies within 0.3 % of the true one."""
OWN_VARIANCE, OUTSIDE = 0.99, 0.3
"""Share of the variance that spans a model's own subspace; share of squared distance outside of it that is foreign."""
LOOKED_AT = 4096
"""Rows compared with the subspace."""


class Weights(Protocol):
    """A generator's file, whatever runs it: `LoadedModel`, `ServedModel`, `Located`."""

    @property
    def name(self) -> str: ...

    @property
    def statistics(self) -> Path | str | None: ...

    @property
    def max_cosine(self) -> float: ...


def lengths(rows: Float32) -> NDArray[np.float64]:
    """float64 `[N]`."""
    return np.asarray(np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64)))


def median_length(source: VectorSource) -> float:
    """Of a source's candidates."""
    return float(np.median(lengths(source.candidates(0, 0, DRAWN))))


@dataclass(frozen=True)
class Rescaled:
    """A source whose candidates are multiplied by `factor`."""

    source: VectorSource
    factor: float

    @property
    def name(self) -> str:
        return f"{self.source.name}, times {self.factor:g}"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(f"rescaled/1 {self.source.sha256} {self.factor!r}".encode()).hexdigest()

    @property
    def dimension(self) -> int:
        return self.source.dimension

    def candidates(self, seed: int, first: int, count: int) -> Float32:
        return self.source.candidates(seed, first, count) * np.float32(self.factor)


@dataclass(frozen=True)
class People:
    """Where a model's people come from.

    Args:
        model: its name.
        source: of its own vectors; where nothing says which, isotropic ones as long as the published extractor's.
        known: whether something says so: statistics bound to the weights, or a published name.
        max_cosine: similarity at which two vectors are one person to its extractor.
        unbound: why nobody can be sampled for it, if so.
    """

    model: str
    source: VectorSource
    known: bool
    max_cosine: float
    unbound: str = ""

    @classmethod
    def of(cls, weights: Weights) -> People:
        """The people of a model's file.

        Raises:
            VectorError, ModelNotFound: its statistics are missing or broken.
        """
        from v2f_engine.models.registry import PUBLISHED

        given = weights.statistics
        source = GaussianSource() if given is None else find_source(given)
        if name := getattr(weights, "statistics_name", ""):
            source = replace_name(source, name)
        known = given is not None and (given != "gaussian" or weights.name in PUBLISHED)
        unbound = "" if given is not None else (
            f"{getattr(weights, 'path', weights.name)}: an export of before statistics were bound to it: nothing "
            "says from what its people are drawn. Export it again, or name a source: --source gaussian, or a file of "
            "`v2f ids fit`; a file beside it counts no longer."
        )  # fmt: skip
        return cls(weights.name, source, known, weights.max_cosine, unbound)

    @cached_property
    def length(self) -> float:
        """Median length of the model's own vectors."""
        return median_length(self.source)

    def require_source(self) -> VectorSource:
        """The source, to sample from.

        Raises:
            ArtefactError: an exported file that does not say from what its people are drawn.
        """
        if self.unbound:
            raise ArtefactError(self.unbound)
        return self.source

    @property
    def said(self) -> str:
        """The expected length and where it comes from, for messages."""
        if fitted_of(self.source) is not None:
            return f"{self.length:.3g}, the median of what {self.model} was trained on ({self.source.name})"
        why = "" if self.known else f" (nothing says what {self.model} was trained on)"
        return f"{self.length:.3g}, about the median of the published extractor's features{why}"

    def check(self, rows: Float32, what: str) -> None:
        """Whether vectors have lengths that the model knows.

        Raises:
            VectorError: with the median found and expected, and the rows outside.
        """
        if not len(rows):
            return
        found = lengths(rows)
        refuse_rows(~np.isfinite(found), what, "are not finite (NaN or infinity)")
        middle, low, high = float(np.median(found)), self.length / ROW, self.length * ROW
        bad = np.flatnonzero((found < low) | (found > high))
        apart = len(rows) >= FEW and not self.length / MEDIAN <= middle <= self.length * MEDIAN
        if not bad.size and not apart:
            return
        which = ""
        if bad.size:
            shown = ", ".join(f"{row} ({found[row]:.3g})" for row in bad[:5]) + (
                ", ..." if bad.size > 5 else ""
            )
            which = f" {bad.size:,} of {len(rows):,} rows are outside {low:.3g} to {high:.3g}: {shown}."
        unit = " They are unit vectors: features normalised after extraction." if 0.99 < middle < 1.01 else ""
        raise VectorError(
            f"{what}: median length {middle:.3g}, expected {self.said}.{which}{unit} A generator turns vectors of "
            "another length into one face. Take the features as the extractor gives them, or give rescale=True "
            f"(--rescale), which brings every row to length {self.length:.3g}."
        )

    def admitted(self, table: Identities, rescale: bool = False, what: str = "") -> Identities:
        """A table of identities that this model may be given, rescaled where that is asked for.

        Warns:
            V2FWarning: vectors of another source than the model's.

        Raises:
            VectorError: lengths that the model does not know.
        """
        name = what or str(table.provenance.get("source", "vectors"))
        if rescale:
            table = self.rescaled(table)
        else:
            self.check(table.vectors, name)
        self._warn(name, str(table.provenance.get("source_sha256", "")), table.vectors)
        return table

    def rescaled(self, table: Identities) -> Identities:
        """The table with every vector as long as the model's median, and a provenance that says so."""
        found = lengths(table.vectors)
        refuse_rows(~(np.isfinite(found) & (found >= SHORTEST)), "identities", "have no length")
        factor = self.length / found
        vectors = (table.vectors * factor[:, None]).astype(np.float32)
        about = {**table.provenance, "rescaled_to": round(self.length, 4)}
        return replace(table, vectors=vectors, provenance=about)

    def admitted_source(self, source: VectorSource, rescale: bool = False) -> VectorSource:
        """A source that this model may be given, rescaled where that is asked for.

        Warns:
            V2FWarning: a source that is not the model's.

        Raises:
            VectorError: its vectors have lengths that the model does not know, or another number of entries.
        """
        if source.sha256 == self.source.sha256:
            return source
        if source.dimension != self.source.dimension:
            raise VectorError(
                f"{source.name}: draws vectors of {source.dimension} entries, expected {self.source.dimension}."
            )
        length = median_length(source)
        if rescale:
            source = rescaled_source(source, float(f"{self.length / length:.6g}"))
        elif not self.length / MEDIAN <= length <= self.length * MEDIAN:
            raise VectorError(
                f"{source.name}: draws vectors of median length {length:.3g}, expected {self.said}. Fit statistics on "
                "features as the extractor gives them, or give rescale=True (--rescale), which multiplies by "
                f"{self.length / length:.3g}."
            )
        self._warn(source.name, source.sha256, source.candidates(0, 0, 256))
        return source

    def _warn(self, name: str, sha256: str, rows: Float32) -> None:
        if why := self.foreign(sha256, rows):
            warnings.warn(
                f"{name}: {why}. Its faces may be alike: {self.model} draws its own people from {self.source.name} "
                f"(sha256 {self.source.sha256[:12]}): Engine.sample_identities, v2f ids sample --model, no --source.",
                V2FWarning,
                stacklevel=5,
            )

    def foreign(self, sha256: str, rows: Float32) -> str:
        """Why vectors `[N, D]` sampled from the source `sha256` (empty: given) are not the model's, or nothing."""
        if sha256 == self.source.sha256:
            return ""
        if sha256 in _named():
            return f"sampled from {_named()[sha256]!r}, which is not the source of {self.model}"
        own = self._own_directions
        if own is None or not len(rows) or rows.shape[1] != len(own):
            return ""
        fitted = fitted_of(self.source)
        assert fitted is not None
        apart = rows[:LOOKED_AT].astype(np.float64) - fitted.mean
        outside = 1 - ((apart @ own) ** 2).sum(axis=1) / (apart**2).sum(axis=1)
        share = float(np.median(outside))
        if share <= OUTSIDE:
            return ""
        return (
            f"{100 * share:.0f} % of these vectors lies outside of what {self.model} has seen (its own: about "
            f"{100 * (1 - OWN_VARIANCE):.0f} %), as of another extractor or at random"
        )

    @cached_property
    def _own_directions(self) -> NDArray[np.float64] | None:
        """Orthonormal `[D, K]`: the directions of the model's people, or None where they fill the space."""
        fitted = fitted_of(self.source)
        if fitted is None:
            return None
        factor = fitted.factor.astype(np.float64)
        variance = (factor**2).sum(axis=0)
        count = int(np.searchsorted(np.cumsum(variance) / variance.sum(), OWN_VARIANCE)) + 1
        if 2 * count > len(factor):
            return None
        return np.asarray(factor[:, :count] / np.sqrt(variance[:count]))


def fitted_of(source: VectorSource) -> Statistics | None:
    """Mean and covariance of everybody in a fitted source; None for others."""
    if isinstance(source, LabelledSource):
        return source.together
    return source.statistics if isinstance(source, StatisticsSource) else None


def rescaled_source(source: VectorSource, factor: float) -> VectorSource:
    """A source with every candidate times `factor`; one with groups keeps them."""
    if not isinstance(source, LabelledSource):
        return Rescaled(source, factor)
    name = f"{source.name}, times {factor:g}"
    return replace(source, name=name, sources=tuple(Rescaled(one, factor) for one in source.sources))


def replace_name(source: VectorSource, name: str) -> VectorSource:
    """A fitted source under another name: an export's copy of statistics counts as the original."""
    if isinstance(source, LabelledSource):
        return replace(source, name=name)
    return StatisticsSource(source.statistics, name) if isinstance(source, StatisticsSource) else source


_NAMED: dict[str, str] = {}


def _named() -> dict[str, str]:
    """sha256 -> name of the sources that are called by name."""
    if not _NAMED:
        _NAMED[GaussianSource().sha256] = "gaussian"
        if MINI.is_file():
            _NAMED[load_statistics(MINI).sha256] = "mini"
    return _NAMED
