"""Proof on the faces: identities whose generated images a recogniser tells apart, not only their vectors.

A generator may map two distant vectors to one face. So identities of the stream are made into images, and one
is kept if its feature is unlike that of every identity kept before it: greedy rejection again, by the same
kernels, on features. Those that collide are dropped and the stream goes on, round after round, until enough
are left; only the identities new in a round are made. What is kept is a function of the stream, the images
and the threshold alone: the first n of a larger proven table are the proven table of n.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from v2f_kernels.reject_similar import Kept

from v2f_engine.backends import function
from v2f_engine.config import at_least, between
from v2f_engine.errors import SaturationError, VectorError
from v2f_engine.vectors.calibration import Calibration
from v2f_engine.vectors.filling import drawn_of
from v2f_engine.vectors.gate import check_vectors
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.pilot import MOST_ROWS
from v2f_engine.vectors.planner import MARGIN, IdentityPlan, feasible_cosine, plan_identities
from v2f_engine.vectors.sampling import IdentityStream

Float32 = NDArray[np.float32]

ROUNDS = 20
MOST_MADE = 10
"""Identities made into images per identity asked for, unless said otherwise."""
STEP = 64
"""Identities of a round are a multiple of this: a round is never smaller than a few decoding calls."""
TILE = 1024


@dataclass(frozen=True)
class Round:
    """One round of making and looking.

    Args:
        made: identities made into images.
        collided: of them, those like an identity kept earlier.
        kept: identities kept after it, in all.
        seconds: wall time.
    """

    made: int
    collided: int
    kept: int
    seconds: float


@dataclass(frozen=True)
class Collisions:
    """How a set of identities collides at the threshold.

    Args:
        identities: how many.
        repeated: like any earlier one (the published measure of separability).
        rejected: like an earlier one that was itself kept; the rest is separable.
        nearest: float32 `[N]`, cosine to the most similar other identity of the set.
    """

    identities: int
    repeated: int
    rejected: int
    nearest: Float32

    def to_json(self) -> dict[str, Any]:
        """Counts, and where the nearest cosines lie."""
        spread = np.quantile(self.nearest.astype(np.float64), (0.5, 0.99, 1.0)).round(4).tolist()
        return {
            "identities": self.identities,
            "repeated": self.repeated,
            "rejected": self.rejected,
            "nearest_cosine": dict(zip(("median", "p99", "max"), spread, strict=True)),
        }


@dataclass(frozen=True)
class Proof:
    """What was asked for, what was found, and the table if there is one.

    Args:
        identities: how many were asked for.
        max_cosine: features of two identities are below this.
        calibration: where that comes from, if from a false-match rate.
        before: the first `identities` of the stream, as rejection of vectors alone gives them.
        after: those that were kept.
        rounds: what each cost.
        plan: prediction from the first round's features.
        table: identities proven, `noise` keyed by candidate; None when the request was not met.
        features: float32 `[kept, D]` of the kept identities.
        fitting: threshold at which the request is predicted to fit its budget: `max_cosine`, or a larger one on
            a grid of 0.01; None when there is none.
        about: what made and looked at the images.
        shortfall: why there is no table, for people.
    """

    identities: int
    max_cosine: float
    calibration: Calibration | None
    before: Collisions
    after: Collisions
    rounds: tuple[Round, ...]
    plan: IdentityPlan
    table: Identities | None
    features: Float32
    fitting: float | None
    about: dict[str, Any]
    shortfall: str = ""

    @property
    def made(self) -> int:
        """Identities made into images in all."""
        return sum(r.made for r in self.rounds)

    def require(self) -> Identities:
        """The table.

        Raises:
            SaturationError: the request was not met; the message has the numbers.
        """
        if self.table is None:
            raise SaturationError(self.shortfall)
        return self.table

    def to_json(self) -> dict[str, Any]:
        """Everything but vectors and features."""
        plan = self.plan
        predicted = {
            "p": plan.pilot.p,
            "p_low": plan.pilot.p_low,
            "p_high": plan.pilot.p_high,
            "dimension": round(plan.pilot.cosine_dimension, 2),
            "dispersion": round(plan.pilot.dispersion, 4),
            "identities_to_make": _finite(plan.candidates),
            "kept_at_budget": round(plan.kept_at_budget),
            "budget": plan.max_candidates,
            "cosine_that_fits_the_budget": self.fitting,
        }
        return {
            "identities": self.identities,
            "met": self.table is not None,
            "max_cosine": self.max_cosine,
            "calibration": None if self.calibration is None else self.calibration.describe(),
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "made": self.made,
            "rounds": [asdict(r) for r in self.rounds],
            "prediction_after_round_1": predicted,
            "shortfall": self.shortfall,
            "about": self.about,
            "table_hash": None if self.table is None else self.table.table_hash,
        }


def prove_identities(
    n: int,
    stream: IdentityStream,
    features_of: Callable[[Identities], Float32],
    *,
    max_cosine: float,
    calibration: Calibration | None = None,
    about: dict[str, Any] | None = None,
    max_rounds: int = ROUNDS,
    max_made: int | None = None,
    max_candidates: int | None = None,
    backend: str = "auto",
    name: str = "images",
) -> Proof:
    """The first `n` identities of a stream whose images are pairwise less similar than `max_cosine`.

    Args:
        n: how many.
        stream: separable vectors; extended as far as needed.
        features_of: makes images of identities, keyed by their candidates, and gives one feature an identity,
            `[N, D]`. It is called with consecutive identities, each once.
        max_cosine: threshold between features.
        calibration, about: recorded in the table's provenance, under `faces`.
        max_rounds: give up after so many.
        max_made: make no more identities than this; 10 per identity by default.
        max_candidates: budget of the stream; 20 per identity made, at least 100,000.
        backend: rejection backend; speed only.
        name: what messages call the source of features.

    Returns:
        a `Proof`, whose `require()` is the table or a named error.

    Raises:
        SaturationError: the stream itself cannot give that many vectors.
        ConfigError: options out of range. VectorError: features of another shape, not finite or of zero norm.
    """
    at_least("number of identities", n, 2)
    at_least("max_rounds", max_rounds, 1)
    between("max_cosine between images", max_cosine, -1, 1)
    most = MOST_MADE * n if max_made is None else max_made
    at_least("max_made", most, n)
    drawn = max_candidates or max(100_000, 20 * most)
    reject = function("reject_similar", backend)
    kept: Kept | None = None
    rows: list[NDArray[np.int64]] = []
    parts: list[Float32] = []
    rounds: list[Round] = []
    plan: IdentityPlan | None = None
    made, accepted, ending = 0, 0, ""
    while accepted < n:
        started = time.perf_counter()
        count = n if not rounds else _next_round(n - accepted, rounds[-1])
        count = min(count, most - made)
        part = keyed_by_candidate(stream.take(made + count, max_candidates=drawn)).part(slice(made, None))
        features = check_vectors(features_of(part), name, dimension=None, allow_duplicates=True)
        if len(features) != count:
            raise VectorError(
                f"{name}: expected a feature for each of {count} identities, got {len(features)}."
            )
        kept = kept or Kept(features.shape[1], capacity=n + STEP)
        new = made + reject(features, max_cosine, kept=kept)
        rows.append(new)
        parts.append(features)
        made, accepted = made + count, accepted + len(new)
        rounds.append(Round(count, count - len(new), accepted, round(time.perf_counter() - started, 2)))
        if plan is None:
            plan = predicted(n, features, max_cosine, most, name, backend)
        ending = _ending(accepted, made, rounds, max_rounds, plan)
        if ending:
            break
    assert plan is not None
    features, chosen = np.concatenate(parts), np.concatenate(rows)[:n]
    table, fitting, shortfall = None, max_cosine if plan.feasible else _fitting(features[:n], plan), ""
    if ending:
        shortfall = _shortfall(accepted, made, rounds[-1], plan, ending, fitting)
    else:
        table = keyed_by_candidate(stream.take(made, max_candidates=drawn)).part(chosen)
        faces = {**(about or {}), "max_cosine": max_cosine, "made": int(chosen[-1]) + 1}
        if calibration is not None:
            faces["calibration"] = calibration.describe()
        drawn_by = (
            int(table.candidate[-1]) + 1
            if table.group is None
            else drawn_of(table.candidate, table.group, len(table.group_names))
        )
        provenance = {**table.provenance, "candidates_drawn": drawn_by, "faces": faces}
        table = replace(table, provenance=provenance)
    return Proof(
        n,
        max_cosine,
        calibration,
        before=collisions(features[:n], max_cosine, backend),
        after=collisions(features[chosen], max_cosine, backend),
        rounds=tuple(rounds),
        plan=plan,
        table=table,
        features=features[chosen],
        fitting=fitting,
        about=about or {},
        shortfall=shortfall,
    )


def keyed_by_candidate(table: Identities) -> Identities:
    """The table with its images' random numbers keyed by candidate; see `Identities.keys`."""
    return replace(table, provenance={**table.provenance, "noise": "candidate"})


def collisions(features: Float32, max_cosine: float, backend: str = "auto") -> Collisions:
    """Counts at a threshold, each by an operation of its own, from the features alone."""
    repeated = function("similar_to_earlier", backend)(features, max_cosine)
    survivors = function("reject_similar", backend)(features, max_cosine)
    return Collisions(
        len(features), int(repeated.sum()), len(features) - len(survivors), nearest_other(features)
    )


def nearest_other(features: Float32) -> Float32:
    """float32 `[N]`: each row's largest cosine to another row, in float32 tiles."""
    units = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    best = np.full(len(units), -1, np.float32)
    for start in range(0, len(units), TILE):
        block = units[start : start + TILE]
        for other in range(0, start + 1, TILE):
            cosines = block @ units[other : other + TILE].T
            if other == start:
                np.fill_diagonal(cosines, -1)
            np.maximum(best[start : start + TILE], cosines.max(axis=1), out=best[start : start + TILE])
            below = best[other : other + TILE]
            np.maximum(below, cosines.max(axis=0), out=below)
    return np.minimum(best, np.float32(1))


def _next_round(missing: int, last: Round) -> int:
    """As many as are missing at the last round's rate and a tenth more, in whole steps."""
    rate = max(1 - last.collided / last.made, 1 / last.made)
    return STEP * math.ceil(1.1 * missing / rate / STEP)


@dataclass(frozen=True)
class _Given:
    """Features at hand as a source for the planner."""

    rows: Float32
    name: str
    sha256: str = ""

    @property
    def dimension(self) -> int:
        return int(self.rows.shape[1])

    def candidates(self, seed: int, first: int, count: int) -> Float32:
        return self.rows[first : first + count]


def predicted(
    n: int, features: Float32, max_cosine: float, most: int, name: str, backend: str
) -> IdentityPlan:
    """How many identities have to be made, from the features of some; `most` may be, `name` is their source."""
    rows = min(len(features), MOST_ROWS)
    return plan_identities(
        n, _Given(features, name), max_cosine, max_candidates=most, backend=backend, pilot_rows=rows
    )


def _fitting(features: Float32, plan: IdentityPlan) -> float | None:
    """The smallest threshold on a grid of 0.01 whose own pilot on these features gives a quarter too many."""
    looser = feasible_cosine(plan)
    while looser is not None and looser < 1:
        backend, most = plan.pilot.backend, plan.max_candidates
        again = predicted(plan.identities, features, looser, most, plan.source, backend)
        if again.kept_at_budget >= MARGIN * plan.identities:
            return looser
        looser = round(looser + 0.01, 2)
    return None


def _ending(accepted: int, made: int, rounds: list[Round], max_rounds: int, plan: IdentityPlan) -> str:
    """Why this has to end without a table, or nothing."""
    if accepted >= plan.identities:
        return ""
    if len(rounds) == 1 and not plan.feasible:
        return f"about {plan.candidates:.3g} would have to be made"
    if made >= plan.max_candidates:
        return "no more may be made"
    return f"the limit of {max_rounds} rounds is reached" if len(rounds) >= max_rounds else ""


def _shortfall(
    accepted: int, made: int, last: Round, plan: IdentityPlan, ending: str, fitting: float | None
) -> str:
    advice = ["ask for fewer", "allow more (max_made, max_rounds)"]
    if fitting is not None and fitting > plan.max_cosine:
        advice.insert(1, f"raise the threshold to about {fitting:.2f}")
    return (
        f"{plan.identities:,} identities whose images all stay below cosine {plan.max_cosine:.4g} were not "
        f"reached: {accepted:,} kept of {made:,} made into images, of the last {last.made:,} a share of "
        f"{1 - last.collided / last.made:.2g}; {ending}, and the budget is {plan.max_candidates:,}. Two are "
        f"alike with probability {plan.pilot.p:.3g} (effective dimension of the features "
        f"{plan.pilot.cosine_dimension:.0f}), which allows about {plan.kept_at_budget:,.0f}. To change that, "
        f"{', '.join(advice)}, or use a generator or recogniser that tells more people apart."
    )


def _finite(value: float) -> int | None:
    return round(value) if math.isfinite(value) and value < 1e15 else None
