"""Identity vectors: candidates from a stream, rejected when too similar to one kept or to a real person.

The table is a function of (source, seed, max_cosine, exclusion) alone, in the order of the candidates: the
first n identities of a larger table are the table of n.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from v2f_kernels.reject_similar import Kept

from v2f_engine.arguments import (
    COUNT,
    FUNCTION,
    GALLERY,
    NUMBER,
    NUMBER_OR_WORD,
    PATH,
    VECTORS_OR_PATH,
    WORD,
    takes,
)
from v2f_engine.backends import function
from v2f_engine.config import at_least, between, one_of, whole_number
from v2f_engine.errors import ConfigError, SaturationError
from v2f_engine.vectors.calibration import Calibration, limit_of
from v2f_engine.vectors.exclusion import Exclusion
from v2f_engine.vectors.filling import LARGEST, Filling, drawn_of
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.labelled import LabelledStatistics
from v2f_engine.vectors.mix import MixLike, order_of_mix
from v2f_engine.vectors.pilot import FEWEST_ROWS, MOST_ROWS
from v2f_engine.vectors.planner import budget_for, plan_identities
from v2f_engine.vectors.sources import LabelledSource, VectorSource, find_source, mixed_source
from v2f_engine.vectors.statistics import Statistics

BLOCK = 16_384
"""Candidates drawn at a time: 32 MiB. It never changes the table."""
PLANNED_FROM = 2000
"""Below this many identities the run is shorter than a pilot; the bound during the run suffices."""

RECENT = 4096
"""Last identities of a table that say what share of the next candidates will be kept."""

Progress = Callable[[int, int, int], None]

__all__ = ["Identities", "IdentityStream", "sample_identities"]


@takes(
    model=PATH, max_cosine=NUMBER_OR_WORD, fmr=NUMBER, calibration=VECTORS_OR_PATH, seed=COUNT,
    exclude=GALLERY, exclude_cosine=NUMBER, max_candidates=COUNT, backend=WORD, block=COUNT, progress=FUNCTION,
)  # fmt: skip
def sample_identities(
    n: int,
    *,
    model: str | Path | None = None,
    max_cosine: float | str | None = "auto",
    fmr: float | None = None,
    calibration: Calibration | str | Path | NDArray[Any] | None = None,
    seed: int = 0,
    source: str | Path | Statistics | LabelledStatistics | VectorSource = "auto",
    mix: MixLike | None = None,
    exclude: str | Path | NDArray[Any] | Sequence[str | Path | NDArray[Any]] | None = None,
    exclude_cosine: float | None = None,
    max_candidates: int | None = None,
    backend: str = "auto",
    block: int = BLOCK,
    progress: Progress | None = None,
) -> Identities:
    """Samples `n` identity vectors that are pairwise less similar than `max_cosine`.

    Args:
        n: how many, at least 1.
        model: the generator that will make them, by name or path: decides what `auto` is, and refuses a source that
            the model does not know; `mini` where nothing is said. Of an exported file: `Engine.sample_identities`.
        max_cosine: keep a candidate if its cosine with every kept one is below this; None keeps all; `"auto"` is
            the model's own limit, or 0.3 with a source that is given without a model.
        fmr: a false-match rate that decides the threshold instead of `max_cosine`, e.g. 1e-4: the cosine that
            no more than this share of pairs in `calibration` reach.
        calibration: features of known people, a centre a row (`.npy` or array `[M, 512]`), or what
            `calibration.calibrate_threshold` found, e.g. on images with labels.
        seed: 64-bit seed of the candidate stream.
        source: `"auto"` (the model's own statistics), `"gaussian"`, `"mini"`, a statistics file, or fitted
            `Statistics` or `LabelledStatistics`.
        mix: of a source with groups (`v2f ids fit --groups`): the share of each, `"young:0.5,old:0.5"` or a mapping,
            see `mix.parts_of_mix`; by default the shares of the people that it was fitted on. Of the first m
            identities, for every m, each group has its share of m, rounded down or up.
        exclude: features of real people (`.npy` files or arrays `[G, 512]`, of any size, streamed):
            candidates similar to any of them are skipped before rejection.
        exclude_cosine: threshold for that; `max_cosine` by default.
        max_candidates: draw no more than this; default 20 per identity, at least 100,000.
        backend: rejection backend; speed only.
        block: candidates per step; memory only.
        progress: called as progress(kept, n, candidates drawn) after each block.

    Returns:
        `Identities`, a function of (source, mix, seed, max_cosine, exclude, exclude_cosine); the first rows do not
        depend on n. Of a source with groups it names each identity's.

    Raises:
        SaturationError: `n` cannot be had within `max_candidates`: predicted before the run from a pilot, or
            during the run as soon as the acceptance rate proves it. The message has the numbers, and names the group.
        ConfigError, VectorError, ModelNotFound: options, exclusion files or sources that cannot be used.
    """
    n, seed = whole_number("number of identities", n, 1), whole_number("seed", seed)
    source, own, maker = _source(model, source)
    source = mixed_source(source, mix)
    if isinstance(max_cosine, str):
        one_of("max_cosine", max_cosine, ("auto",))
        max_cosine = own
    elif max_cosine is not None and fmr is not None:
        raise ConfigError(f"Give either max_cosine ({max_cosine:g}) or fmr ({fmr:g}), not both.")
    limit, calibration = limit_of(max_cosine, fmr, calibration)
    stream = IdentityStream(
        source=source,
        seed=seed,
        max_cosine=limit,
        calibration=calibration,
        exclude=exclude,
        exclude_cosine=exclude_cosine,
        backend=backend,
        block=block,
    )
    if max_candidates is not None:
        max_candidates = whole_number("max_candidates", max_candidates, 1)
    budget = budget_for(n, max_candidates)
    stream.refuse_if_saturated(n, budget)
    table = stream.take(n, max_candidates=budget, progress=progress)
    return replace(table, provenance={**table.provenance, "model": maker}) if maker else table


def _source(
    model: str | Path | None, source: str | Path | Statistics | LabelledStatistics | VectorSource
) -> tuple[VectorSource, float, str]:
    """(what is sampled, the limit that goes with it, the model that it is for, if any)."""
    from v2f_engine.models.registry import MAX_COSINE, locate
    from v2f_engine.vectors.people import People

    auto = isinstance(source, str) and source == "auto"
    if model is None and not auto:
        found = find_source(source)
        return found, locate("mini", "generator").max_cosine if found.name == "mini" else MAX_COSINE, ""
    asked = "mini" if model is None else model
    if Path(asked).suffix in (".onnx", ".plan"):
        raise ConfigError(
            f"model: {asked} is an exported file: Engine.load({str(asked)!r}).sample_identities(n) samples for it."
        )
    people = People.of(locate(asked, "generator"))
    found = people.require_source() if auto else people.admitted_source(find_source(source))
    return found, people.max_cosine, people.model


class IdentityStream:
    """Separable identities without end: `take(n)` gives the first n, and a later, larger n only draws more.

    Args:
        calibration: where `max_cosine` comes from, for provenance.
        others: as in `sample_identities`.
    """

    def __init__(
        self,
        *,
        source: str | Path | Statistics | LabelledStatistics | VectorSource = "gaussian",
        seed: int = 0,
        max_cosine: float | None = 0.3,
        calibration: Calibration | None = None,
        exclude: str | Path | NDArray[Any] | Sequence[str | Path | NDArray[Any]] | None = None,
        exclude_cosine: float | None = None,
        backend: str = "auto",
        block: int = BLOCK,
    ) -> None:
        at_least("block", block, 1)
        between("max_cosine", 1.0 if max_cosine is None else max_cosine, -1, 1)
        self.source, self.seed, self.max_cosine = find_source(source), seed, max_cosine
        self.backend, self.block, self.calibration = backend, block, calibration
        self.shield = Exclusion.of(exclude, exclude_cosine, max_cosine, self.source.dimension, backend)
        self._reject = (
            _keep_all
            if max_cosine is None
            else partial(function("reject_similar", backend), max_cosine=float(max_cosine))
        )
        self._kept = Kept(self.source.dimension)
        self._numbers: list[NDArray[np.int64]] = []
        self._drawn, self._rate = 0, 1.0
        self._filling = (
            Filling(self.source, seed, self._keep, max_cosine)
            if isinstance(self.source, LabelledSource)
            else None
        )

    def go_on(self, vectors: NDArray[np.float32], candidate: NDArray[np.int64]) -> None:
        """Takes identities of this stream for its first ones, so that `take` draws what comes after them.

        Args:
            vectors: float32 `[N, D]`, kept as they are; not copied.
            candidate: int64 `[N]`, which candidates they are.
        """
        if self._filling is not None:
            raise ConfigError(
                f"{self.source.name}: a table of a source with groups cannot be taken up where it ends. Sample the "
                "larger number anew (v2f ids sample): its first rows are this table."
            )
        self._kept = Kept(self.source.dimension, base=vectors)
        self._numbers, self._drawn = [candidate], int(candidate[-1]) + 1
        recent = candidate[-RECENT:]
        self._rate = len(recent) / (int(recent[-1]) - int(recent[0]) + 1)

    def refuse_if_saturated(self, n: int, budget: int) -> None:
        """Raises SaturationError if a pilot says that n identities cannot be had from `budget` candidates."""
        if self.max_cosine is None:
            return
        for source, count in parts_of_request(self.source, n):
            if count >= PLANNED_FROM:
                plan_identities(
                    count,
                    source,
                    self.max_cosine,
                    seed=self.seed,
                    backend=self.backend,
                    max_candidates=budget,
                    pilot_rows=min(max(FEWEST_ROWS, count // 8), MOST_ROWS),
                ).refuse_if_saturated()

    def take(self, n: int, *, max_candidates: int, progress: Progress | None = None) -> Identities:
        """The first `n` identities.

        Raises:
            SaturationError: they cannot be drawn within `max_candidates`, counted from the stream's start.
        """
        if self._filling is not None:
            return self._mixed(self._filling, n, max_candidates, progress)
        self._kept.reserve(n + self.block)
        request = _Request(n, max_candidates, self.max_cosine, self.source.name)
        while len(self._kept) < n:
            missing, before = n - len(self._kept), len(self._kept)
            # As many as are missing at the last block's rate and a tenth more, so that little is drawn in vain.
            count = min(self.block, max(1024, int(1.1 * missing / max(self._rate, 0.01))))
            count = min(count, max_candidates - self._drawn)
            if count < 1:
                raise request.refused(before, self._drawn, self._rate)
            rows = self.source.candidates(self.seed, self._drawn, count)
            self._numbers.append(self._drawn + self._keep(rows))
            self._drawn += count
            self._rate = (len(self._kept) - before) / count
            if progress is not None:
                progress(min(len(self._kept), n), n, self._drawn)
            request.stop_if_hopeless(len(self._kept), self._drawn, len(self._kept) - before, count)
        candidate = np.concatenate(self._numbers)[:n].astype(np.int64)
        return Identities(self._kept.vectors[:n], candidate, self._provenance(int(candidate[-1]) + 1))

    def _mixed(self, filling: Filling, n: int, max_candidates: int, progress: Progress | None) -> Identities:
        """`take` from a source with groups."""
        self._kept.reserve(n + LARGEST)
        row, candidate, group = filling.fill(n, max_candidates, progress)
        drawn = drawn_of(candidate, group, len(filling.source.names))
        provenance = {**self._provenance(drawn), "mix": filling.source.describe()}
        return Identities(self._kept.vectors[row], candidate, provenance, group=group)

    def _keep(self, rows: NDArray[np.float32]) -> NDArray[np.int64]:
        """Which of the next candidates are kept: int64, their places among `rows`."""
        passed = np.arange(len(rows)) if self.shield is None else self.shield.passing(rows)
        found: NDArray[np.int64] = passed[self._reject(rows[passed], kept=self._kept)]
        return found

    def _provenance(self, drawn: int) -> dict[str, Any]:
        about = {
            "source": self.source.name,
            "source_sha256": self.source.sha256,
            "seed": self.seed,
            "max_cosine": self.max_cosine,
            "exclude": None if self.shield is None else self.shield.describe(),
            "candidates_drawn": drawn,
        }
        if self.calibration is not None:
            about["calibration"] = self.calibration.describe()
        return about


def parts_of_request(source: VectorSource, n: int) -> list[tuple[VectorSource, int]]:
    """What has to be possible of a request: everybody, and of a source with groups each alone, as its name says."""
    parts = [(source, n)]
    if isinstance(source, LabelledSource):
        counts = np.bincount(order_of_mix(source.parts, n), minlength=len(source.names))
        parts += [(own, int(count)) for own, count in zip(source.sources, counts, strict=True)]
    return parts


def _keep_all(rows: NDArray[np.float32], *, kept: Kept) -> NDArray[np.int64]:
    kept.append(rows, np.linalg.norm(rows.astype(np.float64), axis=1))
    return np.arange(len(rows))


@dataclass(frozen=True)
class _Request:
    n: int
    budget: int
    max_cosine: float | None
    source: str

    def stop_if_hopeless(self, kept: int, drawn: int, accepted: int, count: int) -> None:
        """Acceptance only falls: three standard deviations above the last block's rate bound the rest."""
        at_most = min(1.0, (accepted + 3 * math.sqrt(accepted + 1) + 3) / count)
        if count >= 1024 and kept < self.n and drawn + (self.n - kept) / at_most > self.budget:
            raise self.refused(kept, drawn, accepted / count)

    def refused(self, kept: int, drawn: int, rate: float) -> SaturationError:
        return SaturationError(
            f"{self.n:,} identities with every cosine below {self.max_cosine} cannot be drawn from "
            f"{self.source!r} within {self.budget:,} candidates: {kept:,} were kept of {drawn:,} drawn; "
            f"the last block kept a share of {rate:.2g}. Ask for fewer identities, raise max_cosine or "
            "max_candidates, exclude less, or use a source of higher dimension."
        )
