"""Mask counts: the published truncated normal, per image."""

from __future__ import annotations

import numpy as np
import pytest

from v2f_engine.errors import ConfigError
from v2f_engine.models.mask_schedule import MASK_SCHEDULES, MaskSchedule, schedule_of

N = 40_000
PUBLISHED = {  # rows dropped; 5th percentile, mean, 95th percentile of masked rows (reference statistics)
    "train": (25, 27, 37.3, 48),
    "generate": (5, 6, 16.1, 31),
    "demo": (5, 6, 13.8, 23),
    "plus-train": (30, 31, 34.8, 39),
    "plus-generate": (40, 40, 42.1, 44),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_follow_the_published_distribution(name: str) -> None:
    schedule = MASK_SCHEDULES[name]
    identity = np.arange(N)
    noise, counts = schedule.draw(3, identity, np.zeros(N, np.int64))
    dropped, low, mean, high = PUBLISHED[name]
    assert schedule.n_dropped == dropped
    assert counts.min() >= dropped
    assert counts.max() <= np.ceil(49 * schedule.maximum)
    assert abs(counts.mean() - mean) < 0.1
    assert abs(np.quantile(counts, 0.05) - low) <= 1
    assert abs(np.quantile(counts, 0.95) - high) <= 1
    assert noise.shape == (N, 49)
    assert abs(noise.mean() - 0.5) < 0.01


def test_an_image_has_its_mask_whatever_its_batch() -> None:
    schedule = MASK_SCHEDULES["generate"]
    noise, counts = schedule.draw(1, np.arange(10), np.arange(10) % 3)
    alone_noise, alone_count = schedule.draw(1, np.array([7]), np.array([1]))
    np.testing.assert_array_equal(alone_noise[0], noise[7])
    assert alone_count[0] == counts[7]


def test_a_fixed_ratio_and_impossible_ones() -> None:
    _, counts = MaskSchedule(0.3, 0.3, 0.1, 0.3).draw(0, np.arange(5), np.zeros(5, np.int64))
    assert set(counts.tolist()) == {15}
    for bad in ((-0.1, 0.5, 0.1, 1.0), (0.5, 0.5, 0.1, 0.4), (0.1, 0.5, 0.0, 1.0)):
        with pytest.raises(ConfigError):
            MaskSchedule(*bad)


@pytest.mark.parametrize(("ratio", "masked", "dropped"), [("0.05", 3, 3), ("0.35", 18, 5), ("1", 49, 5)])
def test_one_ratio_for_all_images(ratio: str, masked: int, dropped: int) -> None:
    schedule = schedule_of(ratio)
    _, counts = schedule.draw(0, np.arange(500), np.arange(500))
    assert set(counts.tolist()) == {masked}
    assert schedule.n_dropped == dropped


def test_a_schedule_by_name_and_what_is_none() -> None:
    assert schedule_of("demo") is MASK_SCHEDULES["demo"]
    assert schedule_of(MASK_SCHEDULES["train"]) is MASK_SCHEDULES["train"]
    for bad in ("demi", "1.2", "-0.1", "nan"):
        with pytest.raises(ConfigError):
            schedule_of(bad)
