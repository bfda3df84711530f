"""What a mix of groups will cost: each group has its own law, and the one that runs out draws for all.

`filling.py` gives every place of a table to a candidate of its group, so a group whose people are alike is drawn from
more often than its share. Its candidates are compared with everybody: how often they are similar to a candidate of the
mix, and how many of them survive among the mix's, is what the pilot of the mix says of each group by itself.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from v2f_engine.errors import SaturationError
from v2f_engine.vectors.acceptance import candidates_for
from v2f_engine.vectors.mix import order_of_mix
from v2f_engine.vectors.pilot import ENOUGH, MOST_ROWS, Clock, Pilot, fit_acceptance
from v2f_engine.vectors.planner import IdentityPlan, plan_identities
from v2f_engine.vectors.sources import LabelledSource, VectorSource

GRID = 400
"""Steps of the sums over a table that grows."""


@dataclass(frozen=True)
class Group:
    """What a group of a mix needs.

    Args:
        name: of the group.
        identities: its part of those asked for.
        candidates: expected of it; infinite where no number suffices.
        rows, kept: its candidates in the pilot, and how many of them survived among all.
        p: chance that one of them is similar to a candidate of the mix.
        share: of the mix.
        fitted_p, dispersion: of `acceptance.accepted`, for the whole table's growth as this group sees it.
    """

    name: str
    identities: int
    candidates: float
    rows: int
    kept: int
    p: float
    share: float
    fitted_p: float
    dispersion: float

    def needed(self, identities: float, times: float = 1.0) -> float:
        """Its candidates for a table of so many in all, with similar pairs `times` as frequent."""
        return self.share * candidates_for(identities, self.fitted_p * times, self.dispersion)


@dataclass(frozen=True)
class MixPlan(IdentityPlan):
    """Prediction for a source with groups: `candidates` are those of all groups together.

    Args:
        groups: each of the mix.
    """

    groups: tuple[Group, ...] = ()

    def lines(self) -> list[str]:
        """The prediction for people, a fact a line."""
        told = [
            f"group       {one.name}: {one.identities:,} of {one.candidates:,.0f} candidates (p = {one.p:.3g}; "
            f"pilot kept {one.kept:,} of {one.rows:,})"
            for one in self.groups
        ]
        lines = super().lines()
        return [*lines[:4], *told, *lines[4:]]

    def refusal(self) -> SaturationError:
        worst = max(self.groups, key=lambda one: one.candidates / max(one.identities, 1))
        return SaturationError(
            f"{super().refusal()} Group {worst.name!r} runs out first: {worst.candidates:.3g} candidates for its "
            f"{worst.identities:,}; give it a smaller share (--mix), or fit it on more people."
        )


def plan_request(
    identities: int,
    source: VectorSource,
    max_cosine: float,
    *,
    seed: int = 0,
    max_candidates: int | None = None,
    backend: str = "auto",
    pilot_rows: int = MOST_ROWS,
    clock: Clock = time.perf_counter,
) -> IdentityPlan:
    """Predicts a request of any source, one with groups by each group's own law; arguments as `plan_identities`."""
    plan = plan_identities(
        identities, source, max_cosine, seed=seed, max_candidates=max_candidates, backend=backend,
        pilot_rows=pilot_rows, clock=clock,
    )  # fmt: skip
    return _mixed(plan, source) if isinstance(source, LabelledSource) else plan


def _mixed(plan: IdentityPlan, source: LabelledSource) -> MixPlan:
    pilot, n = plan.pilot, plan.identities
    order, wanted = order_of_mix(source.parts, pilot.rows), order_of_mix(source.parts, n)
    groups = tuple(
        _group(
            name,
            order == number,
            int((wanted == number).sum()),
            source.parts[number],
            plan,
            sum(source.parts),
        )
        for number, name in enumerate(source.names)
        if source.parts[number]
    )
    low, high = (p / pilot.p if pilot.p else 1.0 for p in (pilot.p_low, pilot.p_high))
    needed = [sum(one.needed(n, times) for one in groups) for times in (1.0, low, high)]
    about: dict[str, Any] = {one.name: getattr(plan, one.name) for one in fields(IdentityPlan)}
    about |= {
        "candidates": needed[0], "candidates_low": needed[1], "candidates_high": needed[2],
        "kept_at_budget": _kept(groups, plan.max_candidates, 1.0),
        "kept_at_budget_high": _kept(groups, plan.max_candidates, low),
        "seconds": _seconds(groups, n, needed[0], pilot),
    }  # fmt: skip
    return MixPlan(**about, groups=groups)


def _group(name: str, own: Any, identities: int, part: int, plan: IdentityPlan, total: int) -> Group:
    pilot, share, rows = plan.pilot, part / total, int(own.sum())
    kept = int(pilot.alive[own].sum())
    seen = float(pilot.degree[own].sum()) / max(1, rows * (pilot.rows - 1))
    p = seen or pilot.p
    fitted = (p, 0.0)
    if rows - kept >= ENOUGH:
        fitted = fit_acceptance(pilot.rows, max(1, round(kept * pilot.rows / rows)), p)
    return Group(
        name, identities, share * candidates_for(plan.identities, *fitted), rows, kept, p, share, *fitted
    )


def _kept(groups: tuple[Group, ...], budget: int, times: float) -> float:
    """Identities in all that a budget gives: the table stops where one group's candidates do."""
    low, high = 0.0, float(budget)
    for _ in range(100):
        middle = (low + high) / 2
        if sum(one.needed(middle, times) for one in groups) > budget:
            high = middle
        else:
            low = middle
    return low


def _seconds(groups: tuple[Group, ...], n: int, candidates: float, pilot: Pilot) -> float:
    """Every candidate is compared with those kept before it."""
    if not math.isfinite(candidates):
        return math.inf
    grown = np.concatenate([[0.0], np.geomspace(1, max(n, 2), GRID)])
    drawn = np.array([sum(one.needed(float(size)) for one in groups) for size in grown])
    pairs = float(np.trapezoid(grown, drawn))
    return candidates / pilot.candidates_per_second + pairs / pilot.pairs_per_second
