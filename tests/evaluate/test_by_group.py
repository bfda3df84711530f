"""A set group by group: as if each group were a set alone, and too few where fewer than 300 trials say nothing."""

from __future__ import annotations

import numpy as np
import pytest

from v2f_engine.errors import DatasetError, VectorError
from v2f_engine.evaluate.by_group import FEWEST, groups_of, measure_by_group
from v2f_engine.evaluate.features import FeatureTable
from v2f_engine.evaluate.report.by_group import by_group
from v2f_engine.evaluate.separability import measure_separability
from v2f_engine.evaluate.source import FeatureSource

PEOPLE = {"few": 299, "many": 310}
T = 0.6


@pytest.fixture(scope="module")
def measured() -> tuple[FeatureTable, np.ndarray]:
    """299 people of one group and 310 of another, two images each; the second group's people are more alike."""
    rng = np.random.default_rng(0)
    names = np.repeat(list(PEOPLE), [2 * n for n in PEOPLE.values()])
    labels = np.repeat(np.arange(sum(PEOPLE.values())), 2)
    centres = (
        rng.standard_normal((sum(PEOPLE.values()), 8)) + 2 * (np.arange(sum(PEOPLE.values())) >= 299)[:, None]
    )
    rows = centres[labels] + 0.4 * rng.standard_normal((len(labels), 8))
    order = rng.permutation(len(rows))
    return FeatureTable(rows[order].astype(np.float32), labels[order]), names[order]


def test_a_group_is_measured_alone(measured: tuple[FeatureTable, np.ndarray]) -> None:
    table, names = measured
    few, many = measure_by_group(table, names.tolist(), column="age", threshold=T).groups
    own = names == "many"
    rows, labels = table.features[own].astype(np.float64), table.labels[own]
    alone = measure_separability(FeatureTable(table.features[own], labels), threshold=T)
    assert (many.name, many.identities, many.images, many.genuine_pairs) == ("many", 310, 620, 310)
    assert many.eer == pytest.approx(alone.eer)
    assert many.accuracy == pytest.approx(1 - (alone.false_match_rate + alone.false_non_match_rate) / 2)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    people = np.unique(labels)
    centres = np.stack([units[labels == one].mean(axis=0) for one in people])
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    unique = [k == 0 or (centres[:k] @ centres[k]).max() < T for k in range(len(people))]
    assert many.unique_share == pytest.approx(np.mean(unique), abs=1e-9)
    pairs = [float(np.prod(units[labels == one], axis=0).sum()) for one in people]
    assert many.pair_cosine == pytest.approx(np.mean(pairs), abs=1e-5)
    assert 0 < many.own_nearest < 1  # type: ignore[operator]
    assert few.identities == FEWEST - 1
    assert few.unique_share is few.eer is few.accuracy is few.pair_cosine is None


def test_the_page_says_too_few_and_names_are_text(measured: tuple[FeatureTable, np.ndarray]) -> None:
    table, names = measured
    spelled = np.where(names == "few", "<b>few</b>", "many").tolist()
    found = measure_by_group(table, spelled, column="age & sex", threshold=T).to_json()
    page = by_group({"groups": found})
    assert "&lt;b&gt;few&lt;/b&gt;" in page
    assert "age &amp; sex" in page
    assert page.count("too few</td>") == 5
    assert by_group({"groups": None}) == by_group({}) == ""


def test_what_cannot_be_told_by_group(measured: tuple[FeatureTable, np.ndarray]) -> None:
    table, names = measured
    with pytest.raises(VectorError, match="expected 1218 group names, one an image, found"):
        measure_by_group(table, names.tolist()[1:], column="age", threshold=T)
    with pytest.raises(DatasetError, match="no attributes"):
        groups_of(FeatureSource("f", table.features, table.labels), "group")


def test_a_group_of_one_person_is_too_few_and_no_error() -> None:
    """Ten people in the mix 2:2:1:1 are 4, 3, 2 and 1."""
    labels = np.repeat(np.arange(4), 5)
    features = np.random.default_rng(0).standard_normal((20, 16)).astype(np.float32)
    names = np.where(labels == 3, "alone", "others").tolist()
    alone, others = measure_by_group(
        FeatureTable(features, labels), names, column="age", threshold=0.3
    ).groups
    assert (alone.name, alone.identities, alone.images, alone.genuine_pairs) == ("alone", 1, 5, 10)
    assert alone.eer is alone.unique_share is alone.pair_cosine is None
    assert (others.identities, others.images) == (3, 15)


def test_300_trials_are_enough_and_299_are_not() -> None:
    """300 people with two images each: 300 pairs, 300 people; and one person less."""
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(599), 2)
    rows = rng.standard_normal((599, 8))[labels] + 0.4 * rng.standard_normal((1198, 8))
    names = np.where(labels < 299, "few", "many").tolist()
    few, many = measure_by_group(
        FeatureTable(rows.astype(np.float32), labels), names, column="age", threshold=T
    ).groups
    assert (few.identities, many.identities, many.genuine_pairs) == (299, 300, 300)
    shares = ("unique_share", "pair_cosine", "own_nearest", "eer", "accuracy")
    assert [getattr(many, name) is None for name in shares] == [False] * 5
    assert [getattr(few, name) is None for name in shares] == [True] * 5
