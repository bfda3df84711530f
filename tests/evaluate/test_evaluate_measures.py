"""Measures of a dataset against scikit-learn, brute force and cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from v2f_engine.errors import ConfigError, OutputFolderError, VectorError
from v2f_engine.evaluate.consistency import measure_consistency
from v2f_engine.evaluate.dcface import measure_diversity
from v2f_engine.evaluate.features import FeatureTable
from v2f_engine.evaluate.leakage import measure_leakage
from v2f_engine.evaluate.plots import plot_histograms
from v2f_engine.evaluate.separability import calibrate, measure_separability
from v2f_engine.evaluate.verification import verify_pairs
from v2f_engine.scores import (
    equal_error_rate,
    genuine_impostor,
    impostor_count,
    impostor_pairs,
    threshold_at_fmr,
)
from v2f_engine.vectors.calibration import calibrate_threshold


def people(identities: int, each: int, spread: float, seed: int = 0, dimension: int = 32) -> FeatureTable:
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((identities, dimension))
    labels = np.repeat(np.arange(identities), each)
    rows = centres[labels] + spread * generator.standard_normal((len(labels), dimension))
    order = generator.permutation(len(labels))
    return FeatureTable((20 * rows[order]).astype(np.float32), labels[order])


def all_pairs(table: FeatureTable) -> tuple[np.ndarray, np.ndarray]:
    cosine = table.units.astype(np.float64) @ table.units.T.astype(np.float64)
    upper = np.triu(np.ones_like(cosine, bool), 1)
    same = table.labels[:, None] == table.labels
    return cosine[same & upper], cosine[~same & upper]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.2, 3.0))
def test_equal_error_rate_is_that_of_scikit_learn(seed: int, spread: float) -> None:
    genuine, impostor = genuine_impostor(
        *(lambda t: (t.features, t.labels))(people(20, 5, spread, seed)), impostors=4000
    )
    truth = np.r_[np.ones(len(genuine)), np.zeros(len(impostor))]
    false, hit, _ = roc_curve(truth, np.r_[genuine, impostor], drop_intermediate=False)
    apart = np.abs(1 - hit - false)
    nearest = (
        apart <= apart.min() + 1e-12
    )  # two points of the curve may be as near to the diagonal as each other
    error = equal_error_rate(genuine, impostor)[0]
    assert np.abs((1 - hit[nearest] + false[nearest]) / 2 - error).min() < 1e-9


def test_equal_error_rate_by_hand() -> None:
    genuine, impostor = np.float32([0.9, 0.8, 0.7, 0.2]), np.float32([0.1, 0.0, 0.3, -0.1])
    rate, threshold = equal_error_rate(genuine, impostor)
    assert rate == 0.25
    assert threshold == pytest.approx(0.3)
    assert equal_error_rate(np.float32([0.5, 0.6]), np.float32([0.1, 0.2]))[0] == 0.0


def test_a_threshold_admits_the_rate_asked_for_and_no_more() -> None:
    scores = np.linspace(-1, 1, 1001, dtype=np.float32)
    limit = threshold_at_fmr(scores, 0.01)
    assert (scores >= limit).sum() == 10
    with pytest.raises(ConfigError, match="needs 100,000 pairs of different"):
        threshold_at_fmr(scores, 1e-5)


def test_measures_are_those_of_all_pairs() -> None:
    table = people(60, 4, 0.8)
    genuine, impostor = all_pairs(table)
    limit = 0.45
    m = measure_separability(table, threshold=limit, impostors=400_000)
    assert (m.identities, m.images, len(m.genuine)) == (60, 240, 60 * 6)
    assert np.allclose(np.sort(m.genuine), np.sort(genuine), atol=1e-6)
    assert m.genuine_mean == pytest.approx(genuine.mean(), abs=1e-5)
    assert m.impostor_mean == pytest.approx(impostor.mean(), abs=2e-3)
    assert m.impostor_std == pytest.approx(impostor.std(), rel=0.01)
    assert m.false_non_match_rate == pytest.approx((genuine <= limit).mean(), abs=1e-9)
    assert m.false_match_rate == pytest.approx((impostor > limit).mean(), abs=2e-3)
    assert m.eer == pytest.approx(equal_error_rate(genuine.astype("f4"), impostor.astype("f4"))[0], abs=2e-3)
    fdr = (genuine.mean() - impostor.mean()) ** 2 / (genuine.var() + impostor.var())
    assert m.fdr == pytest.approx(fdr, rel=0.02)
    assert m.fmr100 == pytest.approx((genuine < np.quantile(impostor, 0.99)).mean(), abs=0.02)


def test_an_identity_like_an_earlier_one_is_not_unique() -> None:
    centres = np.eye(6, dtype=np.float32)
    centres[4] = centres[1]  # the fifth repeats the second
    rows = np.repeat(centres, 2, axis=0)
    table = FeatureTable(rows * 7, np.repeat(np.array([10, 20, 30, 40, 50, 60]), 2))
    m = measure_separability(table, threshold=0.5, impostors=1000)
    assert m.unique_share == pytest.approx(5 / 6)
    assert m.genuine_mean == pytest.approx(1.0)


def test_calibration_counts_every_pair_of_different_people() -> None:
    table = people(50, 4, 0.8)
    _, impostor = all_pairs(table)
    found = calibrate(table, fmr=1e-2)
    assert found.pairs == len(impostor)
    assert (impostor >= found.threshold).mean() <= 1e-2
    assert (impostor >= found.threshold - 1e-4).mean() >= 0.9e-2
    with pytest.raises(ConfigError, match="pairs of different identities"):
        calibrate(table, fmr=1e-5)


def test_consistency_is_that_of_a_loop_over_identities() -> None:
    table = people(12, 5, 2.0)
    m = measure_consistency(table)
    units = table.units.astype(np.float64)
    pairs, rest, own = [], [], []
    for label in range(12):
        group = np.flatnonzero(table.labels == label)
        cosine = units[group] @ units[group].T
        pairs.append(cosine[np.triu_indices(5, 1)].mean())
        for row in group:
            to = []
            for other in range(12):
                rows = [r for r in np.flatnonzero(table.labels == other) if r != row]
                centre = units[rows].mean(axis=0)
                to.append(units[row] @ centre / np.linalg.norm(centre))
            rest.append(to[label])
            own.append(int(np.argmax(to)) == label)
    assert m.pair_cosine == pytest.approx(np.mean(pairs), abs=1e-6)
    assert m.pair_cosine_p05 == pytest.approx(np.quantile(pairs, 0.05), abs=1e-6)
    assert m.rest_cosine == pytest.approx(np.mean(rest), abs=1e-6)
    assert m.own_nearest == pytest.approx(np.mean(own))
    assert 0 < m.own_nearest < 1


def test_single_images_do_not_enter_consistency_but_stay_rivals() -> None:
    table = FeatureTable(np.float32([[1, 0], [1, 0.1], [1, 0.04]]), np.array([3, 3, 9]))
    m = measure_consistency(table)
    assert m.identities == 1
    assert m.own_nearest == 0.0
    with pytest.raises(VectorError, match="two images or more"):
        measure_consistency(FeatureTable(np.eye(2, dtype=np.float32), np.array([0, 1])))


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (np.full((2, 4), np.nan, "f4"), np.array([0, 1]), "features"),
        (np.eye(3, 4, dtype="f4"), np.array([0, 1]), "labels must be integers"),
        (np.eye(3, 4, dtype="f4"), np.array([0.0, 1.0, 2.0]), "labels must be integers"),
        (np.eye(3, 4, dtype="f4"), np.array([1, 1, 1]), "two of them or more"),
    ],
)
def test_tables_that_cannot_be_measured(features: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(VectorError, match=message):
        FeatureTable(features, labels)


def test_histograms_are_drawn_and_a_bad_folder_is_named(tmp_path) -> None:
    m = measure_separability(people(20, 4, 0.8), threshold=0.5, impostors=2000)
    plot_histograms({"one": m, "two": m}, tmp_path / "h.png")
    from PIL import Image

    with Image.open(tmp_path / "h.png") as picture:
        assert picture.format == "PNG"
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50
    with pytest.raises(OutputFolderError, match="nowhere"):
        plot_histograms({"one": m}, tmp_path / "nowhere" / "h.png")
    with pytest.raises(ConfigError, match="at least one"):
        plot_histograms({}, tmp_path / "h.png")
    assert "genuine" not in m.to_json()
    assert m.to_json()["genuine_pairs"] == 20 * 6


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(0, 99), st.data())
def test_impostor_pairs_are_distinct_and_all_where_there_are_few(
    sizes: list[int], seed: int, data: st.DataObject
) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)) * 7 - 3, sizes))
    every = {(i, j) for i in range(len(labels)) for j in range(i) if labels[i] != labels[j]}
    limit = data.draw(st.integers(0, len(every) + 5))
    pairs = impostor_pairs(labels, limit, seed)
    found = {(int(j), int(i)) for i, j in pairs}
    assert len(found) == len(pairs) == min(limit, len(every))
    assert found <= every
    assert impostor_count(labels) == len(every)


def test_every_impostor_pair_is_as_likely_however_unequal_the_labels() -> None:
    """One crowd of 30 beside five people of one picture: drawn by rows, the crowd's pairs would be rare or frequent."""
    labels = np.r_[np.zeros(30, np.int64), np.arange(1, 6)]
    total = impostor_count(labels)
    counts = np.zeros((35, 35))
    draws, limit = 600, 12
    for seed in range(draws):  # 12 of 160: more than four times as many, so pairs are drawn and not listed
        first, second = impostor_pairs(labels, limit, seed).T
        counts[first, second] += 1
    expected = draws * limit / total
    spread = (counts[counts > 0] - expected) / np.sqrt(expected)
    assert (counts > 0).sum() == total == 160
    assert abs(spread).max() < 4.5
    assert 0.8 < spread.std() < 1.2


@pytest.mark.parametrize("dimension", [3, 7, 64, 511, 512])
@pytest.mark.parametrize("seed", range(8))
def test_genuine_and_impostor_cosines_come_from_one_arithmetic(seed: int, dimension: int) -> None:
    """One vector for every picture: no pair may differ from another in the last bit, of whatever kind it is."""
    row = np.random.default_rng(seed).standard_normal(dimension).astype(np.float32)
    genuine, impostor = genuine_impostor(np.tile(row, (20, 1)), np.repeat(np.arange(5), 4), seed=seed)
    assert len(np.unique(np.r_[genuine, impostor])) == 1
    assert equal_error_rate(genuine, impostor)[0] == 0.5


NOISE = 1e-7


@pytest.mark.parametrize("noise", [0.0, NOISE])
def test_no_measure_praises_a_collapsed_recogniser(noise: float) -> None:
    generator = np.random.default_rng(3)
    rows = np.tile(generator.standard_normal(64), (200, 1)) * (
        1 + noise * generator.standard_normal((200, 64))
    )
    collapsed, labels = (
        (rows * generator.uniform(1, 20, (200, 1))).astype(np.float32),
        np.repeat(np.arange(50), 4),
    )
    sound = people(50, 4, 0.8, dimension=64)
    measures = {
        "a table of features": lambda: FeatureTable(collapsed, labels),
        "calibration": lambda: calibrate_threshold(collapsed, labels, fmr=1e-2),
        "leakage": lambda: measure_leakage(collapsed, sound.features),
        "leakage, gallery": lambda: measure_leakage(sound.features, collapsed),
        "diversity": lambda: measure_diversity(collapsed, labels, sound.features),
        "verification": lambda: verify_pairs(collapsed, np.arange(100) % 2 == 0),
    }
    for measure in measures.values():
        with pytest.raises(VectorError, match="collapsed"):
            measure()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_measure_takes_what_is_not_finite(value: float) -> None:
    sound = people(50, 4, 0.8, dimension=64)
    broken = sound.features.copy()
    broken[17, 3] = value
    for measure in (
        lambda: FeatureTable(broken, sound.labels),
        lambda: calibrate_threshold(broken, sound.labels, fmr=1e-2),
        lambda: measure_leakage(broken, sound.features),
        lambda: measure_leakage(sound.features, broken),
        lambda: measure_diversity(broken, sound.labels, sound.features),
    ):
        with pytest.raises(VectorError, match="17"):
            measure()
