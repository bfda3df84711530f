"""A table that goes on: bit-equal to one made at once, and refused by name where there is no stream to go on with."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from v2f_kernels import _cosine

from v2f_engine.errors import ConfigError, SaturationError, VectorError
from v2f_engine.randomness import Purpose, normals
from v2f_engine.vectors.growth import extend_identities, stream_of
from v2f_engine.vectors.growth_plan import plan_extension
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.people import rescaled_source
from v2f_engine.vectors.sampling import sample_identities
from v2f_engine.vectors.sources import GaussianSource, StatisticsSource, find_source
from v2f_engine.vectors.statistics import fit_statistics, save_statistics

SMALL = GaussianSource(40)


def real_people(rows=300):
    return normals(77, Purpose.EVALUATION, np.arange(rows), 0, 40)


@given(
    first=st.integers(1, 60), more=st.integers(0, 60), block=st.sampled_from([1, 7, 64, 16_384]),
    seed=st.integers(0, 3), cosine=st.sampled_from([0.35, 0.5, None]), excluding=st.booleans(),
    backend=st.sampled_from(["auto", "reference"]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_extended_is_made_at_once(first, more, block, seed, cosine, excluding, backend):
    """Vectors, candidates, provenance and hash, whatever the blocks were cut like before and after."""
    exclude = real_people() if excluding else None
    asked = {"max_cosine": cosine, "seed": seed, "source": SMALL, "exclude": exclude}
    asked |= {"exclude_cosine": 0.45} if excluding else {}
    table = sample_identities(first, **asked, block=23)
    larger = extend_identities(
        table, first + more, source=SMALL, exclude=exclude, block=block, backend=backend
    )
    at_once = sample_identities(first + more, **asked)
    assert larger.to_bytes() == at_once.to_bytes()
    assert np.array_equal(larger.vectors[:first], table.vectors)


def test_in_several_steps_and_through_files(tmp_path):
    """Statistics from a file, exclusion from files, a table that is loaded each time."""
    rows = np.random.default_rng(3).standard_normal((2000, 40)).astype(np.float32) * np.arange(1, 41) ** -0.3
    save_statistics(tmp_path / "s.safetensors", fit_statistics([(0, rows)]))
    np.save(tmp_path / "a.npy", real_people()[:100])
    np.save(tmp_path / "b.npy", real_people()[100:])
    files = [tmp_path / "a.npy", tmp_path / "b.npy"]
    source = tmp_path / "s.safetensors"
    sample_identities(20, max_cosine=0.6, source=source, exclude=files).save(tmp_path / "t20.safetensors")
    for before, n in ((20, 21), (21, 90), (90, 90)):
        table = extend_identities(tmp_path / f"t{before}.safetensors", n, source=source, exclude=files)
        table.save(tmp_path / f"t{n}.safetensors")
    at_once = sample_identities(90, max_cosine=0.6, source=source, exclude=files)
    assert (tmp_path / "t90.safetensors").read_bytes() == at_once.to_bytes()
    with pytest.raises(ConfigError, match=r"of which it holds the hash alone\. Name the file again"):
        extend_identities(tmp_path / "t20.safetensors", 30, exclude=files)


@pytest.mark.parametrize("source", ["gaussian", "mini"])
def test_known_sources_need_no_name(source):
    table = sample_identities(30, source=source, seed=4)
    limit = table.provenance["max_cosine"]
    at_once = sample_identities(75, source=source, seed=4, max_cosine=limit)
    assert extend_identities(table, 75).to_bytes() == at_once.to_bytes()
    of_a_model = replace(table, provenance={**table.provenance, "model": "mini"})
    assert extend_identities(of_a_model, 75).provenance == {**at_once.provenance, "model": "mini"}


def test_only_the_new_part_is_drawn():
    """Nothing behind the table but a look at some of its rows: the counts are the proof, no clock."""
    drawn = []

    class Counted(GaussianSource):
        def candidates(self, seed, first, count):
            drawn.append((first, count))
            return super().candidates(seed, first, count)

    source = Counted(40)
    table = sample_identities(500, max_cosine=0.5, source=source)
    behind = table.provenance["candidates_drawn"]
    drawn.clear()
    extend_identities(table, 600, source=source)
    again = [count for first, count in drawn if first < behind]
    assert sum(again) <= 16
    assert max(again) == 1
    assert min(first for first, count in drawn if count > 1) == behind


REFUSED = {
    "fewer": (lambda t: (t, 10, {}), ConfigError, r"has 50 identities, and 10 in all were asked for"),
    "another source": (
        lambda t: (t, 60, {"source": GaussianSource(41)}), ConfigError,
        r"sampled from 'gaussian' \(sha256 \w+\), found",
    ),
    "excluding now": (
        lambda t: (t, 60, {"exclude": real_people()}), ConfigError, "kept apart from no real people",
    ),
    "proven": (
        lambda t: (told(t, faces={"kept": 50}), 60, {}), VectorError, r"proven on its faces.*v2f ids prove",
    ),
    "keyed by candidate": (lambda t: (told(t, noise="candidate"), 60, {}), VectorError, "keyed by candidate"),
    "rescaled": (lambda t: (told(t, rescaled_to=20.0), 60, {}), VectorError, "given and rescaled"),
    "held apart": (lambda t: (told(t, held_apart={"max_cosine": 0.3}), 60, {}), VectorError, "were given"),
    "a part": (lambda t: (t[:30], 60, {}), VectorError, "rows were chosen from a table: extend that one"),
    "another order": (
        lambda t: (Identities(t.vectors[::-1].copy(), t.candidate[::-1].copy(), t.provenance), 60, {}),
        VectorError, "not those of its stream, in order",
    ),
    "cut": (
        lambda t: (Identities(t.vectors[:40], t.candidate[:40], t.provenance), 60, {}),
        VectorError, r"found 40 rows that end with",
    ),
    "given vectors": (
        lambda t: (Identities.from_vectors(normals(0, Purpose.EVALUATION, np.arange(60), 0, 512)), 60, {}),
        VectorError, r"it was not sampled \(its source is 'given vectors'",
    ),
    "another seed": (
        lambda t: (told(t, seed=9), 60, {}), VectorError, r"identity 0 is not candidate 0 of 'gaussian' with seed 9",
    ),
    "packed": (lambda t: (told(t, packed={}), 60, {}), VectorError, "Extend the table that was packed"),
    "of groups": (lambda t: (told(t, mix={}), 60, {}), VectorError, "a source with groups"),
    "a later version's": (lambda t: (told(t, twins=True), 60, {}), VectorError, "does not know what twins in it"),
    "not ours": (lambda t: (told(t, candidates_drawn="50"), 60, {}), VectorError, "not what this program writes"),
}  # fmt: skip


def told(table, **further):
    return replace(table, provenance={**table.provenance, **further})


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case):
    change, error, words = REFUSED[case]
    table, n, options = change(sample_identities(50, max_cosine=0.5, source=SMALL))
    with pytest.raises(error, match=words):
        extend_identities(table, n, **{"source": SMALL, **options})


def test_other_real_people_are_refused():
    table = sample_identities(50, max_cosine=0.5, source=SMALL, exclude=real_people())
    with pytest.raises(ConfigError, match=r"kept apart from 300 real people .* Name the same files again"):
        extend_identities(table, 60, source=SMALL)
    for other in (real_people(299), real_people()[::-1].copy()):
        with pytest.raises(ConfigError, match=r"from 300 real people with sha256 \w+, found \d+ with"):
            extend_identities(table, 60, source=SMALL, exclude=other)


def test_too_many_is_said_before_or_during():
    source = GaussianSource(16)
    table = sample_identities(40, max_cosine=0.4, source=source)
    with pytest.raises(SaturationError, match=r"40 were kept of \d+ drawn"):
        extend_identities(table, 41, source=source, max_candidates=table.provenance["candidates_drawn"])
    with pytest.raises(SaturationError, match="would be needed"):
        extend_identities(table, 5000, source=source)


def test_the_plan_counts_the_new_part_alone():
    """Candidates as they then are; nothing to do costs no candidate; what is said is of the new part."""
    source = GaussianSource(96)
    at_once = sample_identities(2500, max_cosine=0.3, source=source)
    table = Identities(
        at_once.vectors[:2000], at_once.candidate[:2000],
        {**at_once.provenance, "candidates_drawn": int(at_once.candidate[1999]) + 1},
    )  # fmt: skip
    plan = plan_extension(table, 2500, source)
    behind = table.provenance["candidates_drawn"]
    really = at_once.provenance["candidates_drawn"] - behind
    assert (plan.drawn, plan.held) == (behind, 2000)
    assert plan.new_candidates == pytest.approx(really, rel=0.1)
    assert plan.candidates == behind + plan.new_candidates
    assert plan_extension(table, 2000, source).new_candidates == 0
    told = plan.to_json()
    assert (told["new_identities"], told["drawn"]) == (500, behind)
    assert any("500 more than the 2,000 of the table" in line for line in plan.lines())


def test_the_plan_knows_of_exclusion():
    """Real people take about half of the candidates; no pilot of the source alone would say so."""
    real = real_people(500)
    asked = {"max_cosine": 0.6, "source": SMALL, "exclude": real, "exclude_cosine": 0.45}
    table, at_once = sample_identities(1600, **asked), sample_identities(2000, **asked)
    plan = plan_extension(table, 2000, SMALL)
    behind = table.provenance["candidates_drawn"]
    really = at_once.provenance["candidates_drawn"] - behind
    assert behind > 1.3 * 1600
    assert plan.new_candidates == pytest.approx(really, rel=0.25)
    assert plan.excluded == 500
    assert "500 real people" in plan.lines()[-1]


@pytest.mark.slow
def test_foreseen_time_of_a_large_table():
    """A table of 120,000, 24,000 more: within 30 % of the processor time where it is measured twice."""
    source = GaussianSource(512)
    table = sample_identities(120_000, max_cosine=0.3, source=source)
    best = np.inf
    for _ in range(3):
        plan = plan_extension(table, 144_000, source)
        started = time.perf_counter()
        stream_of(table, source=source).take(144_000, max_candidates=10**7)
        seconds = time.perf_counter() - started
        best = min(best, abs(plan.seconds / seconds - 1))
    assert best < 0.3


def test_apart_from_old_and_new():
    """The closed statement: every cosine of the larger table is below the limit, in float64."""
    table = extend_identities(sample_identities(40, max_cosine=0.4, source=SMALL), 120, source=SMALL)
    cosines = _cosine.cosine(table.vectors[:, None], table.vectors[None])
    assert (cosines - 2 * np.eye(120)).max() < 0.4


def test_statistics_objects_go_on():
    rows = np.random.default_rng(1).standard_normal((500, 24)).astype(np.float32)
    source = StatisticsSource(fit_statistics([(0, rows)]), "ours")
    table = sample_identities(10, max_cosine=0.7, source=source)
    assert len(extend_identities(table, 25, source=source)) == 25


@pytest.mark.parametrize("source", ["gaussian", "mini"])
def test_a_source_that_was_rescaled_is_found(source):
    """By the factor in its name and its hash: nobody could type `gaussian, times 1.07774`."""
    scaled = rescaled_source(find_source(source), float(f"{1.0777412345:.6g}"))
    asked = {"source": scaled, "seed": 3, "max_cosine": 0.5}
    small, large = sample_identities(4, **asked), sample_identities(9, **asked)
    grown = extend_identities(small, 9)
    assert (grown.table_hash, grown.provenance) == (large.table_hash, large.provenance)
    unknown = {**small.provenance, "source": "gaussian, times two", "source_sha256": "0" * 64}
    with pytest.raises(ConfigError, match="Name the file again"):
        extend_identities(replace(small, provenance=unknown), 9)


def test_the_plans_seconds_are_the_sum_of_their_parts():
    """By a clock of one second a look: candidates drawn, pairs of old, new and real people, and what handling took."""
    ticks = itertools.count(1)
    table = sample_identities(400, max_cosine=0.6, source=SMALL, exclude=real_people())
    plan = plan_extension(table, 500, SMALL, pilot_rows=600, clock=lambda: float(next(ticks)))
    new, timed = plan.new_candidates, plan.pilot
    assert table.candidate[399] - table.candidate[300] == 99, "nobody was lost at the end of the table"
    assert new == pytest.approx(100)
    drawing = new / timed.candidates_per_second
    old_and_new, real = new * (400 + 500) / 2, new * 300
    comparing = (old_and_new + real) / timed.pairs_per_second
    assert plan.handling > 2, "taking the table up and planning"
    assert plan.seconds == pytest.approx(plan.handling + drawing + comparing, rel=1e-12)
