"""Intervals: closed forms, the resampled rates against the plain ones, and how often an interval holds the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from v2f_engine.evaluate.consistency import measure_consistency
from v2f_engine.evaluate.dcface import measure_uniqueness
from v2f_engine.evaluate.features import FeatureTable
from v2f_engine.evaluate.intervals import Interval, difference, of_quantile, of_rate, wilson
from v2f_engine.evaluate.resample import ErrorRates, weights
from v2f_engine.evaluate.separability import measure_separability
from v2f_engine.evaluate.set_intervals import Extra, set_intervals, unique_trials
from v2f_engine.scores import equal_error_rate, threshold_at_fmr


def table(identities: int, each: int, seed: int, length: int = 32) -> FeatureTable:
    """People of whom some vary much more than others, so that errors are of few people."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(identities), each)
    varied = generator.gamma(2.0, 0.5, identities)[labels, None] + 0.3
    rows = generator.standard_normal((identities, length))[labels]
    return FeatureTable(
        (rows + varied * generator.standard_normal((len(labels), length))).astype(np.float32), labels
    )


def intervals(made: FeatureTable, **options: object) -> dict[str, Interval]:
    apart = measure_separability(made, threshold=0.45)
    three = measure_uniqueness(made, radius=0.55)
    return set_intervals(made, apart, measure_consistency(made), three, **options)  # type: ignore[arg-type]


def test_wilson_and_the_difference_as_published() -> None:
    """Newcombe 1998, "Interval estimation for the difference", table II: 56 of 70 and 48 of 80, method 10."""
    assert wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    one, other = (Interval(k / n, *wilson(k / n, n), n, "wilson") for k, n in ((56, 70), (48, 80)))
    found = difference(one, other)
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)
    assert (found.verdict, difference(other, one).verdict) == ("higher", "lower")
    assert difference(one, one).verdict == "alike"
    assert difference(one, Interval(0.5, None, None, 3, "wilson")).verdict == "unknown"


@pytest.mark.parametrize(("count", "share"), [(72, 0.05), (200, 0.05), (500, 0.95), (90, 0.5)])
def test_quantiles_have_the_ranks_of_the_binomial_distribution(count: int, share: float) -> None:
    values = np.arange(count, dtype=np.float32)
    found = of_quantile(float(np.quantile(values, share)), values, share)
    assert found.low is not None
    assert found.high is not None

    # P(rank of the quantile between the two) = P(low < Binomial <= high): at least 95 %, and not with a rank less.
    def covered(low: float, high: float) -> float:
        return float(binom.cdf(high - 1 + 0.5, count, share) - binom.cdf(low + 0.5, count, share))

    assert covered(found.low, found.high) >= 0.95 - 1e-9
    assert binom.cdf(found.low, count, share) <= 0.025
    assert binom.cdf(found.low + 1, count, share) > 0.025
    assert of_quantile(0.0, values[:20], 0.05).why == "too few: 20 identities, 72 needed"


def pairs_of(made: FeatureTable) -> tuple[ErrorRates, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    apart = measure_separability(made, threshold=0.45)
    images = np.bincount(made.labels)
    owners = np.repeat(np.arange(len(images)), images * (images - 1) // 2)
    strangers = made.labels[apart.impostor_rows]
    rates = ErrorRates(
        (apart.genuine, owners), (apart.impostor, strangers), images, rates=(0.1, 0.01), near=apart.eer
    )
    return rates, apart.genuine, owners, apart.impostor, strangers


def test_weighted_rates_are_those_of_the_pairs_written_out() -> None:
    """A weight of w is the pair w times over, by the plain functions."""
    made = table(60, 5, 3)
    rates, genuine, owners, impostor, strangers = pairs_of(made)
    drawn = np.concatenate([np.ones((1, 60), np.float32), *weights(60, 12, 7)])
    found = rates(drawn)
    for weight, (eer, *matched) in zip(drawn.astype(int), found, strict=True):
        some = np.repeat(genuine, weight[owners])
        others = np.repeat(impostor, weight[strangers[:, 0]] * weight[strangers[:, 1]])
        assert eer == pytest.approx(equal_error_rate(some, others)[0], abs=2e-3)
        for rate, match in zip((0.1, 0.01), matched, strict=True):
            assert match == pytest.approx((some >= threshold_at_fmr(others, rate)).mean(), abs=1e-2)


def test_weights_are_a_draw_with_replacement_that_comes_again() -> None:
    drawn = np.concatenate(list(weights(50, 400, 0)))
    assert drawn.shape == (400, 50)
    assert (drawn.sum(axis=1) == 50).all()
    assert drawn.var() == pytest.approx(1 - 1 / 50, abs=0.03)  # of a multinomial
    assert (drawn == np.concatenate(list(weights(50, 400, 0)))).all()
    assert (drawn != np.concatenate(list(weights(50, 400, 1)))).any()
    # the first resamples do not depend on how many there are
    assert (np.concatenate(list(weights(50, 30, 0))) == drawn[:30]).all()


def test_scores_that_tie_give_rates_and_no_nan() -> None:
    images = np.full(12, 3)
    owners = np.repeat(np.arange(12), 3)
    strangers = np.stack(np.triu_indices(12, 1), axis=1).repeat(9, axis=0)
    half = (np.arange(len(owners)) % 2).astype(np.float32)
    for genuine, impostor, eer in (
        (np.full(36, 0.5, np.float32), np.full(len(strangers), 0.5, np.float32), 0.5),
        (np.ones(36, np.float32), np.zeros(len(strangers), np.float32), 0.0),
        (half, np.zeros(len(strangers), np.float32), None),
    ):
        rates = ErrorRates((genuine, owners), (impostor, strangers), images, rates=(0.1,), near=0.5)
        found = rates(np.concatenate([np.ones((1, 12), np.float32), *weights(12, 20, 0)]))
        assert np.isfinite(found).all()
        assert (found >= 0).all()
        assert (found <= 1).all()
        if eer is not None:
            assert found[0, 0] == pytest.approx(equal_error_rate(genuine, impostor)[0])


def test_nothing_counted_has_an_interval_of_its_identities() -> None:
    """0 of 900 pairs of 30 people is 0 of 30: up to 11 %, and not up to 0.4 %."""
    found = of_rate(0.0, np.zeros(100), 30)
    assert (found.low, found.high) == pytest.approx((0.0, 0.1135), abs=1e-4)
    few = of_rate(0.0, np.zeros(100), 9)
    assert not few.known
    assert few.why == "too few: 9 identities, 10 needed"


def test_intervals_are_around_what_was_measured_and_come_again() -> None:
    made = table(80, 4, 5)
    apart, alike = measure_separability(made, threshold=0.45), measure_consistency(made)
    extra = Extra(
        values={"yaw": (np.arange(320, dtype=np.float32), made.labels)},
        shares={"odd": (np.arange(320) % 4 == 0, made.labels)},
    )
    seen: list[tuple[int, int]] = []
    found = intervals(made, extra=extra, resamples=200, progress=lambda *done: seen.append(done))
    assert found == intervals(made, extra=extra, resamples=200)
    assert found["eer"] != intervals(made, resamples=200, seed=1)["eer"]
    assert seen[-1] == (200, 200)
    assert found["eer"].value == apart.eer
    assert apart.fmr100 is not None
    assert found["true_match_at_0.01"].value == pytest.approx(1 - apart.fmr100)
    assert found["pair_cosine"].value == alike.pair_cosine
    assert found["own_nearest"].value == alike.own_nearest
    assert found["unique_share"].value == apart.unique_share
    assert found["yaw"].value == pytest.approx(159.5)
    assert found["yaw_deviation"].value == pytest.approx(np.arange(320).std())
    assert found["odd"].value == 0.25
    for name, one in found.items():
        assert not one.known or one.low <= one.value <= one.high, name  # type: ignore[operator]
    assert found["true_match_at_0.0001"].why == "too few pairs of two people: 50,560, 100,000 needed"


def test_one_left_out_sees_chance_and_clusters() -> None:
    """A pair alike by chance counts double, people who are all alike to many count once each."""
    centres = np.zeros((40, 41), np.float32)
    centres[np.arange(40), np.arange(40)] = 1
    centres[30] = centres[3]
    # 38 unique ones remain of 39 where one of the pair goes, else 38 of them with one repeat: by hand, 1.9 / 39
    assert unique_trials(centres, 0.5, np.arange(40) == 30) == pytest.approx(1.9 / 39 / (0.975 * 0.025))
    centres[20:] = centres[0]
    assert unique_trials(centres, 0.5, np.arange(40) >= 20) == pytest.approx(1.0, abs=0.1)


COVERED = (
    "eer",
    "true_match_at_0.01",
    "genuine_mean",
    "pair_cosine",
    "rest_cosine",
    "fdr",
    "false_non_match_rate",
)


def coverage(sets: int, resamples: int) -> dict[str, float]:
    """Share of simulated sets whose interval holds the truth, that of 3,000 people."""
    truth = intervals(table(3000, 4, 99_999), resamples=2)
    runs = [intervals(table(40, 4, seed), resamples=resamples) for seed in range(sets)]
    found = {name: np.mean([_holds(run[name], truth[name].value) for run in runs]) for name in COVERED}
    for name in ("unique_share", "own_nearest"):  # of forty people: these fall with the size of the set
        middle = float(np.mean([run[name].value for run in runs]))
        found[name] = np.mean([_holds(run[name], middle) for run in runs])
    which = "false_non_match_rate"
    pairs = [Interval(run[which].value, *wilson(run[which].value, 240), 240, "wilson") for run in runs]
    found["over pairs"] = np.mean([_holds(one, truth[which].value) for one in pairs])
    return {name: float(share) for name, share in found.items()}


def _holds(one: Interval, truth: float) -> bool:
    return one.low is not None and one.high is not None and one.low <= truth <= one.high


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """60 sets: a coverage of 95 % is found above 86 % with a probability of 99.9 %."""
    found = coverage(60, 100)
    over_pairs = found.pop("over pairs")
    assert {name: share for name, share in found.items() if share < 0.86} == {}
    assert over_pairs < 0.8  # 240 pairs taken for as many trials


@pytest.mark.slow
def test_intervals_hold_the_truth_in_many_sets() -> None:
    found = coverage(400, 400)
    over_pairs = found.pop("over pairs")
    assert {name: share for name, share in found.items() if share < 0.92} == {}
    assert over_pairs < 0.75


@pytest.mark.slow
def test_a_thousand_people_take_seconds() -> None:
    import time

    made = table(1000, 10, 0, 512)
    apart, alike = measure_separability(made, threshold=0.45), measure_consistency(made)
    three = measure_uniqueness(made, radius=0.55)
    started = time.process_time()
    set_intervals(made, apart, alike, three)
    assert time.process_time() - started < 10
