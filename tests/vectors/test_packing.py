"""Packed identities: closed forms, never worse than given, held where they were drawn, the same bits everywhere."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from v2f_engine.errors import ConfigError, SaturationError, VectorError
from v2f_engine.vectors.growth import extend_identities
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.likelihood import Likelihood
from v2f_engine.vectors.neighbours import UNIT, codes_of, neighbours_of
from v2f_engine.vectors.packing import pack_identities, packing, save_curve
from v2f_engine.vectors.packing_plan import foresee_packing
from v2f_engine.vectors.packing_steps import EVERY, RATE, SHARED, Point, Steps
from v2f_engine.vectors.sampling import sample_identities
from v2f_engine.vectors.sources import GaussianSource, StatisticsSource
from v2f_engine.vectors.spherical_codes import least_worst_cosine
from v2f_engine.vectors.statistics import fit_statistics

FREE = {"pull": 0.0, "max_drift": 1e9}


def fitted(d: int = 24, seed: int = 3):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((4000, d)) * np.arange(1, d + 1) ** -0.5 * 3 + 0.2
    return fit_statistics([(0, rows.astype(np.float32))], origin="toy")


def cosines(vectors):
    """float64, by the plain loop of a person."""
    units = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1)[:, None]
    return units @ units.T


def nearest(vectors):
    found = cosines(vectors)
    np.fill_diagonal(found, -2)
    return found.max(axis=1)


@pytest.mark.parametrize(
    ("n", "d", "cosine"),
    [
        (4, 3, -1 / 3),  # simplex
        (5, 2, np.cos(2 * np.pi / 5)),
        (6, 3, 0),  # octahedron; between simplex and here Rankin
        (7, 5, 0),
        (12, 3, 5**-0.5),  # icosahedron
        (16, 5, 1 / 5),  # Clebsch
        (27, 6, 1 / 4),  # Schlaefli
        (56, 7, 1 / 3),
        (240, 8, 1 / 2),  # E8
        (275, 22, 1 / 6),  # McLaughlin
        (4600, 23, 1 / 3),
        (196560, 24, 1 / 2),  # Leech
    ],
)
def test_the_bound_is_reached_by_the_codes_that_are_known_to_be_best(n, d, cosine):
    assert least_worst_cosine(n, d) == pytest.approx(cosine, abs=1e-12)


def test_the_bound_is_no_larger_than_what_there_is_and_grows_with_n():
    assert (
        0.80 < least_worst_cosine(120, 4) < np.cos(np.pi / 5)
    )  # the 600-cell, which is best and not by this bound
    found = [least_worst_cosine(n, 10) for n in (2, 5, 11, 12, 20, 21, 65, 66, 200, 5000)]
    assert found == sorted(found)
    with pytest.raises(ConfigError, match="directions"):
        least_worst_cosine(1, 3)


@pytest.mark.parametrize("block", [9, 64, 4096])
def test_neighbours_are_those_of_a_plain_loop_in_any_block(block):
    vectors = GaussianSource(12).candidates(1, 0, 70)
    codes = codes_of(vectors)
    exact = codes.astype(np.int64) @ codes.astype(np.int64).T
    assert np.abs(exact / UNIT**2 - cosines(vectors)).max() < 12**0.5 / UNIT
    np.fill_diagonal(exact, -(UNIT**2))
    found = neighbours_of(codes, 0.3, most=9999, aim=int(0.5 * UNIT**2), block=block)
    for row in range(70):
        near = found.others[found.starts[row] : found.starts[row + 1]]
        assert near.tolist() == np.flatnonzero(exact[row] >= 0.3 * UNIT**2).tolist()
    assert found.nearest.tolist() == exact.max(axis=1).tolist()
    assert found.above == (exact > 0.5 * UNIT**2).sum() // 2
    with pytest.raises(SaturationError, match="larger target"):
        neighbours_of(codes, 0.3, most=found.pairs - 1, block=block)


def test_two_become_opposite():
    table = sample_identities(2, source=GaussianSource(3), max_cosine=None, seed=4)
    found = packing(table, source=GaussianSource(3), target=-1, steps=300, **FREE)
    assert cosines(found.table.vectors)[0, 1] < -0.99 < cosines(table.vectors)[0, 1]


@pytest.mark.parametrize("d", [2, 3, 6])
def test_one_more_than_dimensions_become_a_simplex(d):
    source = GaussianSource(d)
    table = sample_identities(d + 1, source=source, max_cosine=None, seed=d)
    found = packing(table, source=source, target=-1 / d, steps=200, **FREE)
    off = cosines(found.table.vectors)[~np.eye(d + 1, dtype=bool)]
    assert off == pytest.approx(-1 / d, abs=0.01)
    assert found.bound == pytest.approx(-1 / d)


def test_a_step_is_what_a_plain_loop_makes_of_the_formulas():
    statistics, target, pull = fitted(), 0.5, 0.1
    table = sample_identities(30, source=statistics, max_cosine=None, seed=2)
    found = packing(table, source=statistics, target=target, pull=pull, steps=1, max_drift=1e9)
    assert found.step == 1
    x, factor = table.vectors.astype(np.float64), statistics.factor.astype(np.float64)
    covariance = factor @ factor.T
    covariance *= np.trace(covariance) / np.trace(covariance @ covariance)
    moved = []
    for i in range(30):
        push, gaps, u = np.zeros(24), [], x[i] / np.linalg.norm(x[i])
        for j in range(30):
            v = x[j] / np.linalg.norm(x[j])
            if j != i and u @ v > target:
                gaps.append(u @ v - target)
                push += gaps[-1] * v
        if gaps:
            push /= 1 + SHARED * (sum(gaps) / max(gaps) - 1)
        push, inwards = covariance @ push, covariance @ u
        push -= (u @ push) / (u @ inwards) * inwards
        assert abs(push @ u) < 1e-12
        new = (
            x[i] - RATE * np.linalg.norm(x[i]) * push
        )  # back to where it began: already there before the step
        new += pull * (x[i] - new)
        moved.append(new * np.linalg.norm(x[i]) / np.linalg.norm(new))
    assert np.abs(np.stack(moved) - x).max() > 0.05
    assert found.table.vectors == pytest.approx(np.stack(moved), abs=2e-3)


@settings(max_examples=12, deadline=None)
@given(
    some.integers(0, 10**6), some.integers(2, 40), some.floats(0.02, 0.5), some.floats(0, 1), some.booleans()
)
def test_never_worse_than_given_and_nothing_else_changes(seed, n, lower, pull, isotropic):
    source = GaussianSource(16) if isotropic else StatisticsSource(fitted(16), "toy")
    table = sample_identities(n, source=source, max_cosine=None, seed=seed)
    before = nearest(table.vectors)
    target = max(float(before.max()) - lower, least_worst_cosine(n, 16))
    found = packing(table, source=source, target=target, pull=pull, steps=7)
    after = nearest(found.table.vectors)
    assert after.max() <= before.max()
    assert after.mean() <= before.mean() + 1e-12
    assert found.before == pytest.approx(before, abs=1e-12)
    assert found.after == pytest.approx(after, abs=1e-12)
    assert found.step == 0 or after.max() < before.max()
    lengths = [np.linalg.norm(one.vectors, axis=1) for one in (table, found.table)]
    assert lengths[1] == pytest.approx(lengths[0], rel=1e-6)
    assert abs(found.typicality[1] - found.typicality[0]) <= found.spread + 1e-9
    assert np.array_equal(found.table.candidate, table.candidate)
    assert np.array_equal(found.table.keys, table.keys)
    assert found.bound <= after.max()


def test_the_same_bits_whatever_computes():
    """Blocks, threads and the precision that others allow; the hash is that of every machine."""
    table = sample_identities(150, source=GaussianSource(32), max_cosine=0.6, seed=1)
    threads, allowed = torch.get_num_threads(), torch.get_float32_matmul_precision()
    found = set()
    try:
        for block, count, precision in ((4096, 1, "highest"), (64, 2, "medium"), (37, 1, "high")):
            torch.set_num_threads(count)
            torch.set_float32_matmul_precision(precision)
            packed = pack_identities(table, source=GaussianSource(32), block=block, steps=10)
            found.add(packed.table_hash)
            assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(allowed)
    assert found == {"dc2a4b020d60b79e3b4fd76e02abd127c2ee2122881bee8db029435a84342070"}


def test_it_stays_where_the_source_draws():
    """The measure counts: without it as many are as far apart, and much less typical."""
    statistics = fitted()
    table = sample_identities(200, source=statistics, max_cosine=0.7, seed=1)
    found = packing(table, source=statistics)
    assert found.after.max() < found.before.max() - 0.02
    assert abs(found.typicality[1] - found.typicality[0]) < 0.3 * found.spread
    z = np.linalg.solve(statistics.covariance, (found.table.vectors - statistics.mean).T.astype(np.float64))
    expected = np.sqrt(((found.table.vectors - statistics.mean) * z.T).sum(axis=1)).mean()
    assert found.typicality[1] == pytest.approx(expected, rel=1e-4)
    other = pack_identities(
        dataclasses.replace(table, provenance={}), source=GaussianSource(24), max_drift=1e9
    )
    measure = Likelihood.of(StatisticsSource(statistics, "toy"))
    strayed = measure.mean_distance(other.vectors) - found.typicality[0]
    assert strayed > 1.2 * abs(found.typicality[1] - found.typicality[0])
    held = packing(table, source=statistics, max_drift=0)
    assert held.step == 0
    assert np.array_equal(held.table.vectors, table.vectors)
    assert len(held.curve) == 2


def test_a_stronger_pull_moves_less():
    table = sample_identities(100, source=GaussianSource(16), max_cosine=0.7, seed=1)
    stayed = [packing(table, source=GaussianSource(16), pull=pull).stayed.mean() for pull in (0, 0.1, 0.5)]
    assert stayed == sorted(stayed)
    assert stayed[0] < stayed[2]


@pytest.fixture(scope="module")
def shielded():
    """A table kept apart from a person towards whom packing moves somebody, and that person."""
    source = GaussianSource(12)
    plain = sample_identities(40, source=source, max_cosine=0.8, seed=3)
    free = pack_identities(plain, source=source)
    away = cosines(np.concatenate([plain.vectors, free.vectors]))[:40, 40:].diagonal()
    mover = int(away.argmin())
    step = free.vectors[mover] - plain.vectors[mover]
    real = (free.vectors[mover] + 0.5 * step)[None]
    limit = float((cosines(np.concatenate([real, plain.vectors]))[0, 1:].max() + 1e-4).round(6))
    reached = cosines(np.concatenate([real, free.vectors]))[0, 1:].max()
    assert reached > limit  # without the exclusion somebody would resemble that person
    table = sample_identities(40, source=source, max_cosine=0.8, seed=3, exclude=real, exclude_cosine=limit)
    assert np.array_equal(table.vectors, plain.vectors)
    return table, real, limit, mover


def test_an_excluded_person_stays_excluded(shielded):
    table, real, limit, mover = shielded
    found = packing(table, source=GaussianSource(12), exclude=real)
    assert cosines(np.concatenate([real, found.table.vectors]))[0, 1:].max() < limit
    assert found.curve[-1].held >= 1
    assert np.array_equal(found.table.vectors[mover], table.vectors[mover])
    assert found.after.max() < found.before.max()
    assert found.table.provenance["exclude"] == table.provenance["exclude"]


def test_excluded_people_have_to_be_named_and_be_the_same(shielded):
    table, real, *_ = shielded
    source = GaussianSource(12)
    with pytest.raises(ConfigError, match="name the same files again"):
        packing(table, source=source)
    with pytest.raises(ConfigError, match="kept apart from 1 real people with sha256"):
        packing(table, source=source, exclude=real + 1)
    given = dataclasses.replace(
        table, provenance={"source": "x", "held_apart": {"exclude": table.provenance["exclude"]}}
    )
    with pytest.raises(ConfigError, match="name the same files again"):
        packing(given, source=source)
    # Of a table without them: whoever is given counts at the table's own cosine, and must not be resembled already.
    plain = sample_identities(40, source=source, max_cosine=0.8, seed=3)
    with pytest.raises(VectorError, match="excluded people"):
        packing(plain, source=source, exclude=plain.vectors[:1] * 2)
    stranger = sample_identities(41, source=source, max_cosine=0.8, seed=3).vectors[40:]
    packed = pack_identities(plain, source=source, exclude=stranger)
    assert packed.provenance["exclude"]["rows"] == 1
    assert cosines(np.concatenate([stranger, packed.vectors]))[0, 1:].max() < 0.8


def test_the_table_says_what_it_was_packed_from(tmp_path):
    table = sample_identities(60, source="gaussian", max_cosine=0.2, seed=1)
    found = packing(table, steps=5)
    packed = found.table
    told = packed.provenance["packed"]
    assert told["from"] == table.table_hash
    assert told["statistics"] == table.provenance["source_sha256"]
    assert (told["steps"], told["step"], told["target"]) == (5, found.step, found.target)
    assert told["worst_cosine"] == [found.before.max(), found.after.max()]
    assert {name: packed.provenance[name] for name in table.provenance} == dict(table.provenance)
    packed.save(tmp_path / "p.safetensors")
    assert Identities.load(tmp_path / "p.safetensors") == packed
    assert packed.describe()["packed"] == told
    with pytest.raises(VectorError, match="cannot be extended"):
        extend_identities(packed, 61)
    part = table[20:40]
    assert pack_identities(part, target=0.05).keys.tolist() == list(range(20, 40))
    again = packing(packed, target=found.after.max() - 0.02, steps=5).table  # a packed table can be packed
    assert again.provenance["packed"]["from"] == packed.table_hash
    save_curve(found, tmp_path / "c.csv")
    lines = (tmp_path / "c.csv").read_text().splitlines()
    assert lines[0] == "step,worst,mean,typicality,above,held"
    assert len(lines) == 1 + len(found.curve) == 3
    plan = foresee_packing(table, steps=5)
    assert (plan.looks, plan.target, plan.operations) == (2, found.target, 2 * 60 * 60 * 512)


@pytest.mark.parametrize(
    ("about", "options", "error", "match"),
    [
        ({"faces": {}}, {}, VectorError, "proven on its faces"),
        ({"rescaled_to": 24.0}, {}, VectorError, "rescaled"),
        ({"rescaled": True}, {}, VectorError, "rescaled"),
        ({"source_sha256": ""}, {}, ConfigError, "Name the source"),
        ({"source_sha256": "0" * 64}, {}, ConfigError, "Name the file again"),
        ({}, {"source": "mini"}, ConfigError, "was sampled from"),
        ({}, {"source": GaussianSource(8)}, ConfigError, "source"),
        ({}, {"target": 0.9}, ConfigError, "no two identities are as similar"),
        ({}, {"target": -0.5}, ConfigError, "out of reach"),
        ({}, {"target": 1.5}, ConfigError, "target"),
        ({}, {"steps": 0}, ConfigError, "steps"),
        ({}, {"pull": 1.5}, ConfigError, "pull"),
        ({}, {"max_drift": -1}, ConfigError, "max_drift"),
        ({}, {"block": 0}, ConfigError, "block"),
    ],
)
def test_what_is_refused(about, options, error, match):
    table = sample_identities(5, source="gaussian", max_cosine=0.3)
    table = dataclasses.replace(table, provenance={**table.provenance, **about})
    with pytest.raises(error, match=match):
        packing(table, **options)


def test_one_alone_and_a_crowd_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match="identities"):
        packing(sample_identities(1, source="gaussian"))
    monkeypatch.setattr("v2f_engine.vectors.packing_steps.NEIGHBOURS", 1)
    crowd = sample_identities(30, source=GaussianSource(4), max_cosine=None)
    with pytest.raises(SaturationError, match="a crowd"):
        packing(crowd, source=GaussianSource(4), target=0.6)


@pytest.mark.slow
def test_a_thousand_of_mini_end_much_further_apart_and_as_typical():
    found = packing(sample_identities(1000, model="mini"))
    assert found.after.max() <= found.before.max() - 0.065
    assert found.after.mean() < found.before.mean() - 0.02
    assert abs(found.typicality[1] - found.typicality[0]) < 0.05 * found.spread
    assert found.stayed.min() > 0.99


class Told(Steps):
    """Steps whose looks find what is told, and which move everybody by 1."""

    def __init__(self, looks, max_drift=1.0):
        self.looks, self.faded = looks, []
        source = GaussianSource(12)
        super().__init__(
            np.ones((2, 12), np.float32), Likelihood.of(source), None, 0.1, 20, 0.5, max_drift, "cpu", 64
        )

    def _step(self, near, faded):
        self.now += 1
        self.faded.append(faded)

    def _look(self, step):
        worst, mean, typicality = self.looks[step // EVERY]
        self.curve.append(Point(step, worst, mean, typicality, 1, 0))


def test_the_best_arrangement_seen_comes_back_and_the_pull_fades():
    """Neither the last one, nor one whose mean is above that of the start; the k-th of 20 steps has 1 - k / 20."""
    run = Told([(0.6, 0.2, 0), (0.5, 0.2, 0), (0.4, 0.1, 0), (0.3, 0.21, 0), (0.45, 0.1, 0)])
    best, step = run.to_the_end(None)
    assert step == 10
    assert (best == 11).all()
    assert run.faded == pytest.approx([1 - k / 20 for k in range(20)])


def test_a_drift_is_counted_in_spreads_of_one_candidate():
    """Of a chi distribution with 12 degrees of freedom: 0.7 of a length, so 0.8 of one is too far."""
    spread = np.sqrt(12 - 2 * (math.gamma(6.5) / math.gamma(6)) ** 2)
    assert 0.65 < spread < 0.75
    looks = [
        (0.6, 0.2, 3),
        (0.5, 0.2, 3 + 0.99 * spread),
        (0.4, 0.1, 3 - 1.01 * spread),
        (0.3, 0.1, 3),
        (0.2, 0.1, 3),
    ]
    run = Told(looks)
    assert run.to_the_end(None)[1] == 5
    assert len(run.curve) == 3, "what lies beyond ends the steps"
    assert Told(looks, max_drift=1.02).to_the_end(None)[1] == 20


def test_what_only_rounded_cosines_call_better_is_not_given(monkeypatch):
    """The steps look at cosines to 1e-4; whether their result is better is decided by the exact ones."""
    table = sample_identities(30, source=GaussianSource(16), max_cosine=0.6, seed=1)
    worse = table.vectors.copy()
    worse[0] = worse[1] + 0.1 * worse[0]
    monkeypatch.setattr(Steps, "to_the_end", lambda self, progress: (worse, 5))
    found = packing(table, source=GaussianSource(16))
    assert found.step == 0
    assert np.array_equal(found.table.vectors, table.vectors)
    assert np.array_equal(found.after, found.before)
