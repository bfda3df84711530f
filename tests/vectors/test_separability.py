"""Measures of separability: the published curve, thresholds from false-match rates, gated rejection."""

import tracemalloc

import numpy as np
import pytest
from v2f_kernels import _cosine

from v2f_engine.errors import ConfigError, VectorError
from v2f_engine.randomness import Purpose, normals
from v2f_engine.vectors.calibration import calibrate_threshold
from v2f_engine.vectors.plots import plot_separability
from v2f_engine.vectors.rejection import reject_similar
from v2f_engine.vectors.separability import separability_curve


def table(n=900, d=48, seed=1):
    return normals(seed, Purpose.IDENTITY_VECTOR, np.arange(n), 0, d)


def test_reject_similar_passes_the_gate_and_keeps_the_first():
    vectors = table()
    vectors[500] = vectors[3]
    kept = reject_similar(vectors, 0.4)
    assert kept.dtype == np.int64
    assert 500 not in kept
    inside = _cosine.cosine(vectors[kept][:, None], vectors[kept][None])
    np.fill_diagonal(inside, -1)
    assert inside.max() < 0.4
    lost = np.setdiff1d(np.arange(900), kept)
    for row in lost:
        assert _cosine.cosine(vectors[row][None], vectors[kept[kept < row]]).max() >= 0.4
    assert np.array_equal(reject_similar(vectors.astype(">f8"), 0.4), kept)
    vectors[7] = np.nan
    with pytest.raises(VectorError, match=r"not finite .*; row 7\."):
        reject_similar(vectors, 0.4)
    with pytest.raises(ConfigError, match="max_cosine must lie between"):
        reject_similar(table(), 2.0)


def published(vectors, threshold, step):
    """The published script's count, from the dense matrix."""
    cosines = np.tril(_cosine.cosine(vectors[:, None], vectors[None]), -1)
    repeated = (cosines > threshold).any(axis=1)
    ends = [*range(step, len(vectors), step), len(vectors)]
    return ends, [int((~repeated[:end]).sum()) for end in ends]


def test_curve_is_the_published_measure():
    vectors = table()
    curve = separability_curve(vectors, threshold=0.40, step=100)
    ends, unique = published(vectors, 0.40, 100)
    assert curve.first.tolist() == ends
    assert curve.unique.tolist() == unique
    assert 0.05 < curve.share < 0.95
    # An identity is compared with all earlier ones, rejected or not: fewer are unique than greedy would keep.
    assert unique[-1] < len(reject_similar(vectors, 0.40))


def test_curve_counts_only_cosines_above_the_threshold():
    vectors = table(300)
    exact = float(_cosine.cosine(vectors[10], vectors[200]))
    assert exact < 0.9
    at = separability_curve(vectors[[10, 200]], threshold=exact)
    below = separability_curve(vectors[[10, 200]], threshold=float(np.nextafter(exact, -1)))
    assert (at.unique[-1], below.unique[-1]) == (2, 1)


def test_curve_needs_little_memory_beside_a_mapped_table(tmp_path):
    np.save(tmp_path / "v.npy", table(12_000, 64))
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
    tracemalloc.start()
    separability_curve(mapped, threshold=0.6, backend="reference")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * 2**20  # the dense matrix would take 576 MB


def test_curve_options_and_plot(tmp_path):
    with pytest.raises(ConfigError, match="threshold must lie between"):
        separability_curve(table(), threshold=-3)
    with pytest.raises(ConfigError, match="step must be at least 1"):
        separability_curve(table(), step=0)
    curves = {"a": separability_curve(table(), step=90), "b": separability_curve(table(500), step=900)}
    assert curves["b"].first.tolist() == [500]
    plot_separability(curves, tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes()[:4] == b"\x89PNG"


def test_calibrate_threshold_on_centres():
    centres = table(1500, 32)
    cosines = _cosine.cosine(centres[:, None], centres[None])[np.triu_indices(1500, 1)]
    for fmr in (1e-4, 1e-2, 0.3):
        found = calibrate_threshold(centres, fmr=fmr)
        assert found.pairs == len(cosines)
        assert found.measured <= fmr
        assert found.measured == pytest.approx(np.mean(cosines >= found.threshold), abs=2 / len(cosines))
        assert np.mean(cosines >= found.threshold - 4e-6) > fmr * (1 - 1e-3)


def test_calibrate_threshold_ignores_pairs_of_one_identity():
    centres = table(250, 32)
    labels = np.repeat(np.arange(250), 8)
    images = centres[labels] + np.float32(0.2) * table(2000, 32, seed=9)
    same = labels[:, None] == labels[None]
    cosines = _cosine.cosine(images[:, None], images[None])
    found = calibrate_threshold(images, labels, fmr=1e-3)
    assert found.pairs == (~same).sum() // 2
    assert np.mean(cosines[~same] >= found.threshold) == pytest.approx(1e-3, rel=0.02)
    assert calibrate_threshold(images, fmr=1e-3).threshold > found.threshold + 0.1
    shuffled = np.random.default_rng(0).permutation(2000)
    assert calibrate_threshold(images[shuffled], labels[shuffled], fmr=1e-3).threshold == pytest.approx(
        found.threshold, abs=4e-6
    )


def test_calibrate_threshold_refuses_what_it_cannot_tell():
    message = r"false-match rate of 1e-05 needs 1,000,000 pairs .* found 404,550"
    with pytest.raises(ConfigError, match=message):
        calibrate_threshold(table(900), fmr=1e-5)
    with pytest.raises(ConfigError, match="fmr must lie between 0 and 1"):
        calibrate_threshold(table(900), fmr=0.0)
    with pytest.raises(ConfigError, match=r"labels must be integers \[900\]"):
        calibrate_threshold(table(900), np.zeros(5, int), fmr=0.1)
    with pytest.raises(VectorError, match=r"features: .*zero length"):
        calibrate_threshold(np.zeros((900, 8), np.float32), fmr=0.1)
