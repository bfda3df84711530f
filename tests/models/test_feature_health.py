"""The one judge of features: what is not finite, what has no direction, what is all the same."""

from __future__ import annotations

import numpy as np
import pytest

from v2f_engine.errors import VectorError
from v2f_engine.models.feature_health import BLOCK, judge_features


def rows(count: int = 20, dim: int = 16) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, dim)).astype(np.float32)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_sound_rows(scale: float, dtype: type) -> None:
    with np.errstate(over="ignore"):
        table = (rows() * scale).astype(dtype)
    if np.isfinite(table).all() and table.any(axis=1).all():
        assert judge_features(table).sound


def test_each_fault_is_counted_and_named() -> None:
    table = rows(BLOCK + 30)
    table[[3, BLOCK + 7]] = np.nan
    table[11, 2] = -np.inf
    table[BLOCK + 1] = 0
    health = judge_features(table)
    assert health.non_finite.tolist() == [3, 11, BLOCK + 7]
    assert health.zero.tolist() == [BLOCK + 1]
    assert health.usable == BLOCK + 26
    assert not health.collapsed
    with pytest.raises(
        VectorError, match=r"made up: 3 of 4,126 rows are not finite \(rows 3, 11, 4103\).*1 of"
    ):
        health.check("made up")


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("noise", [0.0, 1e-7, 1e-4])
def test_collapsed_up_to_rounding_length_and_sign(dtype: type, noise: float) -> None:
    generator = np.random.default_rng(1)
    table = generator.normal(size=(1, 64)) + noise * generator.normal(size=(30, 64))
    table *= generator.uniform(0.5, 2, (30, 1)) * generator.choice([-1, 1], (30, 1))
    assert judge_features(table.astype(dtype)).collapsed
    with pytest.raises(VectorError, match="all 30 usable rows are one direction"):
        judge_features(table.astype(dtype)).check()


def test_near_is_not_collapsed() -> None:
    table = np.ones((30, 64)) + 0.05 * np.random.default_rng(1).normal(size=(30, 64))
    assert judge_features(table).sound
    assert judge_features(table[:1]).sound


def test_nothing_but_faults() -> None:
    assert len(judge_features(np.full((5, 4), np.nan, np.float32)).non_finite) == 5
    assert len(judge_features(np.zeros((5, 4), np.float32)).zero) == 5
    assert judge_features(np.empty((0, 4), np.float32)).sound
    with pytest.raises(VectorError, match="expected floats"):
        judge_features(np.zeros((5, 4), np.int64))
