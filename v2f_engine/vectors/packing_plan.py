"""What a packing will cost, at most, and whether it can be done: measured on some of its identities before it runs.

A look at all pairs grows as N^2, a step as N and as the neighbours of each, so both are timed by themselves: the very
functions of a packing, on a few thousand identities whose pairs are watched from a cosine at which each of them has as
many neighbours as it will have in the whole table.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.config import at_least
from v2f_engine.vectors.acceptance import isotropic_violation
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.likelihood import Likelihood
from v2f_engine.vectors.nearest import nearest_other
from v2f_engine.vectors.nearest_plan import plan_nearest
from v2f_engine.vectors.neighbours import TILE, UNIT, codes_of, neighbours_of
from v2f_engine.vectors.packing import DRIFT, PULL, STEPS, aim_of
from v2f_engine.vectors.packing_request import asked_of
from v2f_engine.vectors.packing_steps import EVERY, MARGIN, NEIGHBOURS, Steps
from v2f_engine.vectors.pilot import Clock, Pilot
from v2f_engine.vectors.sources import VectorSource
from v2f_engine.vectors.spherical_codes import least_worst_cosine
from v2f_engine.vectors.statistics import Statistics

Float32 = NDArray[np.float32]

ROWS = 4096
"""Identities that a packing is timed on: one block of products, about 2 s of one core in all."""
PAIR = 24
"""Bytes of a watched pair."""


@dataclass(frozen=True)
class PackingPlan:
    """What a packing will cost, at most.

    Args:
        identities, dimension, looks, steps: how often all pairs are looked at, and steps between.
        target: the cosine aimed at.
        operations: multiplications and additions of all looks, float32.
        memory: bytes beyond the process itself.
        neighbours: others of an identity near the target, in the mean; more than 256 end a packing.
        seconds: expected where all steps are made; infinite where it would be refused.
    """

    identities: int
    dimension: int
    looks: int
    steps: int
    target: float
    operations: float
    memory: int
    neighbours: float
    seconds: float

    @property
    def refused(self) -> str | None:
        """Why a packing would end with SaturationError."""
        if self.neighbours <= NEIGHBOURS:
            return None
        return (
            f"about {self.neighbours:,.0f} others near the target of each identity, {NEIGHBOURS} at most. Ask for "
            "fewer identities, or pack with a larger target (v2f ids pack --max-cosine)"
        )

    def lines(self) -> list[tuple[str, str]]:
        """Facts for people."""
        time = f"{self.seconds:,.1f} s" if self.refused is None else f"refused: {self.refused}"
        return [
            ("identities", f"{self.identities:,} of {self.dimension} numbers, target {self.target:.4f}"),
            (
                "work",
                f"{self.steps} steps at most, {self.looks} looks at all pairs: N^2 D each, {self.operations:.2g}",
            ),
            ("time", f"{time}, measured here on {min(ROWS, self.identities):,} of them"),
            (
                "memory",
                f"{self.memory / 2**20:,.0f} MiB; {self.neighbours:,.1f} others near the target of each",
            ),
        ]


def foresee_packing(
    table: Identities,
    *,
    source: str | Path | Statistics | VectorSource = "auto",
    steps: int = STEPS,
    target: float | None = None,
    exclude: str | Path | NDArray[Any] | Sequence[str | Path | NDArray[Any]] | None = None,
    clock: Clock = time.perf_counter,
) -> PackingPlan:
    """What `packing.packing` would do, after all its refusals; arguments and errors as there.

    Args:
        clock: tells the seconds.
    """
    at_least("steps", steps, 1)
    asked = asked_of(table, source, exclude)
    n, d = table.shape
    started = clock()
    worst = float(nearest_other(table.vectors).max())
    nearest_s = clock() - started
    aim = aim_of(target, worst, least_worst_cosine(n, d))
    plan = _measured(n, table.vectors[:ROWS], asked.source, aim, steps, clock)
    return replace(plan, seconds=plan.seconds + 2 * nearest_s)


def plan_packing(
    identities: int,
    rows: Float32,
    source: VectorSource,
    worst: float,
    *,
    steps: int = STEPS,
    clock: Clock = time.perf_counter,
) -> PackingPlan:
    """Predicts the packing of a table that is not sampled yet.

    Args:
        identities: N, at least 2.
        rows: float32 `[R, D]`, R >= 2: the table's first identities.
        source: of the table.
        worst: the largest cosine of two of N, as `likely_worst` has it.
        steps: at most.
        clock: tells the seconds.

    Raises:
        ConfigError: a source that no packing has a measure of: one with groups.
    """
    at_least("steps", steps, 1)
    at_least("identities", identities, 2)
    aim = aim_of(None, worst, least_worst_cosine(identities, rows.shape[1]))
    plan = _measured(identities, rows[:ROWS], source, aim, steps, clock)
    return replace(plan, seconds=plan.seconds + 2 * plan_nearest(identities, rows, clock=clock).seconds)


def likely_worst(identities: int, pilot: Pilot, max_cosine: float) -> float:
    """The largest cosine that two of so many identities are expected to have, never above the threshold."""
    pairs = identities * (identities - 1) / 2
    if pairs * pilot.p >= 1:
        return max_cosine
    low, high = 0.0, max_cosine
    for _ in range(40):
        middle = (low + high) / 2
        if pairs * isotropic_violation(pilot.cosine_dimension, middle) > 1:
            low = middle
        else:
            high = middle
    return high


def area(n: int) -> int:
    """Products of a look at N rows: blocks of `TILE`, each pair of blocks once, those of a block by itself whole."""
    blocks, rest = divmod(n, TILE)
    return (n * n + blocks * TILE * TILE + rest * rest) // 2


def _measured(
    n: int, rows: Float32, source: VectorSource, aim: float, steps: int, clock: Clock
) -> PackingPlan:
    """Without the search for the nearest before and after."""
    likely, few = Likelihood.of(source), len(rows)
    started = clock()
    codes = codes_of(rows)
    likely.mean_distance(rows)
    a_row = (clock() - started) / few
    whole = codes @ codes.T
    cosines = whole[np.triu_indices(few, 1)] / UNIT**2
    watched = int((cosines >= aim - MARGIN).sum())
    neighbours = 2 * watched / few * (n - 1) / max(1, few - 1)
    pairs = int(neighbours * n / 2)
    looks = 1 + math.ceil(steps / EVERY)
    seconds = math.inf
    if neighbours <= NEIGHBOURS:
        neighbours_of(codes[:2], 1.0, most=1)  # the first call loads torch, for seconds
        wanted = min(len(cosines), max(watched, round(neighbours * few / 2)))
        cut = float(-np.partition(-cosines, wanted - 1)[wanted - 1]) if wanted else aim - MARGIN
        started = clock()
        neighbours_of(codes, aim - MARGIN, most=NEIGHBOURS * few)
        a_product = (clock() - started) / area(few)
        run = Steps(rows, likely, None, cut + MARGIN, steps, PULL, DRIFT, "cpu", TILE)
        near = neighbours_of(codes, cut, most=len(cosines))
        run.codes, run._fresh = codes, True
        started = clock()
        run._step(near, 1.0)
        a_step = (clock() - started) / few
        seconds = looks * (a_row * n + a_product * area(n)) + steps * (a_step + a_row) * n
    d = rows.shape[1]
    memory = 3 * 4 * n * d + 2 * 4 * TILE**2 + PAIR * pairs
    return PackingPlan(n, d, looks, steps, aim, float(looks) * n * n * d, memory, neighbours, seconds)
