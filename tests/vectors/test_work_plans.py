"""Plans of packing, of the search for the nearest, of a mix: counts by loops, time by a clock that the op turns."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from v2f_kernels import _cosine

from v2f_engine.errors import ConfigError, SaturationError
from v2f_engine.vectors import nearest, nearest_plan, packing_plan
from v2f_engine.vectors.acceptance import isotropic_violation
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.labelled import LabelledStatistics
from v2f_engine.vectors.mix import order_of_mix
from v2f_engine.vectors.mix_plan import MixPlan, plan_request
from v2f_engine.vectors.nearest_plan import plan_nearest, rows_for
from v2f_engine.vectors.packing import packing
from v2f_engine.vectors.packing_plan import area, foresee_packing, likely_worst, plan_packing
from v2f_engine.vectors.pilot import run_pilot
from v2f_engine.vectors.planner import plan_identities
from v2f_engine.vectors.sampling import sample_identities
from v2f_engine.vectors.sources import GaussianSource, LabelledSource, find_source
from v2f_engine.vectors.statistics import Statistics

FEW = GaussianSource(16)
"""So few dimensions that some are near each other."""


class Clock:
    """Stands still but for what the op costs: so much a product, a row of the gallery, a call."""

    def __init__(self, product: float, row: float, call: float) -> None:
        self.now, self.costs = 0.0, (product, row, call)

    def __call__(self) -> float:
        return self.now

    def cost(self, queries: int, gallery: int) -> float:
        product, row, call = self.costs
        return product * queries * gallery + row * gallery + call

    def op(self, *_: object) -> object:
        def nearest_cosine(queries: np.ndarray, gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            self.now += self.cost(len(queries), len(gallery))
            return np.full(len(queries), -1.0), np.zeros(len(queries), np.int64)

        return nearest_cosine


@pytest.mark.parametrize(("product", "row", "call"), [(1e-8, 1e-6, 1e-4), (1e-8, 0, 0), (1e-9, 3e-6, 1e-3)])
@pytest.mark.parametrize("n", [700, 5000, 100_000, 1_000_000])
def test_the_search_is_foretold_as_its_halves_add_up(
    n: int, product: float, row: float, call: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(product, row, call)

    def really(rows: int) -> float:
        if rows <= nearest.LEAF:
            return 0.0
        left, right = rows // 2, rows - rows // 2
        below = [really(half) for half in {left, right}]
        return sum(below) * (2 if left == right else 1) + clock.cost(left, right) + clock.cost(right, left)

    monkeypatch.setattr(nearest, "function", clock.op)
    monkeypatch.setattr(nearest_plan, "function", clock.op)
    rows = np.ones((min(n, 9000), 4), np.float32)
    plan = plan_nearest(n, rows, clock=clock)
    assert plan.seconds == pytest.approx(really(n), rel=0.1)
    assert (plan.products, plan.disk) == (n * n, 24 * n)


def test_rows_to_time_a_search_on_are_never_more_than_the_table() -> None:
    assert rows_for(1, GaussianSource(8), 0).shape == (2, 8)
    assert rows_for(300, GaussianSource(8), 0).shape == (300, 8)
    assert 0 < plan_nearest(1, rows_for(1, GaussianSource(8), 0)).seconds < 1


@given(n=st.integers(1, 60), tile=st.sampled_from([1, 4, 7]))
@settings(max_examples=60, deadline=None)
def test_products_of_a_look(n: int, tile: int) -> None:
    """Counted as `neighbours_of` goes: each block with itself and with those behind it."""
    blocks = [min(tile, n - first) for first in range(0, n, tile)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("v2f_engine.vectors.packing_plan.TILE", tile)
        assert area(n) == sum(one * other for i, one in enumerate(blocks) for other in blocks[i:])


def test_a_packing_that_is_foretold_has_the_neighbours_of_the_table() -> None:
    """Of a table and of its beginning: the pairs near the target, counted in float64; and the target."""
    table = sample_identities(300, source=FEW, max_cosine=0.6)
    plan = foresee_packing(table, source=FEW, steps=7)
    cosines = _cosine.cosine(table.vectors[:, None], table.vectors[None]) - 2 * np.eye(300)
    near = (cosines >= cosines.max() - 0.1).sum(axis=1).mean()
    assert plan.neighbours == pytest.approx(near, rel=0.02)
    assert plan.target == pytest.approx(cosines.max() - 0.07, abs=1e-6)
    assert plan.looks == 1 + math.ceil(7 / 5)
    assert 0 < plan.seconds < 60
    assert plan.refused is None
    first = plan_packing(300, table.vectors[:150], FEW, float(cosines.max()), steps=7)
    assert first.neighbours == pytest.approx(near, rel=0.2)
    assert first.target == plan.target


def test_a_crowd_that_no_packing_takes_is_known_before() -> None:
    table = sample_identities(300, source=FEW, max_cosine=0.7)
    plan = plan_packing(100_000, table.vectors, FEW, 0.7)
    assert plan.neighbours > 256
    assert plan.seconds == math.inf
    assert plan.refused is not None
    assert "256 at most" in plan.refused
    with pytest.raises(ConfigError, match="steps"):
        plan_packing(30, table.vectors, FEW, 0.7, steps=0)


def test_loading_torch_is_no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first call that takes a minute says nothing of those that follow."""
    clock, calls = Clock(0, 0, 0), []
    table = sample_identities(300, source=FEW, max_cosine=0.7)

    def neighbours_of(codes: np.ndarray, *args: object, **options: object) -> object:
        calls.append(len(codes))
        clock.now += 60.0 if len(calls) == 1 else 1e-6 * area(len(codes))
        return really(codes, *args, **options)

    really = packing_plan.neighbours_of
    monkeypatch.setattr(packing_plan, "neighbours_of", neighbours_of)
    monkeypatch.setattr(packing_plan, "plan_nearest", lambda *a, **k: SimpleNamespace(seconds=0.0))
    plan = plan_packing(600, table.vectors, FEW, 0.7, clock=clock)
    assert plan.seconds == pytest.approx(plan.looks * 1e-6 * area(600))


@pytest.mark.parametrize("n", [50, 3000, 10**6])
def test_the_worst_cosine_of_so_many(n: int) -> None:
    """One pair of all is expected above it; a source with more of them has its threshold."""
    pilot = run_pilot(GaussianSource(128), 0.6, rows=600)
    worst = likely_worst(n, pilot, 0.6)
    assert n * (n - 1) / 2 * isotropic_violation(pilot.cosine_dimension, worst) == pytest.approx(1, rel=1e-3)
    assert likely_worst(n, run_pilot(GaussianSource(16), 0.3, rows=600), 0.3) == 0.3


def uneven() -> LabelledStatistics:
    """People of full dimension, and others who are alike."""
    d = 48
    few = np.diag([1.0] * 8 + [0.25] * 40)
    full, thin = (Statistics(np.zeros(d), f @ f.T, 500, f.astype(np.float32)) for f in (np.eye(d), few))
    return LabelledStatistics("kind", ("full", "thin"), (full, thin))


@pytest.mark.parametrize("parts", ["full:1,thin:1", "full:9,thin:1"])
def test_each_group_of_a_mix_is_foretold(parts: str) -> None:
    """What its filling then draws of each; the group that saturates is extrapolated four times beyond its pilot."""
    n, source = 3000, find_source(uneven()).mixed(parts)  # type: ignore[attr-defined]
    plan = plan_request(n, source, 0.6, pilot_rows=4608)
    assert isinstance(plan, MixPlan)
    table = sample_identities(n, source=source, max_cosine=0.6)
    for number, group in enumerate(plan.groups):
        drawn = int(table.candidate[table.group == number].max()) // 2 + 1
        assert (
            group.identities
            == (table.group == number).sum()
            == (order_of_mix(source.parts, n) == number).sum()
        )
        assert group.candidates == pytest.approx(drawn, rel=0.3), group.name
    assert plan.candidates == pytest.approx(table.provenance["candidates_drawn"], rel=0.25)
    assert plan.candidates == pytest.approx(sum(group.candidates for group in plan.groups))
    assert sum(line.startswith("group  ") for line in plan.lines()) == 2
    assert plan.to_json()["groups"][1]["name"] == "thin"
    assert np.isfinite(plan.seconds)


def test_the_group_that_runs_out_is_named_before() -> None:
    source = find_source(uneven()).mixed("equal")  # type: ignore[attr-defined]
    plan = plan_request(60_000, source, 0.5, pilot_rows=4608)
    assert not plan.feasible
    assert plan.kept_at_budget < 60_000
    with pytest.raises(SaturationError, match=r"60,000 identities .* Group 'thin' runs out first"):
        plan.refuse_if_saturated()


def test_a_mix_of_one_group_is_that_group() -> None:
    whole = uneven()
    source = find_source(whole).mixed("full:1,thin:0")  # type: ignore[attr-defined]
    assert isinstance(source, LabelledSource)
    mixed = plan_request(2500, source, 0.5, pilot_rows=4608)
    alone = plan_identities(2500, source.sources[0], 0.5, pilot_rows=4608)
    assert mixed.candidates == pytest.approx(alone.candidates, rel=1e-6)
    assert mixed.kept_at_budget == pytest.approx(alone.kept_at_budget, rel=1e-6)


@pytest.mark.slow
def test_foreseen_time_of_a_packing() -> None:
    """1,500 of `mini` in processor time, within 30 % where it is measured twice (5,000: `bench.cpu.plans`)."""
    table: Identities = sample_identities(1500, model="mini")
    best = np.inf
    for _ in range(2):
        plan = foresee_packing(table, clock=time.process_time)
        started = time.process_time()
        packing(table)
        best = min(best, abs(plan.seconds / (time.process_time() - started) - 1))
    assert best < 0.3
