"""Fitted statistics: equal to NumPy on the whole set however it is cut; files that are checked when read."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2f_engine.errors import ConfigError, OutputFolderError, VectorError
from v2f_engine.vectors.files import read_tensors, write_tensors
from v2f_engine.vectors.statistics import (
    FORMAT,
    Moments,
    fit_files,
    fit_statistics,
    load_statistics,
    save_statistics,
)
from v2f_engine.vectors.streams import parts_of, stream


def features(n=3000, d=24, seed=0):
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((d, d)) * np.arange(1, d + 1) ** -0.5
    return (rng.standard_normal((n, d)) @ mix + 3 * rng.standard_normal(d)).astype(np.float32)


def fit(rows, **options):
    return fit_statistics([(0, rows)], **options)


def test_stream_from_shards_equals_numpy(tmp_path):
    rows = features()
    np.save(tmp_path / "a.npy", rows[:1100])
    np.save(tmp_path / "b.npy", rows[1100:].astype(">f4"))
    parts = parts_of([tmp_path / "a.npy", tmp_path / "b.npy"], dimension=None)
    found = fit_statistics(stream(parts, block=257))
    wide = rows.astype(np.float64)
    assert found.count == 3000
    assert np.allclose(found.mean, wide.mean(axis=0), rtol=1e-13)
    assert np.allclose(found.covariance, np.cov(wide.T), rtol=1e-11, atol=1e-13)
    assert np.array_equal(found.covariance, found.covariance.T)


def test_fit_files(tmp_path):
    rows = features()
    np.save(tmp_path / "a.npy", rows[:1100])
    np.save(tmp_path / "b.npy", rows[1100:])
    both = fit_files([tmp_path / "a.npy", tmp_path / "b.npy"], dimension=24, components=5, shrinkage="oas")
    assert both.origin == "a.npy, b.npy"
    assert both.components == 5
    assert np.allclose(both.covariance, fit(rows, shrinkage="oas").covariance, rtol=1e-11)
    with pytest.raises(VectorError, match=r"a\.npy: expected shape \[N, 512\], found \[1100, 24\]"):
        fit_files(tmp_path / "a.npy")
    rows[2000, 3] = np.inf
    np.save(tmp_path / "b.npy", rows[1100:])
    with pytest.raises(VectorError, match=r"b\.npy: .*not finite .*; row 900\."):
        fit_files([tmp_path / "a.npy", tmp_path / "b.npy"], dimension=24)


def test_a_folder_of_shards_is_one_set_in_order_of_names(tmp_path):
    shards = tmp_path / "shards"
    shards.mkdir()
    features = np.random.default_rng(4).standard_normal((900, 16)).astype(np.float32)
    for k, rows in enumerate((features[:200], features[200:700], features[700:])):
        np.save(shards / f"{k:03d}.npy", rows)
    np.save(tmp_path / "more.npy", features[:50])
    assert [name for name, _ in parts_of(shards, dimension=16)] == [
        str(shards / f"{k:03d}.npy") for k in range(3)
    ]
    seen = []
    found = fit_files(shards, dimension=16, progress=lambda done, total: seen.append((done, total)))
    assert np.allclose(found.mean, features.mean(axis=0), atol=1e-6)
    assert found.count == 900
    assert seen == [(0, 900), (200, 900), (700, 900)]
    assert fit_files([shards, tmp_path / "more.npy"], dimension=16).count == 950
    (tmp_path / "empty").mkdir()
    with pytest.raises(VectorError, match=r"expected \.npy files in this folder"):
        fit_files(tmp_path / "empty")


def test_half_precision_files(tmp_path):
    rows = features().astype(np.float16)
    np.save(tmp_path / "h.npy", rows)
    found = fit_statistics(stream(parts_of(tmp_path / "h.npy", dimension=None)))
    assert np.allclose(found.covariance, np.cov(rows.astype(np.float64).T), rtol=1e-11, atol=1e-13)


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 300), max_size=6), shift=st.sampled_from([0.0, 1e4]))
def test_moments_merge_exactly(cuts, shift):
    rows = features(300, 5).astype(np.float64) + shift
    edges = [0, *sorted(cuts), 300]
    merged = Moments(5)
    for start, end in pairwise(edges):
        part = Moments(5)
        if end > start:
            part.add(rows[start:end])
        merged.merge(part)
    assert merged.count == 300
    assert np.allclose(merged.covariance(), np.cov(rows.T), rtol=1e-9)


def test_factor_reproduces_the_covariance_and_its_strongest_part():
    whole = fit(features())
    factor = whole.factor.astype(np.float64)
    assert np.allclose(factor @ factor.T, whole.covariance, atol=1e-5 * np.trace(whole.covariance))
    few = whole.with_components(6)
    assert few.components == 6
    assert np.array_equal(few.factor, whole.factor[:, :6])
    values = np.linalg.eigvalsh(whole.covariance)[::-1]
    assert np.allclose((few.factor.astype(np.float64) ** 2).sum(axis=0), values[:6], rtol=1e-5)
    assert np.array_equal(fit(features(), components=6).factor, few.factor)


def test_what_is_sampled_has_no_more_dimensions_than_components():
    whole = fit(features())
    for kept in (1, 2, 6, whole.components):
        few = whole.with_components(kept)
        values = np.linalg.eigvalsh(whole.covariance)[::-1][:kept]
        assert few.sampled_dimension == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-4)
        assert few.sampled_dimension <= kept * (1 + 1e-6)
    assert whole.components_told == f"{whole.components} components"
    assert whole.with_components(2).components_told.startswith(
        f"2 of {whole.components} components (effective"
    )


def test_effective_dimension():
    rng = np.random.default_rng(0)
    isotropic = fit(rng.standard_normal((20_000, 16)))
    assert 15.9 < isotropic.effective_dimension <= 16
    flat = rng.standard_normal((20_000, 16)) * np.array([1.0] * 4 + [1e-3] * 12)
    assert 3.9 < fit(flat).effective_dimension < 4.01
    away = fit(rng.standard_normal((20_000, 16)) + 1)
    assert away.effective_dimension > 15.9
    unit = rng.standard_normal((4000, 16)) + 1
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[np.triu_indices(4000, 1)]
    assert abs(away.cosine_dimension * np.mean(cosines**2) - 1) < 0.1


def test_shrinkage():
    rows = features(60, 24)
    plain, half, full = (fit(rows, shrinkage=share).covariance for share in (0, 0.5, 1.0))
    assert np.allclose(full, np.trace(plain) / 24 * np.eye(24))
    assert np.allclose(half, (plain + full) / 2)
    few, many = fit(rows, shrinkage="oas"), fit(features(20_000), shrinkage="oas")
    assert 0.02 < few.shrinkage < 1
    assert many.shrinkage < 0.002
    truth = np.cov(features(200_000).T)  # the same distribution
    assert np.linalg.norm(few.covariance - truth) < np.linalg.norm(plain - truth)


def test_impossible_fits():
    with pytest.raises(VectorError, match="at least 2 rows"):
        fit(features(1))
    with pytest.raises(VectorError, match="at least 2 rows"):
        fit_statistics([])
    with pytest.raises(VectorError, match="all 5 rows are equal"):
        fit(np.repeat(features(1), 5, axis=0))
    with pytest.raises(ConfigError, match="components must lie between 1 and 24, found 25"):
        fit(features(), components=25)
    with pytest.raises(ConfigError, match="shrinkage must lie between 0 and 1"):
        fit(features(), shrinkage=1.5)
    with pytest.raises(ConfigError, match="did you mean 'oas'"):
        fit(features(), shrinkage="oasis")


def test_files_round_trip(tmp_path):
    found = fit(features(), components=7, shrinkage=0.1, origin="test features")
    save_statistics(tmp_path / "s.safetensors", found)
    again = load_statistics(tmp_path / "s.safetensors")
    assert again.sha256 == found.sha256
    assert (again.count, again.shrinkage, again.origin, again.components) == (3000, 0.1, "test features", 7)
    for name in ("mean", "covariance", "factor"):
        assert np.array_equal(getattr(again, name), getattr(found, name))
    assert [p.name for p in tmp_path.iterdir()] == ["s.safetensors"]


def test_broken_files(tmp_path):
    path = tmp_path / "s.safetensors"
    save_statistics(path, fit(features()))
    whole = path.read_bytes()
    with pytest.raises(VectorError, match="no such file"):
        load_statistics(tmp_path / "other.safetensors")
    for content in (b"", whole[:-5], whole[: len(whole) // 2], b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(VectorError, match="not a readable safetensors file"):
            load_statistics(path)
    flipped = bytearray(whole)
    flipped[-3] ^= 1  # in the last tensor's bytes
    path.write_bytes(flipped)
    with pytest.raises(VectorError, match="do not match their sha256"):
        load_statistics(path)
    path.write_bytes(whole)
    tensors, metadata = read_tensors(path, FORMAT)
    for spoil, message in [
        ({"factor": np.full((24, 24), np.nan, np.float32)}, "not finite"),
        ({"mean": np.zeros(23)}, "do not fit"),
        *(
            ({name: tensors[name] * 2}, "do not match their sha256")
            for name in ("mean", "covariance", "factor")
        ),
    ]:
        write_tensors(path, tensors | spoil, metadata)
        with pytest.raises(VectorError, match=message):
            load_statistics(path)
    write_tensors(path, tensors, {"format": "v2f-identities/1"})
    with pytest.raises(VectorError, match="expected format 'v2f-statistics/1', found 'v2f-identities/1'"):
        load_statistics(path)
    write_tensors(path, tensors, {"format": FORMAT, "about": json.dumps({"count": 3})})
    with pytest.raises(VectorError, match="incomplete"):
        load_statistics(path)


def test_unwritable_folder(tmp_path):
    with pytest.raises(OutputFolderError, match="cannot be written"):
        save_statistics(tmp_path / "none" / "s.safetensors", fit(features()))
