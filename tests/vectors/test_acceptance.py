"""Acceptance formulas against scipy's beta function, their differential equation and published figures."""

import math

import numpy as np
import pytest
from scipy import special, stats

from v2f_engine.vectors.acceptance import accepted, candidates_for, isotropic_violation, poisson_bounds


@pytest.mark.parametrize("dimension", [2, 3, 7.5, 16, 64, 200.3, 512, 4096])
@pytest.mark.parametrize("max_cosine", [-0.9, -0.2, 0.0, 0.01, 0.1, 0.25, 0.3, 0.5, 0.8, 0.99])
def test_isotropic_violation_is_the_incomplete_beta_function(dimension, max_cosine):
    half = 0.5 * special.betainc((dimension - 1) / 2, 0.5, 1 - max_cosine**2)
    expected = half if max_cosine >= 0 else 1 - half
    assert isotropic_violation(dimension, max_cosine) == pytest.approx(expected, rel=1e-9, abs=1e-290)


def test_isotropic_violation_reproduces_published_figures():
    for dimension, p in [(512, 1.98e-12), (256, 4.81e-7), (128, 2.76e-4), (64, 7.59e-3), (16, 0.121)]:
        assert isotropic_violation(dimension, 0.3) == pytest.approx(p, rel=0.005)
    assert isotropic_violation(512, 0.25) == pytest.approx(4.7e-9, rel=0.01)
    assert isotropic_violation(100, 1.0) == 0
    assert isotropic_violation(100, -1.0) == 1


def test_published_shares():
    p = isotropic_violation(256, 0.3)
    for n, share in [(1e5, 0.9767), (1e6, 0.8164), (1e8, 0.0809)]:
        assert accepted(n, p) / n == pytest.approx(share, rel=2e-3)
    assert candidates_for(300_000, isotropic_violation(192, 0.3)) == pytest.approx(2.5e6, rel=0.05)


@pytest.mark.parametrize("dispersion", [0.0, 1e-7, 1e-5, 0.03, 0.5, 3.0, 40.0])
@pytest.mark.parametrize("p", [1e-9, 1e-5, 1e-2, 0.3])
def test_inverse_and_limits(p, dispersion):
    for n in (1, 100, 1e4, 1e7):
        a = accepted(n, p, dispersion)
        assert 0 < a <= n * (1 + 1e-9)
        assert candidates_for(a, p, dispersion) == pytest.approx(n, rel=1e-6)
    assert accepted(1e4, p, 1e-5) == pytest.approx(accepted(1e4, p), rel=1e-3)


def test_dispersed_formula_solves_its_equation():
    """Kept density per Gamma-distributed type, integrated step by step."""
    p, dispersion, n = 0.01, 0.8, 3000.0
    grid = (np.arange(4000) + 0.5) / 4000
    own = stats.gamma.ppf(grid, 1 / dispersion, scale=p * dispersion)
    exposure, kept, step = 0.0, 0.0, 0.25
    for _ in range(int(n / step)):
        survive = np.exp(-own * (exposure + step / 2 * np.mean(own * np.exp(-own * exposure)) / p))
        kept += step * survive.mean()
        exposure += step * np.mean(own * survive) / p
    assert accepted(n, p, dispersion) == pytest.approx(kept, rel=0.003)


def test_impossible_requests_are_infinite():
    assert candidates_for(300_000, 0.01) == math.inf


@pytest.mark.parametrize("count", [0, 1, 2, 5, 30, 1000])
def test_poisson_bounds(count):
    low, high = poisson_bounds(count)
    assert high == pytest.approx(stats.chi2.ppf(0.95, 2 * count + 2) / 2, rel=0.004)
    if count:
        assert low == pytest.approx(stats.chi2.ppf(0.05, 2 * count) / 2, rel=0.03, abs=0.03)
    else:
        assert low == 0
