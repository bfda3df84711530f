"""What the new part of a larger table will cost: from the table itself, and from the op at work on it.

A table is a pilot of its own: how many of its candidates survived says how the next ones will fare, better than a
pilot's formula extrapolated to there. And the rate is measured where it will be needed: candidates behind the table's
last, against its own vectors, since a set that lies in the cache is compared faster than one that does not.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from v2f_kernels.reject_similar import Kept

from v2f_engine.backends import function
from v2f_engine.config import at_least
from v2f_engine.errors import ConfigError
from v2f_engine.vectors.acceptance import accepted, candidates_for
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.pilot import ENOUGH, FEWEST_ROWS, MOST_ROWS, Clock, Pilot, fit_acceptance, run_pilot
from v2f_engine.vectors.planner import BYTES, IdentityPlan, budget_for
from v2f_engine.vectors.sources import VectorSource

TIMED_ROWS, TIMED_KEPT = 4096, 65_536
"""Candidates and kept vectors that are compared to time it: 2.7e8 pairs, 32 MiB of int8: more than a core's cache."""
BASE = 128 * 2**20


@dataclass(frozen=True)
class ExtensionPlan(IdentityPlan):
    """Prediction for a table that goes on: `candidates` are in all, `seconds` and `memory` those of the new part.

    Args:
        held: identities of the table.
        drawn: candidates behind them.
        new_candidates: expected beyond those; infinite where no number suffices.
        handling: seconds of `seconds` that plan, take the table's own vectors up and copy them into the larger one.
        excluded: rows of real people that each new candidate is compared with, too; 0 without.
    """

    held: int = 0
    drawn: int = 0
    new_candidates: float = 0.0
    handling: float = 0.0
    excluded: int = 0

    def to_json(self) -> dict[str, Any]:
        told = super().to_json()
        return {**told, "new_identities": self.identities - self.held}

    def lines(self) -> list[str]:
        """The prediction for people, a fact a line."""
        new = self.identities - self.held
        lines = super().lines()
        lines[0] = (
            f"request     {new:,} more than the {self.held:,} of the table, {self.identities:,} in all, from "
            f"{self.source!r}, every cosine below {self.max_cosine}"
        )
        lines.insert(
            4, f"new part    {self.new_candidates:,.0f} candidates behind the {self.drawn:,} of the table"
        )
        if self.excluded:
            lines.append(
                f"exclusion   each of them is compared with {self.excluded:,} real people, too; counted above"
            )
        return lines


def plan_extension(
    table: Identities,
    identities: int,
    source: VectorSource,
    *,
    max_candidates: int | None = None,
    backend: str = "auto",
    pilot_rows: int | None = None,
    clock: Clock = time.perf_counter,
) -> ExtensionPlan:
    """Predicts what it takes to go on with a table.

    Args:
        table: of a stream (`growth.refuse_without_stream`) that keeps a distance.
        identities: in all, at least as many as it has.
        source: what it was sampled from.
        max_candidates: budget in all, those of the table included; default 20 per identity, at least 100,000.
        backend: rejection backend to time, or `"auto"`.
        pilot_rows: candidates of the pilot, which says how often two are similar; an eighth of the new identities,
            4,608 to 18,432.
        clock: tells the seconds; `time.process_time` foretells processor time.

    Raises:
        ConfigError: fewer identities than it has, or a table that keeps no distance.
    """
    at_least("identities", identities, len(table))
    began = clock()
    told = table.provenance
    if told["max_cosine"] is None:
        raise ConfigError(
            "The table keeps no distance: every candidate is an identity, and there is nothing to plan."
        )
    max_cosine, seed, drawn = float(told["max_cosine"]), told["seed"], told["candidates_drawn"]
    budget = budget_for(identities, max_candidates)
    rows = pilot_rows or min(max(FEWEST_ROWS, (identities - len(table)) // 8), MOST_ROWS)
    pilot = run_pilot(source, max_cosine, seed=seed, backend=backend, rows=rows, clock=clock)
    law = _law(table, pilot)
    timed, handling = _timed(table, identities, source, max_cosine, law.pilot, clock)
    shares = [1.0, pilot.p_low / pilot.p if pilot.p else 1.0, pilot.p_high / pilot.p if pilot.p else 1.0]
    low, high = (law.needed(identities, share) for share in shares[1:])
    new = law.needed(identities)
    excluded = (told["exclude"] or {}).get("rows", 0)
    seconds = math.inf
    if math.isfinite(new):
        pairs = new * (len(table) + identities) / 2 + new * excluded
        handling += clock() - began  # whoever goes on plans once more
        seconds = handling + new / timed.candidates_per_second + pairs / timed.pairs_per_second
    return ExtensionPlan(
        identities,
        max_cosine,
        source.name,
        seed,
        budget,
        timed,
        candidates=drawn + new,
        candidates_low=drawn + min(low, new),
        candidates_high=drawn + max(high, new),
        kept_at_budget=law.kept(budget),
        kept_at_budget_high=law.kept(budget, shares[1]),
        seconds=seconds,
        memory=_memory(len(table), identities, source.dimension, timed.backend),
        held=len(table),
        drawn=drawn,
        new_candidates=new,
        handling=handling,
        excluded=excluded,
    )


@dataclass(frozen=True)
class _Law:
    """How many of the next candidates will be kept: `acceptance.accepted`, passing through what the table has.

    Args:
        pilot: with p and dispersion of the law.
        held, drawn: identities and candidates of the table.
        rate: candidates of the law that one of the stream stands for: below 1 where excluded people take some.
    """

    pilot: Pilot
    held: int
    drawn: int
    rate: float = 1.0

    def needed(self, identities: int, share: float = 1.0) -> float:
        """Candidates beyond the table's for so many in all, with similar pairs `share` times as frequent."""
        p, uneven = self.pilot.fitted_p * share, self.pilot.dispersion
        return (candidates_for(identities, p, uneven) - candidates_for(self.held, p, uneven)) / self.rate

    def kept(self, budget: int, share: float = 1.0) -> float:
        """Identities expected of `budget` candidates in all."""
        p, uneven = self.pilot.fitted_p * share, self.pilot.dispersion
        before = candidates_for(self.held, p, uneven)
        return accepted(before + max(0, budget - self.drawn) * self.rate, p, uneven)


def _law(table: Identities, pilot: Pilot) -> _Law:
    """The law of a table's next candidates.

    With excluded people a candidate is lost to them or to an identity, and one that looks like real people is like
    other identities, too; so no pilot of the source alone tells the share. The table does: the rates at which its third
    and its last quarter were kept give the chance to be kept now, and how it falls, exp(-p A) being its form.
    """
    held, drawn = len(table), table.provenance["candidates_drawn"]
    if table.provenance["exclude"] is None or held < ENOUGH:
        if drawn - held >= ENOUGH and drawn >= pilot.rows:
            fitted_p, dispersion = fit_acceptance(drawn, held, pilot.p)
            pilot = replace(pilot, fitted_p=fitted_p, dispersion=dispersion)
        return _Law(pilot, held, drawn)
    rows = np.array([held // 2, 3 * held // 4, held - 1])
    before, last = np.diff(rows) / np.diff(table.candidate[rows])
    p = max(float(np.log(before / last)) / (held / 4), 1e-12)
    now = float(last) * math.exp(-p * held / 8)
    return _Law(replace(pilot, fitted_p=p, dispersion=0.0), held, drawn, now * math.exp(p * held))


def _timed(
    table: Identities, identities: int, source: VectorSource, max_cosine: float, pilot: Pilot, clock: Clock
) -> tuple[Pilot, float]:
    """(the pilot with the rates of candidates behind the table against its own vectors, seconds of handling the table).

    Handling is lengths, the form they are compared in, and the copy into the larger table: of a million rows and 5,000
    new ones it took a third of the time.
    """
    some = table.vectors[:TIMED_KEPT]
    reject = function("reject_similar", pilot.backend)
    seed, drawn = table.provenance["seed"], table.provenance["candidates_drawn"]
    first = source.candidates(seed, drawn, 1)
    started = clock()
    kept = Kept(source.dimension, base=some)
    reject(first, max_cosine, kept=kept)
    took_up = clock() - started
    started = clock()
    rows = source.candidates(seed, drawn + 1, TIMED_ROWS)
    candidates_per_second = TIMED_ROWS / (clock() - started)
    started = clock()
    reject(rows, max_cosine, kept=kept)
    seconds = clock() - started
    pairs = TIMED_ROWS * (len(some) + TIMED_ROWS / 2)
    started = clock()
    copied = len(kept.vectors)
    copying = (clock() - started) / copied
    timed = replace(pilot, candidates_per_second=candidates_per_second, pairs_per_second=pairs / seconds)
    return timed, took_up * len(table) / len(some) + copying * identities


def _memory(held: int, identities: int, dimension: int, backend: str) -> int:
    """Bytes at the height: the table, what it is compared in, the new rows and the table in all; then its file."""
    row, codes = 4 * dimension + 16, (BYTES[backend] - 4) * dimension
    at_work = held * row + (identities - held) * row + identities * (codes + row)
    written = held * row + 3 * identities * row
    return max(at_work, written) + BASE
