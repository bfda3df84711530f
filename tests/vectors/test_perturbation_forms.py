"""Forms of perturbation as strangers give them: typed, told by a manifest, replayed; and what none of them may draw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2f_engine.cli.flags import NoiseFlags
from v2f_engine.errors import ConfigError, DatasetError, V2FError, VectorError
from v2f_engine.pipeline.replay import _noise
from v2f_engine.vectors.nearest import WIDEST, nearest_other
from v2f_engine.vectors.perturbation import Perturbation, from_manifest, option_of, words_of
from v2f_engine.vectors.perturbation_cone import Cone

ANYTHING = st.none() | st.booleans() | st.integers(-2, 2) | st.floats() | st.text(max_size=3)


@st.composite
def mixtures(draw: st.DrawFn) -> Perturbation:
    """Levels at shares that are equal, nearly equal, or neither."""
    levels = draw(st.lists(st.floats(0.05, 1), min_size=1, max_size=4))
    shares = draw(st.lists(st.floats(0.01, 1), min_size=len(levels), max_size=len(levels)))
    each = round(1 / len(levels), draw(st.sampled_from([7, 9, 17])))
    equal = draw(st.booleans())
    weights = [each if equal else share / sum(shares) for share in shares]
    return Perturbation(tuple(levels), tuple(weights), draw(st.sampled_from(["sigma", "cosine"])))


@settings(deadline=None)
@given(around=mixtures() | st.builds(Cone, st.floats(0, 1), st.booleans()))
def test_what_a_manifest_says_is_typed_again_to_the_last_digit(around: Perturbation | Cone) -> None:
    """A manifest's own words, `--perturbation`, and the options that a replay takes from it give the same form."""
    told = around.describe()
    assert from_manifest(told) == around == Perturbation.of(option_of(told))
    assert words_of(told) == around.words
    options = _noise({"perturbation": told, "seed": 3}, Path("set"), ())
    typed = {
        name.replace("-", "_"): value
        for name, value in options.items()
        if name.replace("-", "_") in NoiseFlags.__dataclass_fields__
    }
    assert NoiseFlags(**typed).around.describe() == told


@settings(deadline=None)
@given(
    told=st.fixed_dictionaries(
        {},
        optional={
            "kind": st.sampled_from(["cone", "covariance", "sigma", "later", None]),
            "unit": st.sampled_from(["sigma", "cosine", None]),
            "levels": ANYTHING | st.lists(ANYTHING, max_size=2),
            "weights": ANYTHING | st.lists(ANYTHING, max_size=2),
            "lowest": ANYTHING,
            "guarded": ANYTHING,
            "sha256": ANYTHING,
        },
    )
)
def test_a_manifest_that_was_changed_ends_in_a_named_error(told: dict[str, object]) -> None:
    for read in (from_manifest, option_of, words_of):
        try:
            read(told)
        except V2FError:
            continue
    if told.keys() <= {"kind"} and told.get("kind") in ("cone", "sigma"):
        with pytest.raises(DatasetError, match="does not say what it was"):
            from_manifest(told)


@pytest.mark.parametrize("given", [None, 5, Path("cone:0.6"), ["cone:0.6"], b"cone:0.6"])
def test_what_is_no_text_is_refused(given: object) -> None:
    with pytest.raises(ConfigError, match="perturbation must be text"):
        Perturbation.of(given)  # type: ignore[arg-type]
    if not isinstance(given, Path):
        with pytest.raises(ConfigError, match="within must be a path"):
            Perturbation.covariance(given)  # type: ignore[arg-type]


def test_a_level_without_a_share_is_never_drawn() -> None:
    """Shares may add up to a millionth less than 1; the last numbers below 1 then were the next level's, of share 0."""
    noise = Perturbation((0.3, 0.5, 0.7), (0.5, 0.4999995, 0.0))
    centres, rows = np.ones((3, 512), np.float32), np.arange(3)
    chance = np.array([0.25, 0.75, 1 - 2**-24], np.float32)
    assert (
        noise.sigma(centres, rows, rows, chance=chance).tolist()
        == np.array([0.3, 0.5, 0.5], np.float32).tolist()
    )


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 99), n=st.integers(1, 7), d=st.sampled_from([2, 3, 8, 512]), low=st.floats(0, 1),
    apart=st.sampled_from([1e-6, 1e-3, 1.0]), length=st.sampled_from([1e-5, 1.0, 1e5]),
)  # fmt: skip
def test_nobody_is_nearer_to_another_by_a_float64_count(
    seed: int, n: int, d: int, low: float, apart: float, length: float
) -> None:
    """People alone, in pairs of doubles, of opposites and of one direction, in few dimensions and many."""
    rng = np.random.default_rng(seed)
    first = rng.standard_normal((n, d))
    wide = np.concatenate([first, first + apart * rng.standard_normal((n, d)), -first[:1], 2 * first[:1]])
    rows = (wide * length).astype(np.float32)
    keys, images = np.arange(len(rows)), 12
    who = np.repeat(keys, images)
    found = Cone(low).over(rows, keys).draw(rows[who], who, np.tile(np.arange(images), len(rows)), seed=seed)
    y, x = (one.astype(np.float64) for one in (found.vectors, rows))
    y, x = (one / np.linalg.norm(one, axis=1)[:, None] for one in (y, x))
    cosines = y @ x.T
    own = cosines[np.arange(len(who)), who]
    assert (cosines.max(axis=1) - own).max() < 3e-7  # two float32 roundings where a bound is all but met
    assert own.min() >= low - 3e-7


def test_wider_vectors_than_the_products_are_exact_for_are_refused_by_name() -> None:
    rows = np.random.default_rng(0).standard_normal((3, WIDEST + 1)).astype(np.float32)
    with pytest.raises(VectorError, match="at most 1,024 entries"):
        nearest_other(rows)
