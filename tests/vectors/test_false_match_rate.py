"""Thresholds by false-match rate, everywhere a threshold is asked for."""

import numpy as np
import pytest

from v2f_engine.errors import ConfigError, VectorError
from v2f_engine.scores import ScoreHistogram, threshold_at_fmr
from v2f_engine.vectors.calibration import Calibration, calibrate_threshold, limit_of
from v2f_engine.vectors.sampling import IdentityStream, sample_identities
from v2f_engine.vectors.separability import separability_curve
from v2f_engine.vectors.sources import GaussianSource

SOURCE = GaussianSource(32)
KNOWN = SOURCE.candidates(77, 0, 500)


def test_lists_and_histograms_agree_on_one_threshold():
    scores = np.random.default_rng(0).uniform(-1, 1, 20_000).astype(np.float32)
    histogram = ScoreHistogram()
    for part in np.array_split(scores, 7):
        histogram.add(part)
    assert histogram.count == 20_000
    for fmr in (1e-3, 0.02, 0.5):
        exact = threshold_at_fmr(scores, fmr)
        found, measured = histogram.threshold_at_fmr(fmr)
        assert found == pytest.approx(exact, abs=4e-6)
        assert measured <= fmr
        assert measured == np.mean(scores >= np.float32(found))


def test_a_rate_decides_the_threshold_of_a_sample(tmp_path):
    np.save(tmp_path / "known.npy", KNOWN)
    limit = calibrate_threshold(KNOWN, fmr=1e-2)
    table = sample_identities(60, fmr=1e-2, calibration=tmp_path / "known.npy", source=SOURCE, seed=1)
    assert table.provenance["max_cosine"] == limit.threshold
    assert table.provenance["calibration"]["fmr"] == 1e-2
    assert table.provenance["calibration"]["origin"] == "known.npy"
    by_cosine = sample_identities(60, max_cosine=limit.threshold, source=SOURCE, seed=1)
    assert np.array_equal(table.candidate, by_cosine.candidate)
    for given in (KNOWN, limit):
        again = sample_identities(60, fmr=1e-2, calibration=given, source=SOURCE, seed=1)
        assert np.array_equal(again.vectors, table.vectors)
    assert separability_curve(table.vectors, threshold=limit.threshold).share == 1


def test_half_of_a_request_is_refused(tmp_path):
    limit = Calibration(0.4, 1e-4, 1e-4, 10**6)
    with pytest.raises(ConfigError, match=r"0\.001\) needs features of known people"):
        sample_identities(5, fmr=1e-3)
    with pytest.raises(ConfigError, match="without a false-match rate"):
        sample_identities(5, calibration=KNOWN)
    with pytest.raises(ConfigError, match=r"fmr is 0\.001 but the calibration is for 0\.0001"):
        limit_of(None, 1e-3, limit)
    with pytest.raises(ConfigError, match="needs 100,000,000 pairs"):
        sample_identities(5, fmr=1e-7, calibration=KNOWN)
    with pytest.raises(VectorError, match="nowhere"):
        sample_identities(5, fmr=1e-3, calibration=tmp_path / "nowhere.npy")
    assert limit_of(0.3, None, None) == (0.3, None)
    assert limit_of(0.3, None, limit) == (0.4, limit)


def test_a_stream_is_extended_not_restarted():
    stream, seen = IdentityStream(source=SOURCE, seed=2, max_cosine=0.5, block=64), []
    first = stream.take(40, max_candidates=10_000, progress=lambda kept, n, drawn: seen.append(drawn))
    drawn = seen[-1]
    more = stream.take(90, max_candidates=10_000, progress=lambda kept, n, drawn: seen.append(drawn))
    assert np.array_equal(more.candidate[:40], first.candidate)
    assert seen == sorted(seen)
    assert seen[-1] > drawn
    whole = sample_identities(90, source=SOURCE, seed=2, max_cosine=0.5)
    assert whole.table_hash == more.table_hash
    assert stream.take(40, max_candidates=10_000).table_hash == first.table_hash


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_the_curve_reports_pairs_and_ends_at_all_of_them(backend):
    if backend == "native":
        pytest.importorskip("v2f_kernels._C", reason="the compiled extension is not built")
    rows, seen = SOURCE.candidates(3, 0, 9000), []
    curve = separability_curve(
        rows, threshold=0.6, backend=backend, progress=lambda done, total: seen.append((done, total))
    )
    assert len(seen) > 1
    assert seen == sorted(seen)
    assert seen[-1] == (9000 * 8999 // 2,) * 2
    assert np.array_equal(curve.repeated, separability_curve(rows, threshold=0.6).repeated)
