"""Greedy rejection: one exact answer for every block size and every cut of the stream, ties included."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from v2f_kernels import _cosine, _rows
from v2f_kernels.philox import DRAW
from v2f_kernels.reject_similar import EARLIER, OP, Kept, reference

reject_similar, similar_to_earlier = OP.backend("reference"), EARLIER.backend("reference")
BLOCKS = [1, 2, 3, 7, 16, 31, 64, 100, 333, 1024]


def gaussian(n, d, seed=0):
    return DRAW.backend("reference")("normal", seed, 1, np.arange(n), 0, d)


def clustered(n, d, seed=0):
    centres = gaussian(max(1, n // 8), d, seed + 1)
    pick = np.random.default_rng(seed).integers(0, len(centres), n)
    return (centres[pick] + np.float32(0.7) * gaussian(n, d, seed)).astype(np.float32)


def off_centre(n, d, seed=0):
    """Like PCA vectors: few strong directions and a mean away from the origin."""
    scale = (np.arange(1, d + 1) ** -0.7).astype(np.float32)
    return (gaussian(n, d, seed) * scale + np.float32(0.6 / np.sqrt(d))).astype(np.float32)


def grid(n, d, seed=0):
    """Entries -1, 0, 1: many pairs share one cosine exactly, many rows repeat."""
    rows = np.random.default_rng(seed).integers(-1, 2, (n, d)).astype(np.float32)
    rows[~rows.any(axis=1)] = 1
    return rows


KINDS = {"gaussian": gaussian, "clustered": clustered, "off_centre": off_centre, "grid": grid}


def oracle(vectors, max_cosine):
    """The definition, pair by pair."""
    kept = []
    for i, row in enumerate(vectors):
        if not kept or np.all(_cosine.cosine(row[None], vectors[kept]) < max_cosine):
            kept.append(i)
    return np.array(kept, np.int64)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("d", "max_cosine"), [(512, 0.35), (64, 0.3), (24, 0.5), (7, 0.8)])
def test_every_block_size_gives_the_definition(kind, d, max_cosine):
    vectors = KINDS[kind](333, d)
    expected = oracle(vectors, max_cosine)
    assert len(expected) > 1
    for block in BLOCKS:
        assert np.array_equal(reject_similar(vectors, max_cosine, block=block), expected), block


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(sorted(KINDS)),
    n=st.integers(1, 90),
    d=st.sampled_from([1, 3, 8, 33, 128, 512]),
    seed=st.integers(0, 2**20),
    block=st.integers(1, 100),
    data=st.data(),
)
def test_thresholds_equal_to_a_real_similarity(kind, n, d, seed, block, data):
    vectors = KINDS[kind](n, d, seed)
    if n > 3:
        vectors[n // 2] = vectors[0]  # a duplicate
        vectors[n // 3] = -vectors[1] * np.float32(3)  # an antipode of another length
    i, j = data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, n - 1))
    real = float(np.clip(_cosine.cosine(vectors[i], vectors[j]), -1, 1))
    near = data.draw(st.sampled_from([real, np.nextafter(real, -2), np.nextafter(real, 2)]))
    max_cosine = float(np.clip(near, -1, 1))
    expected = oracle(vectors, max_cosine)
    assert np.array_equal(reject_similar(vectors, max_cosine, block=block), expected)
    cut = data.draw(st.integers(0, n))
    kept = Kept(d, capacity=1)
    parts = [reject_similar(vectors[:cut], max_cosine, kept=kept, block=block)]
    parts.append(cut + reject_similar(vectors[cut:], max_cosine, kept=kept))
    assert np.array_equal(np.concatenate(parts), expected)
    assert np.array_equal(kept.vectors, vectors[expected])


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    n=st.integers(1, 90),
    d=st.sampled_from([3, 33, 512]),
    seed=st.integers(0, 2**20),
    block=st.integers(1, 100),
    data=st.data(),
)
def test_similar_to_earlier_looks_at_rejected_rows_too(kind, n, d, seed, block, data):
    vectors = KINDS[kind](n, d, seed)
    i, j = data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, n - 1))
    max_cosine = float(np.clip(_cosine.cosine(vectors[i], vectors[j]), -1, 1))
    table = _cosine.cosine(vectors[:, None], vectors[None]) >= max_cosine
    expected = np.tril(table, -1).any(axis=1)
    assert np.array_equal(similar_to_earlier(vectors, max_cosine, block=block), expected)


def test_similar_to_earlier_across_many_blocks(monkeypatch):
    monkeypatch.setattr(reference, "KEPT_BLOCK", 50)
    vectors = clustered(700, 32)
    expected = np.tril(_cosine.cosine(vectors[:, None], vectors[None]) >= 0.4, -1).any(axis=1)
    assert 0 < expected.sum() < 700
    for block in (33, 64, 700):
        assert np.array_equal(similar_to_earlier(vectors, 0.4, block=block), expected)


def tie_cases():
    vectors = gaussian(300, 48)
    pairs = np.random.default_rng(1).integers(0, 300, (400, 2))
    real = np.array([float(_cosine.cosine(vectors[i], vectors[j])) for i, j in pairs])
    return vectors, real[(real > 0.2) & (real < 0.5)][:12]


def answers(vectors, thresholds):
    return [reject_similar(vectors, t, block=b).tolist() for t in thresholds for b in (7, 64, 300)]


def test_the_tie_cases_notice_a_bound_that_is_too_small(monkeypatch):
    vectors, thresholds = tie_cases()
    right = [oracle(vectors, t).tolist() for t in thresholds for _ in range(3)]
    assert answers(vectors, thresholds) == right
    monkeypatch.setattr(reference, "BAND", 0.0)
    assert answers(vectors, thresholds) != right


def test_the_cases_notice_another_order():
    vectors = clustered(333, 64)
    backwards = 332 - reject_similar(vectors[::-1], 0.3)[::-1]
    assert not np.array_equal(backwards, reject_similar(vectors, 0.3))


@pytest.mark.parametrize("d", [8, 512, 1024])
def test_the_screen_stays_inside_its_bound(d):
    """Large terms that cancel are the worst case for a float32 sum."""
    x = gaussian(150, d)
    x[::2] *= np.float32(300.0)
    x[1::2, : d // 2] *= np.float32(1e3)
    norms = _rows.lengths("x", x)
    screen = _rows.unit(x, norms).astype(np.float32) @ x.T
    exact = _cosine.cosine(x[:, None], x[None])
    assert np.all(np.abs(screen - exact * norms) < 0.7 * _rows.BAND * norms)


def test_state_is_saved_mapped_and_extended(tmp_path):
    vectors = clustered(600, 32)
    whole = reject_similar(vectors, 0.4)
    kept = Kept(32)
    first = reject_similar(vectors[:350], 0.4, kept=kept)
    kept.save(tmp_path / "kept.npy")
    again = Kept.load(tmp_path / "kept.npy")
    assert isinstance(again.vectors, np.memmap)
    second = 350 + reject_similar(vectors[350:], 0.4, kept=again)
    assert np.array_equal(np.concatenate([first, second]), whole)
    assert np.array_equal(again.vectors, vectors[whole])
    assert np.array_equal(again.norms, _cosine.norm(vectors[whole]))
    again.save(tmp_path / "more.npy")
    assert np.array_equal(np.load(tmp_path / "more.npy"), vectors[whole])


def test_torch_tensors_and_memory_maps(tmp_path):
    vectors = gaussian(200, 64)
    expected = reject_similar(vectors, 0.25)
    assert np.array_equal(reject_similar(torch.from_numpy(vectors), 0.25), expected)
    np.save(tmp_path / "v.npy", vectors)
    assert np.array_equal(reject_similar(np.load(tmp_path / "v.npy", mmap_mode="r"), 0.25), expected)


def test_lengths_do_not_matter():
    vectors = gaussian(300, 32)
    scaled = vectors * (2.0 ** np.random.default_rng(0).integers(-18, 18, (300, 1))).astype(np.float32)
    assert np.array_equal(reject_similar(scaled, 0.35), reject_similar(vectors, 0.35))


def test_extreme_thresholds():
    vectors = gaussian(50, 16)
    vectors[20] = vectors[3]
    assert reject_similar(vectors, -1.0).tolist() == [0]
    assert len(reject_similar(vectors, 1.0)) in (49, 50)  # the duplicate's cosine is 1 up to one rounding
    assert reject_similar(vectors[:0], 0.3).shape == (0,)


@pytest.mark.parametrize(
    ("vectors", "max_cosine", "message"),
    [
        (np.zeros((3, 8), np.float32), 0.3, r"3 rows have no usable direction; first: 0 \(length 0\), 1"),
        (np.full((2, 8), np.nan, np.float32), 0.3, r"first: 0 \(length nan\)"),
        (np.full((2, 8), 1e30, np.float32), 0.3, "no usable direction"),
        (np.ones((2, 8)), 0.3, "must be float32"),
        (np.ones(8, np.float32), 0.3, "must be float32"),
        (np.ones((2, 2000), np.float32), 0.3, "D <= 1024"),
        (np.ones((2, 8), np.float32), 1.5, r"must lie in \[-1, 1\]"),
        (np.ones((2, 8), np.float32), float("nan"), r"must lie in \[-1, 1\]"),
    ],
)
def test_refusals(vectors, max_cosine, message):
    with pytest.raises(ValueError, match=message):
        reject_similar(vectors, max_cosine)


def test_refusals_of_state_and_block():
    with pytest.raises(ValueError, match="must have the 8 entries"):
        reject_similar(gaussian(3, 16), 0.3, kept=Kept(8))
    with pytest.raises(ValueError, match="block must be at least 1"):
        reject_similar(gaussian(3, 16), 0.3, block=0)


def test_bad_row_number_counts_from_the_start():
    vectors = gaussian(2500, 8)
    vectors[2222] = 0
    with pytest.raises(ValueError, match=r"first: 2222 \(length 0\)"):
        reject_similar(vectors, 0.9)
