"""What a request for separable identities will cost, and whether it can be met, before it runs.

`acceptance.py` has the formulas, `pilot.py` the measurement, `sampling.py` the bound that ends a run.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.config import at_least, between
from v2f_engine.errors import SaturationError
from v2f_engine.vectors.acceptance import accepted, candidates_for
from v2f_engine.vectors.pilot import BINS, MOST_ROWS, Clock, Pilot, run_pilot
from v2f_engine.vectors.sources import VectorSource

BUDGET = 20
"""Candidates allowed per identity asked for, unless said otherwise; never fewer than 100,000."""
MARGIN = 1.25
"""A request is refused beforehand only if a quarter more than predicted would not meet it: extrapolated 13
times beyond the pilot, the worst of ten sources was predicted 26 % off."""
BYTES = {"reference": 4, "native": 5, "cupy": 5}
"""Bytes per entry of a kept vector: float32, and int8 codes beside it where a backend screens in int8."""


@dataclass(frozen=True)
class IdentityPlan:
    """Prediction for one request.

    Args:
        identities, max_cosine, source, seed: the request.
        max_candidates: budget; the run ends with SaturationError when it would need more.
        pilot: the measurement behind it.
        candidates, candidates_low, candidates_high: candidates needed: expected, and at the limits of p
            (infinite when no number suffices in floating point).
        kept_at_budget, kept_at_budget_high: identities expected from `max_candidates`, and at the lower limit
            of p.
        seconds: predicted wall time; infinite when candidates is.
        memory: predicted bytes beyond the process itself.
    """

    identities: int
    max_cosine: float
    source: str
    seed: int
    max_candidates: int
    pilot: Pilot
    candidates: float
    candidates_low: float
    candidates_high: float
    kept_at_budget: float
    kept_at_budget_high: float
    seconds: float
    memory: int

    @property
    def feasible(self) -> bool:
        """False when the budget would not do even at the lower limit of p and with MARGIN."""
        return self.kept_at_budget_high * MARGIN >= self.identities

    def curve(self, points: int = 200) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(candidates, expected identities) on a geometric grid up to beyond the request and the budget."""
        end = max(10.0 * self.identities, float(self.max_candidates))
        drawn = np.geomspace(100, end, points)
        return drawn, np.array([self.pilot.predicted(float(n)) for n in drawn])

    def to_json(self) -> dict[str, Any]:
        """The prediction for scripts; the pilot without its arrays, what is infinite as None."""
        whole = asdict(self)
        for name in ("histogram", "degree", "alive"):
            del whole["pilot"][name]
        return {name: None if value == math.inf else value for name, value in whole.items()}

    def lines(self) -> list[str]:
        """The prediction for people, a fact a line."""
        pilot = self.pilot
        how = "" if pilot.counted else f", formula at dimension {pilot.cosine_dimension:.0f}"
        even = accepted(self.max_candidates, pilot.p)
        return [
            f"request     {self.identities:,} from {self.source!r}, every cosine below {self.max_cosine}",
            f"similarity  p = {pilot.p:.3g} ({pilot.p_low:.2g} to {pilot.p_high:.2g}; "
            f"{pilot.violations:,} of {pilot.pairs:,} pilot pairs{how})",
            f"pilot       kept {pilot.kept:,} of {pilot.rows:,}; dimension {pilot.cosine_dimension:.1f}, "
            f"dispersion {pilot.dispersion:.2g}",
            f"candidates  {self.candidates:,.0f} ({self.candidates_low:,.0f} to {self.candidates_high:,.0f})",
            f"budget      {self.max_candidates:,} candidates, which would give {self.kept_at_budget:,.0f} "
            f"(ln(1 + p n) / p = {even:,.0f})",
            f"time        {self.seconds:,.1f} s with {pilot.backend!r} "
            f"({pilot.pairs_per_second:,.0f} pairs/s, {pilot.candidates_per_second:,.0f} candidates/s)",
            f"memory      {self.memory / 2**20:,.0f} MiB",
        ]

    def refuse_if_saturated(self) -> None:
        """Raises SaturationError with the numbers unless `feasible`."""
        if not self.feasible:
            raise self.refusal()

    def refusal(self) -> SaturationError:
        """Why it is not feasible, with the numbers."""
        looser = feasible_cosine(self)
        return SaturationError(
            f"{self.identities:,} identities with every cosine below {self.max_cosine} cannot be drawn "
            f"from {self.source!r}: two candidates are similar with probability {self.pilot.p:.3g} (at least "
            f"{self.pilot.p_low:.3g}; effective dimension {self.pilot.cosine_dimension:.0f}), so about "
            f"{self.candidates:.3g} candidates would be needed; the budget is {self.max_candidates:,} and "
            f"gives about {self.kept_at_budget:,.0f}. Ask for fewer identities, "
            + (f"raise max_cosine to about {looser:.2f}, " if looser is not None else "")
            + "raise max_candidates, or use a source of higher dimension."
        )


def plan_identities(
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
    """Predicts a request.

    Args:
        identities: how many are wanted, at least 1.
        source: where candidates come from.
        max_cosine: threshold in [-1, 1].
        seed: the run's seed; the pilot looks at the same stream.
        max_candidates: budget; default 20 per identity, at least 100,000.
        backend: rejection backend to time, or `"auto"`.
        pilot_rows: candidates of the pilot.
        clock: tells the seconds; `time.process_time` foretells processor time.
    """
    at_least("identities", identities, 1)
    between("max_cosine", max_cosine, -1, 1)
    budget = budget_for(identities, max_candidates)
    pilot = run_pilot(source, max_cosine, seed=seed, backend=backend, rows=pilot_rows, clock=clock)
    shares = [1.0, pilot.p_low / pilot.p if pilot.p else 1.0, pilot.p_high / pilot.p if pilot.p else 1.0]
    needed = [candidates_for(identities, pilot.fitted_p * share, pilot.dispersion) for share in shares]
    seconds = math.inf
    if math.isfinite(needed[0]):
        drawn = np.concatenate([[0.0], np.geomspace(1, max(needed[0], 2), 400)])
        pairs = float(np.trapezoid([pilot.predicted(float(n)) for n in drawn], drawn))
        seconds = needed[0] / pilot.candidates_per_second + pairs / pilot.pairs_per_second
    return IdentityPlan(
        identities,
        max_cosine,
        source.name,
        seed,
        budget,
        pilot,
        candidates=needed[0],
        candidates_low=needed[1],
        candidates_high=needed[2],
        kept_at_budget=pilot.predicted(budget),
        kept_at_budget_high=pilot.predicted(budget, shares[1]),
        seconds=seconds,
        memory=identities * (source.dimension * BYTES[pilot.backend] + 16) + 128 * 2**20,
    )


def budget_for(identities: int, max_candidates: int | None = None) -> int:
    """Candidates a run may draw: `max_candidates`, or 20 per identity and at least 100,000."""
    if max_candidates is None:
        return max(BUDGET * identities, 100_000)
    at_least("max_candidates", max_candidates, identities)
    return max_candidates


def feasible_cosine(plan: IdentityPlan) -> float | None:
    """Smallest threshold on a grid of 0.01 at which the request fits its budget, from the pilot's cosines."""
    above = np.cumsum(plan.pilot.histogram[::-1])[::-1] / plan.pilot.histogram.sum()
    for bin_, p in enumerate(above):
        cosine = bin_ * 2 / BINS - 1
        if cosine > plan.max_cosine and candidates_for(plan.identities, float(p)) <= plan.max_candidates:
            return cosine
    return None
