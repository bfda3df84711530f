"""The planner: p from a pilot, predictions that greedy rejection confirms, refusals before a run."""

import json

import numpy as np
import pytest
from v2f_kernels.reject_similar import OP

from v2f_engine.backends import function
from v2f_engine.errors import ConfigError, OutputFolderError, SaturationError
from v2f_engine.randomness import Purpose, normals
from v2f_engine.vectors.acceptance import accepted, isotropic_violation
from v2f_engine.vectors.pilot import estimate, fit_acceptance, run_pilot
from v2f_engine.vectors.planner import feasible_cosine, plan_identities
from v2f_engine.vectors.plots import plot_saturation
from v2f_engine.vectors.sources import GaussianSource


class Uneven:
    """Off-centre with a falling spectrum, like features."""

    name, sha256, dimension = "uneven", "0" * 64, 128

    def candidates(self, seed, first, count):
        z = normals(seed, Purpose.IDENTITY_VECTOR, np.arange(first, first + count), 0, 128)
        return (z * np.arange(1, 129) ** -0.25 + 0.25).astype(np.float32)


def kept_by_greedy(source, n, max_cosine, seed=0):
    indices = function("reject_similar")(source.candidates(seed, 0, n), max_cosine)
    return lambda m: int(np.searchsorted(indices, m))


@pytest.mark.parametrize("dimension", [96, 128, 192])
def test_formula_predicts_acceptance_within_5_percent(dimension):
    p = isotropic_violation(dimension, 0.3)
    kept = kept_by_greedy(GaussianSource(dimension), 16_000, 0.3)
    for n in (4000, 8000, 16_000):
        assert accepted(n, p) / kept(n) == pytest.approx(1, abs=0.05), n


@pytest.mark.slow
@pytest.mark.parametrize("dimension", [96, 128, 192, 256])
def test_formula_predicts_acceptance_within_5_percent_at_60_000(dimension):
    kept = kept_by_greedy(GaussianSource(dimension), 60_000, 0.3)
    assert accepted(60_000, isotropic_violation(dimension, 0.3)) / kept(60_000) == pytest.approx(1, abs=0.05)


def test_pilot_counts_what_is_there():
    pilot = run_pilot(GaussianSource(96), 0.3, rows=4608)
    assert pilot.rows == 4608
    assert pilot.pairs == 4608 * 4607 // 2 > 1e7
    assert pilot.histogram.sum() == pilot.pairs
    assert pilot.p == pytest.approx(isotropic_violation(96, 0.3), rel=0.03)
    assert pilot.p_low < isotropic_violation(96, 0.3) < pilot.p_high
    assert pilot.cosine_dimension == pytest.approx(96, rel=0.01)
    assert pilot.histogram[130:].sum() == pilot.violations  # cosines of 0.3 and more
    vectors = GaussianSource(96).candidates(0, 0, 4608)
    assert pilot.kept == len(OP.backend("reference")(vectors, 0.3))
    assert pilot.predicted(4608) == pytest.approx(pilot.kept, abs=0.5)


def test_pilot_without_similar_pairs_uses_the_formula_below_its_limit():
    pilot = run_pilot(GaussianSource(512), 0.3, rows=4608)
    assert (pilot.violations, pilot.counted, pilot.p_low) == (0, False, 0.0)
    assert pilot.p_high == pytest.approx(2.996 / pilot.pairs, rel=1e-3)
    assert pilot.p == pytest.approx(1.98e-12, rel=0.2)


def test_uneven_sources_are_predicted_by_the_pilot_and_not_by_the_even_formula():
    pilot = run_pilot(Uneven(), 0.3, rows=4608)
    kept = kept_by_greedy(Uneven(), 16_000, 0.3)
    assert accepted(16_000, pilot.p) < 0.6 * kept(16_000)
    assert pilot.predicted(16_000) == pytest.approx(kept(16_000), rel=0.15)


def test_limits_widen_when_pairs_share_members():
    even, hub = np.full(1000, 2), np.zeros(1000, int)
    hub[:2], hub[2:] = [500, 500], [1] * 498 + [1] * 500
    assert even.sum() == 2000
    for degree in (even, hub):
        p, low, high = estimate(degree)
        assert low < p < high
    narrow, wide = ((estimate(degree)[2] / estimate(degree)[0]) for degree in (even, hub))
    assert wide > 1.3 * narrow


@pytest.mark.parametrize(("p", "dispersion"), [(1e-3, 0.0), (1e-3, 0.7), (1e-5, 30.0), (0.2, 0.3)])
def test_fit_recovers_the_parameters(p, dispersion):
    kept = accepted(18_000, p, dispersion)
    fitted, spread = fit_acceptance(18_000, kept, p)
    assert accepted(18_000, fitted, spread) == pytest.approx(kept, rel=1e-4)
    assert spread == pytest.approx(dispersion, rel=1e-3, abs=1e-4)
    fitted, spread = fit_acceptance(18_000, 0.9 * accepted(18_000, p), p)
    assert fitted > p
    assert spread == 0


def test_plan_of_a_request_that_fits():
    plan = plan_identities(3000, GaussianSource(128), 0.3, pilot_rows=4608)
    assert plan.feasible
    plan.refuse_if_saturated()
    kept = kept_by_greedy(GaussianSource(128), 6000, 0.3)
    needed = next(n for n in range(3000, 6000) if kept(n) == 3000)
    assert plan.candidates == pytest.approx(needed, rel=0.05)
    assert plan.candidates_low < plan.candidates < plan.candidates_high
    assert plan.max_candidates == 100_000
    assert 0 < plan.seconds < 60
    text = "\n".join(plan.lines())
    for part in ("3,000 from 'gaussian'", "p = 0.000272", "candidates/s", "MiB", "ln(1 + p n) / p"):
        assert part in text
    drawn, identities = plan.curve()
    assert np.all(np.diff(identities) > 0)
    assert identities[-1] < drawn[-1] / 5


def test_plan_of_an_impossible_request():
    plan = plan_identities(50_000, GaussianSource(64), 0.3, pilot_rows=4608)
    assert not plan.feasible
    assert plan.seconds > 1e100
    message = r"50,000 identities .* below 0\.3 .*'gaussian'.*probability 0\.007.*budget is 1,000,000"
    with pytest.raises(SaturationError, match=message) as error:
        plan.refuse_if_saturated()
    looser = feasible_cosine(plan)
    assert f"raise max_cosine to about {looser:.2f}" in str(error.value)
    assert plan_identities(50_000, GaussianSource(64), looser + 0.01, pilot_rows=4608).feasible
    assert not plan_identities(50_000, GaussianSource(64), looser - 0.03, pilot_rows=4608).feasible


def test_options_are_checked():
    with pytest.raises(ConfigError, match="identities must be at least 1"):
        plan_identities(0, GaussianSource(), 0.3)
    with pytest.raises(ConfigError, match="max_cosine must lie between -1 and 1"):
        plan_identities(10, GaussianSource(), 1.3)
    with pytest.raises(ConfigError, match="max_candidates must be at least 10"):
        plan_identities(10, GaussianSource(), 0.3, max_candidates=9)


def test_saturation_plot(tmp_path):
    plan = plan_identities(3000, GaussianSource(128), 0.3, pilot_rows=2000)
    plot_saturation(plan, tmp_path / "s.png")
    assert (tmp_path / "s.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with pytest.raises(OutputFolderError, match="cannot be written"):
        plot_saturation(plan, tmp_path / "none" / "s.png")
    json.dumps(plan.lines())
