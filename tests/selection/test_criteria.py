"""Each criterion against a loop in float64 that knows nothing of ours, and what holds of every choice."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from v2f_engine.errors import ConfigError, VectorError
from v2f_engine.selection.criteria import CRITERIA
from v2f_engine.selection.csv_table import csv_of
from v2f_engine.selection.rule import Rule, Tally, reasons

SEEDS = st.integers(0, 2**32 - 1)


def drawn(seed: int, m: int, d: int = 7) -> NDArray[np.float32]:
    """Features of one person of m images, of all lengths, some nearly alike."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal(d) + rng.uniform(0.01, 1.5, (m, 1)) * rng.standard_normal((m, d))
    return (rows * rng.uniform(0.1, 30, (m, 1))).astype(np.float32)


def unit(row: list[float]) -> list[float]:
    length = math.sqrt(math.fsum(x * x for x in row))
    return [x / length for x in row]


def dot(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def best(scores: dict[int, float], keep: int) -> set[int]:
    return set(sorted(scores, key=lambda image: (-round(scores[image], 12), image))[:keep])


def kept(rule: Rule, features: NDArray[np.float32], **known: object) -> set[int]:
    table = rule.choose(rule.person("she", np.arange(len(features)), features=features, **known))
    return set(table["image"][table["kept"]].tolist())


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 12), st.integers(1, 12))
def test_centre_and_vector_against_a_loop(seed: int, m: int, keep: int) -> None:
    features = drawn(seed, m)
    rows = [unit(row) for row in features.astype(float).tolist()]
    mean = unit([math.fsum(column) / m for column in zip(*rows, strict=True)])
    assert kept(Rule(keep), features) == best({i: dot(row, mean) for i, row in enumerate(rows)}, keep)
    vector = np.random.default_rng(seed + 1).standard_normal(7).astype(np.float32)
    own = unit(vector.astype(float).tolist())
    by_vector = {i: dot(row, own) for i, row in enumerate(rows)}
    assert kept(Rule(keep, ("vector",)), features, vector=vector) == best(by_vector, keep)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 12), st.integers(1, 12))
def test_diversity_is_the_farthest_point_traversal(seed: int, m: int, keep: int) -> None:
    features = drawn(seed, m)
    rows = [unit(row) for row in features.astype(float).tolist()]
    mean = unit([math.fsum(column) / m for column in zip(*rows, strict=True)])
    chosen = [max(range(m), key=lambda i: (dot(rows[i], mean), -i))]
    while len(chosen) < min(keep, m):
        left = [i for i in range(m) if i not in chosen]
        chosen.append(
            max(left, key=lambda i: (round(min(1 - dot(rows[i], rows[j]) for j in chosen), 12), -i))
        )
    assert kept(Rule(keep, ("diversity",)), features) == set(chosen)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(2, 12), st.integers(1, 12))
def test_quality_ties_go_to_the_smaller_number(seed: int, m: int, keep: int) -> None:
    marks = np.random.default_rng(seed).integers(0, 3, m).astype(np.float32)
    rule = Rule(keep, ("quality",))
    table = rule.choose(rule.person("she", np.arange(m), qualities=marks))
    assert set(table["image"][table["kept"]].tolist()) == best(dict(enumerate(marks.tolist())), keep)
    assert np.isnan(table["to_centre"]).all()


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(2, 10), st.integers(1, 10))
def test_two_criteria_are_put_together_by_their_places(seed: int, m: int, keep: int) -> None:
    features, marks = drawn(seed, m), np.random.default_rng(seed).permutation(m).astype(np.float32)
    rule = Rule(keep, ("centre", "quality"))
    table = rule.choose(rule.person("she", np.arange(m), features=features, qualities=marks))
    places = {
        i: -sum(sum(table[name] > table[name][i] + 1e-12) for name in ("centre", "quality")) for i in range(m)
    }
    assert set(table["image"][table["kept"]].tolist()) == best(places, keep)


@settings(max_examples=60, deadline=None)
@given(
    SEEDS,
    st.integers(1, 14),
    st.integers(1, 14),
    st.lists(st.sampled_from(sorted(CRITERIA)), min_size=1, max_size=4, unique=True),
    st.none() | st.floats(-1, 1),
    st.none() | st.floats(0, 1),
)
def test_what_holds_of_every_choice(
    seed: int, m: int, keep: int, by: list[str], least: float | None, alike: float | None
) -> None:
    """k distinct images, in order; the same whatever the order of reading; all of them where keep is as many."""
    rng = np.random.default_rng(seed)
    features, numbers = drawn(seed, m), rng.permutation(50)[:m]
    known = {
        "features": features,
        "qualities": rng.standard_normal(m).astype(np.float32),
        "pixels": np.array([f"{rng.integers(0, max(2, m))}" for _ in range(m)], "S32"),
        "failed": rng.uniform(size=m) < 0.1,
    }
    vector = rng.standard_normal(7).astype(np.float32)
    rule = Rule(keep, tuple(by), least, alike)
    table = rule.choose(rule.person("she", numbers, vector=vector, **known))
    assert table["image"].tolist() == sorted(numbers.tolist())
    assert table["kept"].sum() == min(keep, m)
    assert sorted(table["rank"].tolist()) == list(range(m))
    assert keep < m or table["kept"].all()
    order = rng.permutation(m)
    again = rule.choose(
        rule.person("she", numbers[order], vector=vector, **{name: v[order] for name, v in known.items()})
    )
    assert again.tobytes() == table.tobytes()
    worst_kept, tiers = table["tier"][table["kept"]].max(), table["tier"]
    assert (table["kept"] | (tiers >= worst_kept)).all(), "one of a later tier stays before an earlier one"
    assert len(reasons(table)) == m
    tally = Tally.of([table], keep)
    assert (tally.people, tally.images, tally.kept) == (1, m, min(keep, m))


def test_duplicates_count_as_one_and_the_later_goes_first() -> None:
    features = np.array([[1, 0], [0.9, 0.3], [0.9, 0.3], [0.9, 0.3001], [-1, 0.2]], np.float32)
    rule = Rule(3, duplicate_cosine=0.99999)
    table = rule.choose(rule.person("she", np.array([3, 5, 6, 8, 9]), features=features))
    assert table["duplicate_of"].tolist() == [-1, -1, 5, 5, -1]
    assert table["image"][table["kept"]].tolist() == [3, 5, 9], "far from the centre, but no repetition"
    assert reasons(table)[2] == "dropped: the same as image 5"
    rows = [[1, 0], unit([0.9, 0.3]), unit([-1, 0.2])]
    mean = unit([math.fsum(column) / 3 for column in zip(*rows, strict=True)])
    assert table["to_centre"][0] == pytest.approx(dot([1, 0], mean), abs=1e-7), "repetitions move no centre"
    kept_for_want = Rule(4, duplicate_cosine=0.99999)
    table = kept_for_want.choose(kept_for_want.person("she", np.array([3, 5, 6, 8, 9]), features=features))
    assert reasons(table)[2] == "kept: place 4 of 5, though the same as image 5: too few others"
    assert Tally.of([table], 4).lines() == [
        "2 images repeat another of their person and went first, 1 of them kept for want of others"
    ]


def test_equal_pixels_are_duplicates_without_any_cosine() -> None:
    rule = Rule(2, ("quality",))
    person = rule.person(
        "she",
        np.arange(3),
        qualities=np.array([5, 9, 9], np.float32),
        pixels=np.array([b"a", b"b", b"b"], "S32"),
    )
    assert rule.choose(person)["kept"].tolist() == [True, True, False]


def test_equal_features_have_equal_scores_wherever_they_stand() -> None:
    """A matrix product may round equal rows otherwise by their place; then a tie is broken by chance."""
    rows = np.repeat(np.random.default_rng(0).standard_normal((1, 512)), 83, axis=0).astype(np.float32)
    rows[40] += 0.1
    table = Rule(50).choose(Rule(50).person("she", np.arange(83), features=rows))
    assert len(set(table["centre"].tolist())) == 2
    assert table["image"][table["kept"]].tolist() == [*range(40), *range(41, 51)]


@given(seed=st.integers(0, 2**32), width=st.integers(2, 512), by=st.sampled_from(["centre", "diversity"]))
@settings(max_examples=60, deadline=None)
def test_both_of_two_are_as_near_and_the_first_is_kept(seed: int, width: int, by: str) -> None:
    """u.(u+v) is v.(u+v) for unit vectors: rounding in the last digit may not choose between them."""
    features = np.random.default_rng(seed).standard_normal((2, width)).astype(np.float32)
    rule = Rule(1, (by,), min_cosine=-1.0)
    assert rule.choose(rule.person("she", np.array([3, 8]), features=features))["kept"].tolist() == [
        True,
        False,
    ]


def test_a_cosine_of_one_is_one() -> None:
    """The same row twice, and a centre that is that row: neither above a limit of 1 nor below it."""
    for seed in range(20):
        row = np.random.default_rng(seed).standard_normal(512).astype(np.float32)
        rule = Rule(2, min_cosine=1.0, duplicate_cosine=1.0)
        table = rule.choose(rule.person("she", np.arange(2), features=np.stack([row, row])))
        assert (table["tier"].tolist(), table["duplicate_of"].tolist()) == ([0, 0], [-1, -1])


HOSTILE = {
    "not finite": {"features": np.array([[1, 0], [np.nan, 1], [0, 1]], np.float32)},
    "image 1: its feature is zero": {"features": np.array([[1, 0], [0, 0], [0, 1]], np.float32)},
    "mean of its features is zero": {"features": np.array([[1, 0], [-1, 0], [-1, 0], [1, 0]], np.float32)},
    "of 3 images, found": {"features": np.ones((2, 4), np.float32)},
    "needs features": {"qualities": np.ones(3, np.float32)},
    "features of 1 of 3 images are not finite .image 2": {
        "features": np.array([[1, 0], [1, 1], [np.inf, 1]], np.float32)
    },
}


@pytest.mark.parametrize("words", HOSTILE)
def test_what_cannot_be_judged_is_named(words: str) -> None:
    known = HOSTILE[words]
    count = 4 if "mean" in words else 3
    with pytest.raises(VectorError, match=f"^she.*{words}"):
        Rule(1).choose(Rule(1).person("she", np.arange(count), **known))


def test_further_refusals() -> None:
    features = np.ones((2, 4), np.float32)
    rule = Rule(1, ("vector",))
    with pytest.raises(VectorError, match="has 3 numbers, the features have 4"):
        rule.choose(rule.person("she", np.arange(2), features=features, vector=np.ones(3, np.float32)))
    with pytest.raises(VectorError, match="own vector, which is not known"):
        rule.choose(rule.person("she", np.arange(2), features=features))
    with pytest.raises(VectorError, match="images of different numbers"):
        Rule(1).person("she", np.array([1, 1]), features=features)
    with pytest.raises(VectorError, match="images of different numbers"):
        Rule(1).person("she", np.empty(0, np.int64))
    with pytest.raises(VectorError, match="qualities of 1 of 2 images are not finite"):
        Rule(1, ("quality",)).person("she", np.arange(2), qualities=np.array([1, np.nan], np.float32))


@pytest.mark.parametrize(
    ("words", "how"),
    [
        ("keep", {"keep": 0}),
        ("by 'middle' is not known", {"keep": 1, "by": ("middle",)}),
        ("one criterion or several different", {"keep": 1, "by": ()}),
        ("one criterion or several different", {"keep": 1, "by": ("centre", "centre")}),
        ("min_cosine must lie between", {"keep": 1, "min_cosine": 1.5}),
        ("duplicate_cosine must lie between", {"keep": 1, "duplicate_cosine": -2}),
        ("above keep", {"keep": 3, "at_least": 4}),
    ],
)
def test_rules_are_checked_at_birth(words: str, how: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=words):
        Rule(**how)  # type: ignore[arg-type]


def test_the_list_tells_the_new_set_from_the_source() -> None:
    """Identity, label, number there, number here where it is kept, and place: each in its own column."""
    rule = Rule(2, ("quality",))
    known = {"qualities": np.array([5, 9, 7, 1], np.float32)}
    table = rule.choose(rule.person("she", np.array([0, 3, 4, 6]), **known))
    head, *rows = csv_of([(4, 9, table)], rule).decode().splitlines()
    assert head.startswith("identity,label,image,kept_as,place,")
    assert [row.split(",")[:5] for row in rows] == [
        ["4", "9", "0", "", "3"],
        ["4", "9", "3", "0", "1"],
        ["4", "9", "4", "1", "2"],
        ["4", "9", "6", "", "4"],
    ]


def test_who_is_below_the_least_cosine_goes_behind_all_others() -> None:
    """However good it is otherwise: two near the centre of three, and the third at 0.48 to it."""
    features = np.array([[1, 0], [1, 0.1], [0, 1]], np.float32)
    mean = np.array([1 + 1.01**-0.5, 0.1 * 1.01**-0.5 + 1])
    cosines = [
        float(mean @ row / np.linalg.norm(mean) / np.linalg.norm(row)) for row in features.astype(float)
    ]
    assert cosines[2] < 0.6 < min(cosines[:2])
    rule = Rule(2, ("quality",), min_cosine=0.6)
    known = {"features": features, "qualities": np.array([1, 2, 9], np.float32)}
    table = rule.choose(rule.person("she", np.arange(3), **known))
    assert table["kept"].tolist() == [True, True, False]
    assert reasons(table)[2] == "dropped: below the least cosine to the centre"
