"""`native` nearest neighbour: the reference's answer, ties and near ties included."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from v2f_kernels.nearest_cosine import OP

_C = pytest.importorskip("v2f_kernels._C", reason="the compiled extension is not built")

from v2f_kernels import _native  # noqa: E402

reference, nearest_cosine = OP.backend("reference"), OP.backend("native")


def gaussian(n, d, seed):
    return np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)


def grid(n, d, seed):
    rows = np.random.default_rng(seed).integers(-1, 2, (n, d)).astype(np.float32)
    rows[~rows.any(axis=1)] = 1
    return rows


def same(found, expected):
    return all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@settings(max_examples=120, deadline=None)
@given(
    make=st.sampled_from([gaussian, grid]),
    q=st.integers(0, 40),
    g=st.integers(1, 150),
    d=st.sampled_from([1, 4, 33, 512]),
    seed=st.integers(0, 2**20),
    block=st.integers(1, 160),
    isa=st.sampled_from(_C.instruction_sets()),
)
def test_against_the_reference(make, q, g, d, seed, block, isa):
    queries, gallery = make(q, d, seed), make(g, d, seed + 1)
    found = nearest_cosine(queries, gallery, block=block, threads=1, isa=isa)
    assert same(found, reference(queries, gallery))


def near_ties():
    """Each query has 200 rows, twice each, whose cosines differ by less than float32 resolves."""
    queries, noise = gaussian(20, 512, 0), gaussian(200, 512, 1)
    gallery = (queries[:, None] + np.float32(0.3) * noise[None]).reshape(-1, 512)
    gallery = np.repeat(gallery, 2, axis=0) * np.tile([[1], [3]], (4000, 1)).astype(np.float32)
    return queries, np.ascontiguousarray(gallery)


def test_near_ties_and_the_lists_that_overflow(monkeypatch):
    queries, gallery = near_ties()
    expected = reference(queries, gallery)
    for block in (100, 4096, 8000):
        assert same(nearest_cosine(queries, gallery, block=block, threads=1), expected)
    everywhere = np.repeat(gaussian(1, 512, 4), 3000, axis=0)  # 3,000 equal rows: the first one wins
    cosine, index = nearest_cosine(queries, everywhere, threads=1)
    assert index.tolist() == [0] * 20
    assert np.array_equal(cosine, reference(queries, everywhere)[0])
    monkeypatch.setattr(_native, "BOUND_SCALE", 0.0)
    assert not same(nearest_cosine(queries, gallery, threads=1), expected)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_cut_the_gallery_when_queries_are_few(threads):
    gallery = np.concatenate(
        [gaussian(9000, 32, 0), gaussian(9000, 32, 0)]
    )  # every row twice: ties everywhere
    queries = gaussian(3, 32, 7)
    assert same(nearest_cosine(queries, gallery, threads=threads), reference(queries, gallery))


def test_more_queries_than_a_block(monkeypatch):
    monkeypatch.setattr("v2f_kernels.nearest_cosine.native.QUERIES", 100)
    queries, gallery = gaussian(333, 48, 0), gaussian(500, 48, 1)
    assert same(nearest_cosine(queries, gallery, block=170), reference(queries, gallery))


@pytest.mark.parametrize(
    ("queries", "gallery", "message"),
    [
        (gaussian(2, 8, 0), gaussian(0, 8, 0), r"gallery must be \[G >= 1, 8\]"),
        (gaussian(2, 8, 0), gaussian(2, 9, 0), r"gallery must be \[G >= 1, 8\]"),
        (gaussian(2, 8, 0).astype(np.float64), gaussian(2, 8, 0), "queries must be float32"),
        (gaussian(2, 8, 0), np.zeros((3, 8), np.float32), "gallery: 3 rows have no usable direction"),
        (np.zeros((1, 8), np.float32), gaussian(2, 8, 0), "queries: 1 rows have no usable direction"),
    ],
)
def test_refusals(queries, gallery, message):
    with pytest.raises(ValueError, match=message):
        nearest_cosine(queries, gallery)
