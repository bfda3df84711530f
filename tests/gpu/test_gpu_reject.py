"""CUDA rejection and nearest neighbour on hardware, against the references."""

import numpy as np
import pytest
import torch
from v2f_kernels import _cosine
from v2f_kernels.nearest_cosine import OP as NEAREST
from v2f_kernels.reject_similar import OP, Kept

pytestmark = pytest.mark.gpu

BLOCKS = [1, 31, 32, 127, 128, 129, 255, 256, 1000, 4096, None]


def best_cpu(op):
    try:
        return op.backend("native")
    except ImportError:
        return op.backend("reference")


def gaussian(n, d, rng):
    return rng.standard_normal((n, d), dtype=np.float32)


def clustered(n, d, rng):
    centres = gaussian(max(1, n // 8), d, rng)
    return centres[rng.integers(0, len(centres), n)] + np.float32(0.7) * gaussian(n, d, rng)


def off_centre(n, d, rng):
    scale = (np.arange(1, d + 1) ** -0.7).astype(np.float32)
    return gaussian(n, d, rng) * scale + np.float32(0.6 / np.sqrt(d))


def grid(n, d, rng):
    rows = rng.integers(-1, 2, (n, d)).astype(np.float32)
    rows[~rows.any(axis=1)] = 1
    return rows


KINDS = {f.__name__: f for f in (gaussian, clustered, off_centre, grid)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("d", "t"), [(512, 0.3), (128, 0.3), (64, 0.35), (1024, 0.1), (7, 0.8)])
def test_every_block_size_gives_the_reference(kind, d, t):
    vectors = KINDS[kind](3000, d, np.random.default_rng(d))
    expected = OP.backend("reference")(vectors, t)
    on_gpu = torch.from_numpy(vectors).cuda()
    for block in BLOCKS if d == 512 else (127, 256, None):
        found = OP.backend("cupy")(on_gpu, t, block=block)
        assert found.is_cuda
        assert np.array_equal(found.cpu().numpy(), expected), block


def test_thresholds_equal_to_a_real_similarity():
    rng = np.random.default_rng(1)
    vectors = gaussian(800, 512, rng)
    vectors[400], vectors[500] = vectors[0], -3 * vectors[1]
    on_gpu = torch.from_numpy(vectors).cuda()
    for i, j in rng.integers(0, 800, (40, 2)):
        t = float(np.clip(_cosine.cosine(vectors[i], vectors[j]), -1, 1))
        found = OP.backend("cupy")(on_gpu, t)
        assert np.array_equal(found.cpu().numpy(), OP.backend("reference")(vectors, t)), (i, j)


def test_the_answer_repeats_and_keeps_torchs_stream():
    vectors = torch.randn(20_000, 256, device="cuda", generator=torch.Generator("cuda").manual_seed(3))
    first = OP.backend("cupy")(vectors, 0.25)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        again = [OP.backend("cupy")(vectors, 0.25) for _ in range(3)]
    torch.cuda.synchronize()
    assert all(torch.equal(first, a) for a in again)


def test_a_stream_of_calls_on_one_state():
    vectors = clustered(5000, 128, np.random.default_rng(2))
    expected = OP.backend("reference")(vectors, 0.4)
    kept, found = Kept(128), []
    for start, name in zip(
        range(0, 5000, 1000), ["cupy", "reference", "cupy", "cupy", "reference"], strict=True
    ):
        found.append(start + OP.backend(name)(vectors[start : start + 1000], 0.4, kept=kept))
    assert np.array_equal(np.concatenate(found), expected)
    assert np.array_equal(kept.vectors, vectors[expected])


def test_two_hundred_thousand_equal_the_cpu():
    vectors = np.random.default_rng(5).standard_normal((200_000, 192), dtype=np.float32)
    expected = best_cpu(OP)(vectors, 0.3)
    assert 1000 < len(expected) < 200_000
    found = OP.backend("cupy")(torch.from_numpy(vectors).cuda(), 0.3)
    assert np.array_equal(found.cpu().numpy(), expected)


@pytest.mark.parametrize("kind", ["gaussian", "grid"])
@pytest.mark.parametrize("d", [512, 33])
def test_nearest_is_the_reference(kind, d):
    rng = np.random.default_rng(d)
    queries, gallery = KINDS[kind](700, d, rng), KINDS[kind](9000, d, rng)
    gallery[5000:6000] = gallery[:1000]
    expected = NEAREST.backend("reference")(queries, gallery)
    for block in (100, 4096, None):
        cosine, index = NEAREST.backend("cupy")(torch.from_numpy(queries).cuda(), gallery, block=block)
        assert np.array_equal(cosine.cpu().numpy(), expected[0])
        assert np.array_equal(index.cpu().numpy(), expected[1])


def test_bad_rows_are_refused_and_leave_no_trace():
    kept = Kept(64)
    good = gaussian(100, 64, np.random.default_rng(0))
    OP.backend("cupy")(good, 0.5, kept=kept)
    bad = good.copy()
    bad[7] = np.nan
    before = len(kept)
    with pytest.raises(ValueError, match="1 rows have no usable direction; first: 7"):
        OP.backend("cupy")(bad, 0.5, kept=kept)
    assert len(kept) == before
    more = gaussian(100, 64, np.random.default_rng(1))
    OP.backend("cupy")(more, 0.5, kept=kept)
    whole = OP.backend("reference")(np.concatenate([good, more]), 0.5)
    assert len(kept) == len(whole)
