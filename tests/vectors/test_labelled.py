"""Statistics of groups: equal to NumPy of each group's rows, refused where rows are too few, checked when read; tables
of a mix: its shares, apart, the beginning of every larger one, with a label that survives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2f_engine.errors import ConfigError, SaturationError, VectorError
from v2f_engine.vectors.files import read_tensors, write_tensors
from v2f_engine.vectors.group_names import MOST
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.labelled import (
    FORMAT,
    LabelledStatistics,
    fit_groups,
    load_labelled,
    save_labelled,
)
from v2f_engine.vectors.people import Rescaled, rescaled_source
from v2f_engine.vectors.proof import prove_identities
from v2f_engine.vectors.sampling import IdentityStream, sample_identities
from v2f_engine.vectors.sources import LabelledSource, find_source
from v2f_engine.vectors.statistics import Statistics, fit_statistics

D = 24
NAMES = ("mid", "old", "young")


def people(counts: tuple[int, ...] = (60, 50, 70), seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Rows of three groups with means and spreads of their own, shuffled."""
    rng = np.random.default_rng(seed)
    blocks = [rng.standard_normal((n, D)) * (1 + g) + rng.standard_normal(D) for g, n in enumerate(counts)]
    groups = [NAMES[g] for g, n in enumerate(counts) for _ in range(n)]
    order = rng.permutation(len(groups))
    return np.concatenate(blocks)[order].astype(np.float32), [groups[k] for k in order]


def fit(rows: np.ndarray, groups: list[str], **options: Any) -> LabelledStatistics:
    cut = len(rows) // 3
    return fit_groups([(0, rows[:cut]), (cut, rows[cut:])], groups, **options)


@pytest.fixture(scope="module")
def fitted() -> LabelledStatistics:
    return fit(*people(), column="age", origin="toy")


def test_each_group_is_numpys_mean_and_covariance(fitted: LabelledStatistics) -> None:
    rows, groups = people()
    assert (fitted.names, fitted.counts, fitted.column) == (NAMES, (60, 50, 70), "age")
    for name, one in zip(fitted.names, fitted.groups, strict=True):
        own = rows[np.array(groups) == name].astype(np.float64)
        assert np.allclose(one.mean, own.mean(axis=0), rtol=1e-12, atol=1e-13)
        assert np.allclose(one.covariance, np.cov(own.T), rtol=1e-10, atol=1e-12)
        alone = fit_statistics([(0, own.astype(np.float32))])
        assert np.allclose(one.factor @ one.factor.T, alone.covariance, rtol=1e-4, atol=1e-4)


def test_a_pooled_covariance_is_that_about_each_groups_mean() -> None:
    rows, groups = people((30, 12, 20))
    found = fit(rows, groups, covariance="pooled")
    own = np.array(groups)
    apart = np.concatenate(
        [(part := rows[own == name].astype(np.float64)) - part.mean(axis=0) for name in NAMES]
    )
    for name, one in zip(NAMES, found.groups, strict=True):
        assert np.allclose(one.covariance, apart.T @ apart / (len(rows) - 3), rtol=1e-10, atol=1e-12)
        assert np.allclose(one.mean, rows[own == name].astype(np.float64).mean(axis=0), atol=1e-12)


def test_everybody_together_is_the_mixture(fitted: LabelledStatistics) -> None:
    counts = np.array(fitted.counts)
    share = counts / counts.sum()
    mean = sum(s * g.mean for s, g in zip(share, fitted.groups, strict=True))
    moment = sum(
        s * (g.covariance + np.outer(g.mean, g.mean)) for s, g in zip(share, fitted.groups, strict=True)
    )
    assert np.allclose(fitted.together.mean, mean)
    assert np.allclose(fitted.together.covariance, moment - np.outer(mean, mean), atol=1e-10)


@pytest.mark.parametrize(
    ("counts", "options", "says"),
    [
        ((60, 9, 40), {}, r"1 of 3 groups have fewer than 10 rows: 'old' \(9\)"),
        ((60, 9, 40), {"covariance": "pooled", "shrinkage": "oas"}, r"fewer than 10 rows: 'old' \(9\)"),
        ((60, 24, 40), {}, r"'old' \(24\).*--covariance pooled .*--shrinkage oas, or --components 23"),
        ((10, 10, 10), {"covariance": "pooled", "components": None}, None),
        ((60, 25, 40), {}, None),
        ((60, 12, 40), {"components": 11}, None),
        ((60, 12, 40), {"components": 12}, r"'old' \(12\)"),
        ((60, 12, 40), {"shrinkage": "oas"}, None),
        ((60, 12, 40), {"shrinkage": 0.1}, None),
        ((60, 12, 40), {"covariance": "pooled"}, None),
    ],
)
def test_a_group_that_its_rows_cannot_carry_is_refused_by_name(
    counts: tuple[int, ...], options: dict[str, Any], says: str | None
) -> None:
    rows, groups = people(counts)
    if says is None:
        assert fit(rows, groups, **options).counts == counts
        return
    with pytest.raises(VectorError, match=says):
        fit(rows, groups, **options)


def test_a_pooled_covariance_needs_rows_too() -> None:
    rows, groups = people((10, 10, 10))
    wide = np.concatenate([rows, rows[:, :8] * 2 + 1], axis=1)
    with pytest.raises(
        VectorError, match="30 rows in 3 groups has rank 27, below 32 components. Give --components 27"
    ):
        fit(wide, groups, covariance="pooled")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda names: names[:-1], "180 rows of features and 179 groups"),
        (lambda names: [*names, "old"], "180 rows of features and 181 groups"),
        (lambda names: ["Old", *names[1:]], "'Old' and 'old' are one group in two spellings"),
        (lambda names: ["o\nld", *names[1:]], "printable"),
        (lambda names: ["x" * 101, *names[1:]], "at most 100 characters"),
        (
            lambda names: [f"g{k % (MOST + 1)}" for k, _ in enumerate(names * 2)],
            f"1 to {MOST} groups, found 257",
        ),
        (lambda names: [], f"1 to {MOST} groups, found 0"),
    ],
)
def test_names_that_are_no_groups(change: Callable[[list[str]], list[str]], says: str) -> None:
    rows, groups = people()
    with pytest.raises(VectorError, match=says):
        fit(rows, change(groups))


@pytest.mark.parametrize("covariance", ["own", "pooled"])
def test_a_file_holds_the_fit_and_equal_fits_equal_bytes(tmp_path: Path, covariance: str) -> None:
    found = fit(*people(), column="age", covariance=covariance, components=7)
    save_labelled(tmp_path / "a.safetensors", found)
    again = load_labelled(tmp_path / "a.safetensors")
    assert (again.names, again.counts, again.pooled, again.column) == (
        found.names,
        found.counts,
        found.pooled,
        "age",
    )
    for one, other in zip(found.groups, again.groups, strict=True):
        assert np.array_equal(one.mean, other.mean)
        assert np.array_equal(one.factor, other.factor)
        assert np.array_equal(one.covariance, other.covariance)
    assert again.sha256 == found.sha256
    save_labelled(tmp_path / "b.safetensors", again)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def _about(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any], dict[str, str]], None]:
    def apply(tensors: dict[str, Any], metadata: dict[str, str]) -> None:
        about = json.loads(metadata["about"])
        change(about)
        metadata["about"] = json.dumps(about)

    return apply


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t, m: t.pop("mean"), "incomplete"),
        (lambda t, m: t.update(mean=t["mean"][:2]), "do not fit each other"),
        (lambda t, m: t.update(factor=t["factor"].astype(np.float64)), "do not fit each other"),
        (lambda t, m: t.update(covariance=t["covariance"][0]), "do not fit each other"),
        (lambda t, m: t["mean"].__setitem__((0, 0), np.nan), "not finite"),
        (lambda t, m: t["mean"].__setitem__((0, 0), 9), "do not match their sha256"),
        (lambda t, m: m.update(about="{"), "incomplete"),
        (lambda t, m: m.update(about="[]"), "incomplete"),
        (lambda t, m: m.update(format="v2f-statistics/3"), "expected format 'v2f-statistics/2'"),
        (_about(lambda a: a.pop("names")), "incomplete"),
        (_about(lambda a: a["names"].reverse()), "do not match their sha256"),
        (_about(lambda a: a["names"].pop()), "do not fit each other"),
        (_about(lambda a: a.update(names=5)), "do not fit each other"),
        (_about(lambda a: a["counts"].__setitem__(0, 0)), "do not match their sha256"),
        (_about(lambda a: a["counts"].__setitem__(0, "60")), "do not match their sha256"),
        (_about(lambda a: a.update(pooled=True)), "do not fit each other"),
    ],
)
def test_a_file_that_is_changed_is_refused(
    tmp_path: Path, fitted: LabelledStatistics, change: Callable[..., object], says: str
) -> None:
    place = tmp_path / "a.safetensors"
    save_labelled(place, fitted)
    tensors, metadata = read_tensors(place, FORMAT)
    tensors, metadata = {name: array.copy() for name, array in tensors.items()}, dict(metadata)
    change(tensors, metadata)
    write_tensors(place, tensors, metadata)
    with pytest.raises(VectorError, match=says):
        load_labelled(place)


# Tables

WEIGHTS = st.lists(st.integers(0, 5), min_size=3, max_size=3).filter(any)


def sample(source: Any, n: int, mix: Any = None, **options: Any) -> Identities:
    return sample_identities(n, source=source, mix=mix, **{"max_cosine": 0.9, **options})


@settings(max_examples=25, deadline=None)
@given(WEIGHTS, st.integers(1, 300), st.integers(0, 3))
def test_any_mix_is_met_exactly_and_every_beginning_is_a_table(
    fitted: LabelledStatistics, weights: list[int], n: int, seed: int
) -> None:
    mix = dict(zip(NAMES, weights, strict=True))
    table = sample(fitted, n, mix, seed=seed, max_cosine=0.9)
    for name, count in table.group_counts.items():
        share = n * mix[name] / sum(weights)
        assert abs(count - share) < 1
        assert count == share or not share.is_integer()
    part = 1 + n // 2
    first = sample(fitted, part, mix, seed=seed, max_cosine=0.9)
    assert np.array_equal(first.vectors, table.vectors[:part])
    assert np.array_equal(first.group, table.group[:part])
    assert np.array_equal(first.candidate, table.candidate[:part])
    units = table.vectors / np.linalg.norm(table.vectors.astype(np.float64), axis=1, keepdims=True)
    cosine = units @ units.T - 2 * np.eye(n)
    assert cosine.max() < 0.9
    assert len(set(table.candidate.tolist())) == n


def test_a_table_is_that_of_the_plain_loop(fitted: LabelledStatistics) -> None:
    """Pass by pass in float64, as `filling` says it."""
    source = find_source(fitted).mixed("old:1,young:2")
    table = sample(fitted, 150, "old:1,young:2", max_cosine=0.6)
    turns = [2, 1, 2]  # young, old, young, and again
    kept: list[np.ndarray] = []
    used, many = [0, 0, 0], [1, 1, 1]
    found: list[list[tuple[int, np.ndarray]]] = [[], [], []]
    end = 0
    while any(len(found[g]) < count for g, count in ((1, 50), (2, 100))):
        begun, end = end, end + max(64, end)
        groups = [turns[place % 3] for place in range(end)]
        while empty := [
            g for place, g in enumerate(groups) if place >= begun and groups[:place].count(g) >= len(found[g])
        ]:
            before = [len(one) for one in found]
            for turn in range(max(many[g] for g in empty)):
                for g in (g for g in empty if many[g] > turn):
                    vector = source.sources[g].candidates(0, used[g], 1)[0]
                    used[g] += 1
                    unit = vector.astype(np.float64) / np.linalg.norm(vector.astype(np.float64))
                    if all(unit @ other < 0.6 for other in kept):
                        kept.append(unit)
                        found[g].append((3 * (used[g] - 1) + g, vector))
            for g in range(3):
                stayed, places = len(found[g]) - before[g], empty.count(g)
                many[g] = (
                    2 * many[g]
                    if 2 * stayed < places
                    else many[g] // 2
                    if stayed > places and many[g] > 1
                    else many[g]
                )
    expected = [found[turns[place % 3]].pop(0) for place in range(150)]
    assert table.candidate.tolist() == [number for number, _ in expected]
    assert np.array_equal(table.vectors, np.stack([vector for _, vector in expected]))
    assert max(used) > 130  # some were rejected


def test_a_groups_candidates_depend_on_neither_other_groups_nor_the_mix(fitted: LabelledStatistics) -> None:
    rows, groups = people()
    keep = [k for k, name in enumerate(groups) if name != "mid"]
    fewer = fit(rows[keep], [groups[k] for k in keep])
    one, other = find_source(fitted), find_source(fewer)
    assert isinstance(one, LabelledSource)
    assert isinstance(other, LabelledSource)
    assert np.array_equal(one.sources[1].candidates(5, 7, 20), other.sources[0].candidates(5, 7, 20))
    young = one.mixed("young:1")
    assert np.array_equal(young.candidates(5, 3, 20), one.sources[2].candidates(5, 3, 20))
    assert not np.array_equal(one.sources[1].candidates(5, 7, 20), one.sources[2].candidates(5, 7, 20))


def test_candidates_to_look_at_come_in_the_order_of_the_mix(fitted: LabelledStatistics) -> None:
    source = find_source(fitted).mixed("mid:2,old:1,young:3")
    whole = source.candidates(4, 0, 60)
    assert np.array_equal(np.concatenate([source.candidates(4, 0, 23), source.candidates(4, 23, 37)]), whole)


def test_the_group_that_runs_out_is_named(fitted: LabelledStatistics) -> None:
    line = np.zeros((D, D))
    line[0, 0] = 1.0  # two directions only
    thin = Statistics(np.zeros(D), line, 50, line.astype(np.float32))
    source = LabelledStatistics("age", NAMES, (fitted.groups[0], thin, fitted.groups[2]))
    with pytest.raises(SaturationError, match=r"group 'old' has [12] of 100, kept of .* drawn.*--mix"):
        sample(source, 300, "equal", max_cosine=0.9, max_candidates=20_000)
    assert len(sample(source, 300, "old:0,mid:1,young:1", max_cosine=0.9)) == 300


def test_real_people_are_no_ones_of_any_group(fitted: LabelledStatistics) -> None:
    free = sample(fitted, 60, "equal", max_cosine=0.9)
    real = free.vectors[:9] * 3
    table = sample(fitted, 60, "equal", max_cosine=0.9, exclude=real)
    assert set(table.group_counts.values()) == {20}
    units = lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)  # noqa: E731
    assert (units(table.vectors) @ units(real).T).max() < 0.9


def test_a_mix_of_a_source_without_groups_is_refused() -> None:
    with pytest.raises(ConfigError, match="gaussian has no groups. .* v2f ids fit FEATURES --groups"):
        sample_identities(5, source="gaussian", mix="old:1")
    with pytest.raises(VectorError, match="have no groups"):
        _ = sample_identities(5, source="gaussian").groups


def test_a_table_of_a_mix_cannot_be_taken_up_where_it_ends(fitted: LabelledStatistics) -> None:
    table = sample(fitted, 12)
    with pytest.raises(ConfigError, match="its first rows are this table"):
        IdentityStream(source=fitted, max_cosine=0.9).go_on(table.vectors, table.candidate)


def test_a_stream_gives_fewer_and_more(fitted: LabelledStatistics) -> None:
    stream = IdentityStream(source=fitted, max_cosine=0.9)
    tables = [stream.take(n, max_candidates=10**5) for n in (70, 10, 200, 64)]
    assert tables == [sample(fitted, n) for n in (70, 10, 200, 64)]


def test_a_source_times_a_factor_keeps_its_groups(fitted: LabelledStatistics) -> None:
    source = find_source(fitted)
    twice = rescaled_source(source, 2.0)
    assert isinstance(twice, LabelledSource)
    assert isinstance(twice.sources[0], Rescaled)
    one, other = sample(source, 30), sample(twice, 30)
    assert np.array_equal(other.vectors, one.vectors * 2)
    assert other.groups == one.groups
    assert twice.sha256 != source.sha256


def test_the_label_survives(tmp_path: Path, fitted: LabelledStatistics) -> None:
    table = sample(fitted, 40, "mid:1,old:1,young:2")
    names = np.array(table.groups)
    assert table.group_counts == {"mid": 10, "old": 10, "young": 20}
    table.save(tmp_path / "a.safetensors")
    again = Identities.load(tmp_path / "a.safetensors")
    assert again == table
    assert again.groups == table.groups
    assert table[3:9].groups == names[3:9].tolist()
    assert table[names == "old"].group_counts == {"mid": 0, "old": 10, "young": 0}
    chosen = table[[7, 2, 30]]
    assert chosen.groups == names[[7, 2, 30]].tolist()
    assert (table[:5] + table[20:22]).groups == [*names[:5], *names[20:22]]
    chosen.save(tmp_path / "b.safetensors")
    assert Identities.load(tmp_path / "b.safetensors").groups == chosen.groups
    assert table.describe()["groups"] == {"mid": 10, "old": 10, "young": 20}
    other = Identities(table.vectors, table.candidate, table.provenance, group=table.group[::-1].copy())
    assert other != table
    assert other.table_hash != table.table_hash
    assert "group" not in sample_identities(3, source="gaussian").describe()


def test_a_proof_drops_rows_with_their_labels(fitted: LabelledStatistics) -> None:
    stream = IdentityStream(source=fitted, max_cosine=0.9)
    drawn = stream.take(400, max_candidates=10**5)
    whole = dict(zip(drawn.candidate.tolist(), drawn.groups, strict=True))
    proof = prove_identities(50, stream, lambda part: part.vectors[:, :8].copy(), max_cosine=0.8)
    table = proof.require()
    assert proof.made > 50
    assert table.groups == [whole[int(c)] for c in table.candidate]
    assert table.provenance["candidates_drawn"] >= 50


@pytest.mark.parametrize(
    ("group", "says"),
    [
        (np.zeros(3, np.int32), "group int64"),
        (np.zeros(2, np.int64), "group int64"),
        (np.array([0, 1, 2]), "among the 2 names"),
        (np.array([0, -1, 1]), "among the 2 names"),
        ([0, 1, 1], "expected a NumPy array"),
    ],
)
def test_a_label_that_names_no_group_is_refused(group: Any, says: str) -> None:
    vectors, mix = np.eye(3, dtype=np.float32), {"mix": {"groups": ["a", "b"]}}
    with pytest.raises(VectorError, match=says):
        Identities(vectors, np.arange(3), mix, group=group)
