"""EER and false-match operating points against pyeer, the field's de-facto tool; D of DCFace; groups."""

from __future__ import annotations

import numpy as np
import pytest
from pyeer.eer_stats import calculate_roc, get_eer_values, get_fmr_op

from v2f_engine.errors import VectorError
from v2f_engine.evaluate.dcface import measure_diversity, measure_uniqueness
from v2f_engine.evaluate.features import FeatureTable
from v2f_engine.evaluate.groups import measure_groups, named_groups
from v2f_engine.evaluate.separability import measure_separability
from v2f_engine.scores import equal_error_rate, threshold_at_fmr


@pytest.mark.parametrize(("seed", "shift"), [(0, 1.5), (1, 2.5), (2, 4.0)])
def test_rates_equal_those_of_pyeer_on_shared_scores(seed: int, shift: float) -> None:
    generator = np.random.default_rng(seed)
    genuine = (generator.standard_normal(4000) + shift).astype(np.float32)
    impostor = generator.standard_normal(20_000).astype(np.float32)
    _, fmr, fnmr = calculate_roc(genuine.astype(np.float64), impostor.astype(np.float64))
    eer, _ = equal_error_rate(genuine, impostor)
    # pyeer takes the side of the crossing with the smaller sum, we the side with the smaller gap: one pair at most.
    assert eer == pytest.approx(get_eer_values(fmr, fnmr)[3], abs=1 / 4000)
    for rate in (0.01, 0.001):
        missed_as_pyeer(float((genuine < threshold_at_fmr(impostor, rate)).mean()), fmr, fnmr, rate, 20_000)


def missed_as_pyeer(ours: float, fmr: np.ndarray, fnmr: np.ndarray, rate: float, impostors: int) -> None:
    """Ours is pyeer's curve where it first reaches the rate; pyeer takes the nearest point, at most one off."""
    first = int(np.argmax(fmr <= rate))
    assert ours == fnmr[first]
    at, theirs = get_fmr_op(fmr, fnmr, rate)
    assert abs(fmr[at] - fmr[first]) <= 1.01 / impostors
    assert ours == pytest.approx(theirs, abs=0.01)


def table(identities: int, each: int, spread: float, seed: int = 0) -> FeatureTable:
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(identities), each)
    rows = generator.standard_normal((identities, 64))[labels] + spread * generator.standard_normal(
        (len(labels), 64)
    )
    return FeatureTable(rows.astype(np.float32), labels)


def test_a_dataset_has_the_fmr100_and_fmr1000_of_pyeer() -> None:
    measured = measure_separability(table(80, 6, 1.5), threshold=0.3, impostors=30_000)
    _, fmr, fnmr = calculate_roc(measured.genuine.astype(np.float64), measured.impostor.astype(np.float64))
    assert measured.fmr100 is not None
    assert measured.fmr1000 is not None
    for ours, rate in ((measured.fmr100, 0.01), (measured.fmr1000, 0.001)):
        missed_as_pyeer(ours, fmr, fnmr, rate, len(measured.impostor))


def test_unique_and_consistent_shares_by_hand() -> None:
    centres = np.eye(5, 8, dtype=np.float32)
    centres[3] = centres[0] * 0.9 + centres[1] * 0.1  # claimed by the first
    rows = np.repeat(centres, 4, axis=0)
    rows[19] = -rows[19] * 0.1  # one image of four points away from its own centre
    three = measure_uniqueness(FeatureTable(rows * 9, np.repeat(np.arange(5), 4)), radius=0.3)
    assert three.unique == pytest.approx(4 / 5)
    assert three.consistent == pytest.approx((4 + 3 / 4) / 5)
    assert three.diverse is None


def test_diversity_is_the_recall_of_a_loop() -> None:
    generator = np.random.default_rng(4)
    made, labels = generator.standard_normal((40, 3)), np.repeat(np.arange(4), 10)
    real = generator.standard_normal((200, 3))
    recalls = []
    for label in range(4):
        own = made[labels == label]
        inside = np.zeros(200, bool)
        for place, row in enumerate(own):
            others = np.delete(own, place, axis=0)
            reach = np.sort(np.linalg.norm(others - row, axis=1))[2]
            inside |= np.linalg.norm(real - row, axis=1) <= reach
        recalls.append(inside.mean())
    assert measure_diversity(made, labels, real) == pytest.approx(np.mean(recalls), abs=1e-12)
    with pytest.raises(VectorError, match="more than 3 images"):
        measure_diversity(made[:3], labels[:3], real)


def test_groups_are_measured_apart() -> None:
    near, far = table(30, 5, 3.0, 1), table(30, 5, 0.5, 2)
    both = FeatureTable(
        np.concatenate([near.features, far.features]), np.concatenate([near.labels, far.labels + 30])
    )
    found = measure_groups(both, ["near"] * 150 + ["far"] * 150, threshold=0.4)
    by_name = {group.name: group for group in found.groups}
    alone = measure_separability(near, threshold=0.4, impostors=500_000)
    assert by_name["near"].eer == pytest.approx(alone.eer, abs=0.01)
    assert by_name["near"].false_non_match_rate == alone.false_non_match_rate
    assert by_name["near"].eer > 0.1 > by_name["far"].eer
    assert found.spread == pytest.approx(
        by_name["near"].false_non_match_rate - by_name["far"].false_non_match_rate
    )
    assert named_groups(np.array([0.0, 1.0, 0.0])) == ["0", "1", "0"]
    ages = named_groups(np.linspace(20, 80, 90))
    assert sorted(set(ages)) == ["20 to 40", "40 to 60", "60 to 80"]
    assert ages.count("20 to 40") == 30
    with pytest.raises(VectorError, match="300 group names"):
        measure_groups(both, ["a"], threshold=0.4)
    with pytest.raises(VectorError, match="No group"):
        measure_groups(both, [str(label) for label in both.labels], threshold=0.4)
