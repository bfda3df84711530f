"""Sampled identities: a function of the request alone, separable, exclusive, hashed, never endless."""

import hashlib
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from v2f_kernels import _cosine

import v2f_engine.vectors.sources as sources
from v2f_engine.errors import ConfigError, ModelNotFound, SaturationError, VectorError
from v2f_engine.randomness import Purpose, normals
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.rejection import reject_similar
from v2f_engine.vectors.sampling import sample_identities
from v2f_engine.vectors.separability import separability_curve
from v2f_engine.vectors.sources import GaussianSource, StatisticsSource, find_source
from v2f_engine.vectors.statistics import fit_statistics, save_statistics


def statistics(d=24, **options):
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((4000, d)) * np.arange(1, d + 1) ** -0.4 * 1.7 + 0.2
    return fit_statistics([(0, rows.astype(np.float32))], **options)


def test_the_table_is_greedy_rejection_of_the_stream():
    source = GaussianSource(48)
    table = sample_identities(300, max_cosine=0.35, seed=5, source=source)
    stream = source.candidates(5, 0, 3000)
    kept = reject_similar(stream, 0.35)[:300]
    assert np.array_equal(table.candidate, kept)
    assert np.array_equal(table.vectors, stream[kept])
    assert table.provenance["candidates_drawn"] == kept[-1] + 1
    assert separability_curve(table.vectors, threshold=0.35).share == 1.0


@pytest.mark.parametrize("kind", ["gaussian", "fitted"])
def test_block_sizes_and_n_do_not_matter(kind):
    source = GaussianSource(40) if kind == "gaussian" else statistics(components=20)
    whole = sample_identities(120, max_cosine=0.5, source=source, seed=1)
    for block in (1, 7, 64, 1000):
        part = sample_identities(120, max_cosine=0.5, source=source, seed=1, block=block)
        assert part.table_hash == whole.table_hash
    fewer = sample_identities(40, max_cosine=0.5, source=source, seed=1)
    assert np.array_equal(fewer.vectors, whole.vectors[:40])
    assert not np.array_equal(
        sample_identities(40, max_cosine=0.5, source=source, seed=2).vectors, fewer.vectors
    )


def test_fitted_candidates_are_exact_in_any_block():
    source = StatisticsSource(statistics(), "s")
    whole = source.candidates(9, 0, 10_000)
    for first, count in [(0, 1), (1, 2), (4095, 3), (777, 5000), (9999, 1)]:
        assert np.array_equal(source.candidates(9, first, count), whole[first : first + count])


def test_fitted_candidates_are_exact_sums():
    """The same numbers from Python integers, whose sums cannot round."""
    fitted = statistics(components=9)
    source = StatisticsSource(fitted, "s")
    z = normals(4, Purpose.IDENTITY_VECTOR, np.arange(6), 0, 9).astype(np.float64)
    steps = [[int(v) for v in row] for row in np.rint(z * 2**18)]
    largest = np.frexp(np.abs(fitted.factor).max())[1]
    scaled = np.rint(fitted.factor.astype(np.float64) * 2.0 ** (22 - largest))
    factor = [[int(v) for v in row] for row in scaled]
    found = source.candidates(4, 0, 6)
    for i in range(6):
        for j in range(24):
            total = sum(a * b for a, b in zip(steps[i], factor[j], strict=True))
            assert abs(total) < 2**53
            expected = np.float32(np.float64(total) * 2.0 ** (largest - 40) + fitted.mean[j])
            assert found[i, j] == expected


def test_fitted_candidates_have_the_fitted_moments():
    fitted = statistics()
    drawn = StatisticsSource(fitted, "s").candidates(0, 0, 60_000).astype(np.float64)
    scale = np.sqrt(np.diag(fitted.covariance))
    assert np.all(np.abs(drawn.mean(axis=0) - fitted.mean) < 5 * scale / np.sqrt(60_000))
    assert np.abs(np.cov(drawn.T) - fitted.covariance).max() < 0.03 * np.trace(fitted.covariance) / 24
    plane = StatisticsSource(fitted.with_components(3), "s").candidates(0, 0, 500) - fitted.mean
    assert np.linalg.svd(plane, compute_uv=False)[3] < 1e-3


def test_known_table():
    """The bytes of a table are part of the data format: this hash may never change for format 1."""
    table = sample_identities(64, seed=123, source="gaussian")
    digest = hashlib.sha256(np.ascontiguousarray(table.vectors, "<f4").tobytes()).hexdigest()
    assert digest == "eb776fa829570e8202e52754bea767d52361680cc3d3932c114bd3b6e0face2f"


def test_exclusion_streams_a_gallery(tmp_path):
    source = GaussianSource(40)
    free = sample_identities(100, max_cosine=0.5, source=source)
    real = normals(77, Purpose.EVALUATION, np.arange(500), 0, 40)
    np.save(tmp_path / "a.npy", real[:200].astype(">f4"))
    np.save(tmp_path / "b.npy", real[200:])
    gallery = [tmp_path / "a.npy", tmp_path / "b.npy"]
    table = sample_identities(100, max_cosine=0.5, source=source, exclude=gallery)
    cosines = _cosine.cosine(table.vectors[:, None], real[None])
    assert cosines.max() < 0.5
    assert _cosine.cosine(free.vectors[:, None], real[None]).max() >= 0.5
    allowed = source.candidates(0, 0, 3000)
    far = np.flatnonzero(_cosine.cosine(allowed[:, None], real[None]).max(axis=1) < 0.5)
    kept = far[reject_similar(allowed[far], 0.5)][:100]
    assert np.array_equal(table.candidate, kept)
    assert table.provenance["exclude"] == {
        "cosine": 0.5, "rows": 500, "sha256": hashlib.sha256(real.tobytes()).hexdigest(),
    }  # fmt: skip
    for other in (real, [real[:1], real[1:]]):
        same = sample_identities(100, max_cosine=0.5, source=source, exclude=other, block=64)
        assert same.table_hash == table.table_hash
    stricter = sample_identities(100, max_cosine=0.5, source=source, exclude=real, exclude_cosine=0.4)
    assert _cosine.cosine(stricter.vectors[:, None], real[None]).max() < 0.4


def test_exclusion_refusals(tmp_path):
    np.save(tmp_path / "g.npy", np.ones((3, 64), np.float32))
    with pytest.raises(VectorError, match=r"expected shape \[N, 512\], found \[3, 64\]"):
        sample_identities(10, source="gaussian", exclude=tmp_path / "g.npy")
    bad = normals(0, Purpose.EVALUATION, np.arange(30), 0, 512)
    bad[11] = np.nan
    with pytest.raises(VectorError, match=r"not finite .*; row 11\."):
        sample_identities(10, source="gaussian", exclude=bad)
    with pytest.raises(VectorError, match=r"array 0: expected shape \[N, 512\], found \[10, 64\]"):
        sample_identities(10, source="gaussian", exclude=bad[:10, :64].copy())
    with pytest.raises(ConfigError, match="exclude_cosine was given without a gallery"):
        sample_identities(10, source="gaussian", exclude_cosine=0.3)
    with pytest.raises(ConfigError, match="needs a threshold"):
        sample_identities(10, source="gaussian", exclude=bad, max_cosine=None)


def test_without_rejection_every_candidate_is_kept():
    table = sample_identities(50, max_cosine=None, source=GaussianSource(8))
    assert table.candidate.tolist() == list(range(50))
    assert table.provenance["max_cosine"] is None


def test_requests_that_cannot_be_met_end_with_numbers():
    started = time.perf_counter()
    with pytest.raises(SaturationError, match=r"5,000 identities .* about .* candidates would be needed"):
        sample_identities(5000, source=GaussianSource(32))
    for n, source, options in [
        (1500, GaussianSource(32), {}),  # too small for a pilot: the bound during the run ends it
        (3, GaussianSource(2), {"max_cosine": -0.9}),
        (1500, GaussianSource(64), {"max_candidates": 1600}),
    ]:
        with pytest.raises(SaturationError, match=rf"{n:,} identities .* were kept of [\d,]+ drawn"):
            sample_identities(n, source=source, **options)
    gallery = np.concatenate([np.eye(4), -np.eye(4)]).astype(np.float32)
    with pytest.raises(SaturationError, match="exclude less"):
        sample_identities(10, source=GaussianSource(4), max_cosine=0.99, exclude=gallery, exclude_cosine=0.1)
    assert time.perf_counter() - started < 60


def test_progress_is_reported():
    calls = []
    source = GaussianSource(48)
    sample_identities(300, max_cosine=0.35, source=source, block=200, progress=lambda *a: calls.append(a))
    assert calls[-1][:2] == (300, 300)
    assert [c[2] for c in calls] == sorted(c[2] for c in calls)
    assert len(calls) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "number of identities must be at least 1"),
        ({"n": -3}, "number of identities must be at least 1"),
        ({"n": 5, "max_cosine": 1.5}, "max_cosine must lie between"),
        ({"n": 5, "block": 0}, "block must be at least 1"),
        ({"n": 5, "max_candidates": 4}, "max_candidates must be at least 5"),
        ({"n": 5, "seed": -1}, "seed must be an integer"),
        ({"n": 5, "source": "gausian"}, "did you mean 'gaussian'"),
        ({"n": 5, "backend": "nativ"}, "no backend 'nativ'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises((ConfigError, LookupError), match=message):
        sample_identities(**options)


def test_sources_by_name_and_file(tmp_path, monkeypatch):
    save_statistics(tmp_path / "s.safetensors", statistics())
    from_file = find_source(tmp_path / "s.safetensors")
    assert from_file.name == "s.safetensors"
    assert from_file.sha256 == find_source(statistics()).sha256
    assert find_source(str(tmp_path / "s.safetensors")).sha256 == from_file.sha256
    with pytest.raises(VectorError, match="no such file"):
        find_source(tmp_path / "none.safetensors")
    monkeypatch.setattr(sources, "MINI", tmp_path / "none.safetensors")
    with pytest.raises(ModelNotFound, match="--source gaussian"):
        find_source("mini")
    monkeypatch.setattr(sources, "MINI", tmp_path / "s.safetensors")
    assert find_source("mini").name == "mini"
    with pytest.raises(ConfigError, match="4,294,967,296 candidates"):
        GaussianSource(4).candidates(0, 2**32 - 2, 3)


def test_tables_round_trip_and_changes_are_noticed(tmp_path):
    table = sample_identities(20, source=statistics(), max_cosine=0.6)
    table.save(tmp_path / "t.safetensors")
    again = Identities.load(tmp_path / "t.safetensors")
    assert again.table_hash == table.table_hash
    assert again.describe() == table.describe()
    content = bytearray((tmp_path / "t.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "t.safetensors").write_bytes(content)
    with pytest.raises(VectorError, match="do not match hash"):
        Identities.load(tmp_path / "t.safetensors")
    (tmp_path / "t.safetensors").write_bytes(content[:100])
    with pytest.raises(VectorError, match="not a readable safetensors file"):
        Identities.load(tmp_path / "t.safetensors")
    save_statistics(tmp_path / "s.safetensors", statistics())
    with pytest.raises(VectorError, match="expected format 'v2f-identities/1'"):
        Identities.load(tmp_path / "s.safetensors")


def test_tables_of_given_vectors():
    vectors = GaussianSource().candidates(0, 0, 5)
    table = Identities.from_vectors(vectors.astype(np.float64))
    assert np.array_equal(table.vectors, vectors)
    assert table.candidate.tolist() == [0, 1, 2, 3, 4]
    assert table.describe()["count"] == 5
    with pytest.raises(VectorError, match="row 1 repeats 0"):
        Identities.from_vectors(vectors[[0, 0]])
    with pytest.raises(VectorError, match="expected vectors float32"):
        Identities(vectors, np.arange(4))


def test_sampling_does_not_load_torch():
    code = (
        "import sys; from v2f_engine.vectors.sampling import sample_identities; sample_identities(3);"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
