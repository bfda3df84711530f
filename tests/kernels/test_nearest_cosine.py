"""Nearest neighbour by cosine: exact in float64, ties to the lower index, however the gallery is cut."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from v2f_kernels import _cosine
from v2f_kernels.nearest_cosine import OP, reference
from v2f_kernels.philox import DRAW

nearest_cosine = OP.backend("reference")


def gaussian(n, d, seed=0):
    return DRAW.backend("reference")("normal", seed, 1, np.arange(n), 0, d)


def grid(n, d, seed=0):
    rows = np.random.default_rng(seed).integers(-1, 2, (n, d)).astype(np.float32)
    rows[~rows.any(axis=1)] = 1
    return rows


def oracle(queries, gallery):
    table = _cosine.cosine(queries[:, None], gallery[None])
    return table.max(axis=1), table.argmax(axis=1)


@settings(max_examples=80, deadline=None)
@given(
    make=st.sampled_from([gaussian, grid]),
    q=st.integers(1, 40),
    g=st.integers(1, 80),
    d=st.sampled_from([1, 4, 33, 512]),
    seed=st.integers(0, 2**20),
    block=st.integers(1, 90),
)
def test_against_the_full_table(make, q, g, d, seed, block):
    queries, gallery = make(q, d, seed), make(g, d, seed + 1)
    cosine, index = nearest_cosine(queries, gallery, block=block)
    expected, where = oracle(queries, gallery)
    assert np.array_equal(cosine, expected)
    assert np.array_equal(index, where)


def near_ties():
    """Every query has 200 gallery rows whose cosines differ by less than float32 resolves."""
    queries = gaussian(20, 512)
    noise = gaussian(200, 512, 1)
    gallery = (queries[:, None] + np.float32(0.3) * noise[None]).reshape(-1, 512)
    gallery = np.repeat(gallery, 2, axis=0) * np.tile([[1], [3]], (4000, 1)).astype(np.float32)
    return queries, np.ascontiguousarray(gallery)


def test_near_ties_need_the_float64_decision(monkeypatch):
    queries, gallery = near_ties()
    expected, where = oracle(queries, gallery[:2000]), oracle(queries, gallery)
    for block in (1, 17, 512, 8000):
        if block == 1:
            cosine, index = nearest_cosine(queries, gallery[:2000], block=block)
            assert np.array_equal(index, expected[1])
            continue
        cosine, index = nearest_cosine(queries, gallery, block=block)
        assert np.array_equal(cosine, where[0])
        assert np.array_equal(index, where[1])
    monkeypatch.setattr(reference, "BAND", 0.0)
    assert not np.array_equal(nearest_cosine(queries, gallery)[1], where[1])


def test_parts_merge_to_the_whole():
    queries, gallery = grid(50, 12), grid(900, 12, 5)
    cosine, index = nearest_cosine(queries, gallery)
    best, where = np.full(50, -np.inf), np.zeros(50, np.int64)
    for start in range(0, 900, 250):
        c, i = nearest_cosine(queries, gallery[start : start + 250])
        where = np.where(c > best, start + i, where)
        best = np.maximum(best, c)
    assert np.array_equal(best, cosine)
    assert np.array_equal(where, index)


def test_torch_and_memory_map(tmp_path):
    queries, gallery = gaussian(9, 64), gaussian(70, 64, 3)
    np.save(tmp_path / "g.npy", gallery)
    expected = nearest_cosine(queries, gallery)
    for q, g in [
        (torch.from_numpy(queries), torch.from_numpy(gallery)),
        (queries, np.load(tmp_path / "g.npy", mmap_mode="r")),
    ]:
        for found, wanted in zip(nearest_cosine(q, g), expected, strict=True):
            assert np.array_equal(found, wanted)


@pytest.mark.parametrize(
    ("queries", "gallery", "message"),
    [
        (gaussian(2, 8), gaussian(0, 8), r"gallery must be \[G >= 1, 8\]"),
        (gaussian(2, 8), gaussian(2, 9), r"gallery must be \[G >= 1, 8\]"),
        (gaussian(2, 8).astype(np.float64), gaussian(2, 8), "queries must be float32"),
        (gaussian(2, 8), np.zeros((3, 8), np.float32), "gallery: 3 rows have no usable direction"),
        (np.zeros((1, 8), np.float32), gaussian(2, 8), "queries: 1 rows have no usable direction"),
    ],
)
def test_refusals(queries, gallery, message):
    with pytest.raises(ValueError, match=message):
        nearest_cosine(queries, gallery)


def test_no_queries():
    cosine, index = nearest_cosine(gaussian(0, 8), gaussian(3, 8))
    assert cosine.shape == index.shape == (0,)
