"""Groups in a mix: every beginning of the order has each group's share to less than a person, and mixes as typed."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2f_engine.errors import ConfigError
from v2f_engine.vectors.mix import order_of_mix, parts_of_mix, words_of_mix

PARTS = st.lists(st.integers(0, 60), min_size=1, max_size=12).filter(any)
NAMES = ("mid", "old", "young")
COUNTS = (30, 60, 30)


@settings(max_examples=150, deadline=None)
@given(PARTS, st.integers(0, 700))
def test_every_beginning_has_each_share_rounded_down_or_up(parts: list[int], n: int) -> None:
    order = order_of_mix(parts, n)
    assert len(order) == n
    held = np.cumsum(order[:, None] == np.arange(len(parts)), axis=0)
    for m, counts in enumerate(held.tolist(), start=1):
        for part, count in zip(parts, counts, strict=True):
            share = Fraction(m * part, sum(parts))
            assert share.__floor__() <= count <= share.__ceil__()


@settings(max_examples=60, deadline=None)
@given(PARTS, st.integers(0, 300), st.integers(0, 300))
def test_an_order_is_the_beginning_of_every_longer_one(parts: list[int], n: int, more: int) -> None:
    assert np.array_equal(order_of_mix(parts, n + more)[:n], order_of_mix(parts, n))


def test_of_two_equally_urgent_groups_the_first_has_the_earlier_place() -> None:
    assert order_of_mix([1, 1, 1], 7).tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert order_of_mix([1, 2], 6).tolist() == [1, 0, 1, 1, 0, 1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=3, max_size=3).filter(any))
def test_a_mix_is_read_as_it_is_written(weights: list[int]) -> None:
    names = ("a:b", 'say "x"', "x, y")
    parts = parts_of_mix(dict(zip(names, weights, strict=True)), names, COUNTS)
    assert parts_of_mix(words_of_mix(names, parts), names, COUNTS) == parts
    total = sum(weights)
    assert [Fraction(part, sum(parts)) for part in parts] == [Fraction(one, total) for one in weights]


@pytest.mark.parametrize(
    ("asked", "parts"),
    [
        (None, (1, 2, 1)),
        ("equal", (1, 1, 1)),
        ("young:0.5,old:0.5", (0, 1, 1)),
        ("young:1,old:3", (0, 3, 1)),
        ("mid:0.1,old:0.2,young:0.7", (1, 2, 7)),  # tenths, not their floats
        ("mid:0.333, old:0.333, young:0.333", (1, 1, 1)),
        ({"old": np.float64(0.25), "mid": 0.75}, (3, 1, 0)),
        ("old:5e-1,mid:.5,young:0", (1, 1, 0)),
    ],
)
def test_mixes(asked: object, parts: tuple[int, ...]) -> None:
    assert parts_of_mix(asked, NAMES, COUNTS) == parts  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("", "expected NAME:SHARE"),
        ("old", "expected NAME:SHARE"),
        ("old:0.5,", "expected NAME:SHARE"),
        ("old:0,5,mid:0.5", "expected NAME:SHARE"),
        ('"old:1', "expected NAME:SHARE"),
        (":1", "expected NAME:SHARE"),
        ("old:0", "a share above 0"),
        ("Old:1", "no group 'Old' in this source; it has 'mid', 'old', 'young'"),
        ("old:0.5,old:0.5", "'old' is named twice"),
        ("old:0.5,mid:0.05", "add up to 0.55; expected 1, or whole numbers"),
        ("old:-1,mid:2", "'old': expected a share from 0"),
        ("old:nan", "'old': expected a share"),
        ("old:1e400", "'old': expected a share"),
        ("old:1e-400", "'old': expected a share"),
        ("old:1/2,mid:1/2", "'old': expected a share"),
        ("old:" + "9" * 50, "'old': expected a share"),
        ({"old": True}, "'old': expected a share"),
        ({}, "a share above 0"),
    ],
)
def test_what_is_no_mix_is_named(asked: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parts_of_mix(asked, NAMES, COUNTS)  # type: ignore[arg-type]


@pytest.mark.parametrize("asked", [5, 0.5, b"a:1", ["a:1"], [("a", 1)]])
def test_what_is_no_mix_is_refused_by_what_it_is(asked: object) -> None:
    with pytest.raises(ConfigError, match="or a dict of names and shares, found"):
        parts_of_mix(asked, ("a", "b"), (1, 1))  # type: ignore[arg-type]


@given(names=st.lists(st.text("a,:\"= ", min_size=1, max_size=6).filter(lambda one: one == one.strip()), min_size=1,
                      max_size=3, unique=True))  # fmt: skip
def test_the_mix_that_an_error_advises_can_be_typed(names: list[str]) -> None:
    """It was `old, very:1`, which says something else: a name with a comma stands in quotes."""
    with pytest.raises(ConfigError, match="Is a group missing") as told:
        parts_of_mix({names[0]: 0.5}, tuple(names), (1,) * len(names))
    advised = str(told.value).partition("which are parts: ")[2].removesuffix(". Is a group missing?")
    assert parts_of_mix(advised, tuple(names), (1,) * len(names)) == (1,) * len(names)
