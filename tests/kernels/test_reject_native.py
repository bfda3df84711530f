"""`native` rejection: the reference's answer for every instruction set, block size, thread count and cut."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from v2f_kernels import _cosine
from v2f_kernels.reject_similar import EARLIER, OP, Kept

_C = pytest.importorskip("v2f_kernels._C", reason="the compiled extension is not built")

from v2f_kernels import _native  # noqa: E402
from v2f_kernels.reject_similar import native  # noqa: E402
from v2f_kernels.reject_similar.panels import Chunk, Panels  # noqa: E402

reference = OP.backend("reference")
reject_similar, similar_to_earlier = OP.backend("native"), EARLIER.backend("native")
SETS = _C.instruction_sets()
BLOCKS = [1, 2, 3, 7, 16, 31, 64, 100, 333, 1024, 5000]


def gaussian(n, d, rng):
    return rng.standard_normal((n, d), dtype=np.float32)


def clustered(n, d, rng):
    centres = gaussian(max(1, n // 8), d, rng)
    return centres[rng.integers(0, len(centres), n)] + np.float32(0.7) * gaussian(n, d, rng)


def off_centre(n, d, rng):
    """Like PCA vectors: few strong directions and a mean away from the origin."""
    scale = (np.arange(1, d + 1) ** -0.7).astype(np.float32)
    return gaussian(n, d, rng) * scale + np.float32(0.6 / np.sqrt(d))


def grid(n, d, rng):
    """Entries -1, 0, 1: many pairs share one cosine exactly, many rows repeat."""
    rows = rng.integers(-1, 2, (n, d)).astype(np.float32)
    rows[~rows.any(axis=1)] = 1
    return rows


def spiky(n, d, rng):
    """One huge entry a row: int8 keeps almost nothing of the others, and the bounds are wide."""
    rows = gaussian(n, d, rng)
    rows[np.arange(n), rng.integers(0, min(d, 3), n)] *= np.float32(200)
    return rows


KINDS = {f.__name__: f for f in (gaussian, clustered, off_centre, grid, spiky)}


def sample(kind, n, d, seed=0):
    return KINDS[kind](n, d, np.random.default_rng(seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("d", "max_cosine"), [(512, 0.35), (64, 0.3), (24, 0.5), (7, 0.8)])
def test_every_block_size_and_instruction_set(kind, d, max_cosine):
    vectors = sample(kind, 333, d)
    expected = reference(vectors, max_cosine)
    for isa in SETS:
        for block in BLOCKS if isa != "scalar" else (1, 100):
            found = reject_similar(vectors, max_cosine, block=block, threads=1, isa=isa)
            assert np.array_equal(found, expected), (isa, block)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(sorted(KINDS)),
    n=st.integers(1, 90),
    d=st.sampled_from([1, 3, 8, 33, 128, 512]),
    seed=st.integers(0, 2**20),
    block=st.integers(1, 100),
    isa=st.sampled_from(SETS),
    data=st.data(),
)
def test_thresholds_equal_to_a_real_similarity(kind, n, d, seed, block, isa, data):
    vectors = sample(kind, n, d, seed)
    if n > 3:
        vectors[n // 2] = vectors[0]  # a duplicate
        vectors[n // 3] = -vectors[1] * np.float32(3)  # an antipode of another length
    i, j = data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, n - 1))
    real = float(np.clip(_cosine.cosine(vectors[i], vectors[j]), -1, 1))
    near = data.draw(st.sampled_from([real, np.nextafter(real, -2), np.nextafter(real, 2)]))
    max_cosine = float(np.clip(near, -1, 1))
    expected = reference(vectors, max_cosine)
    how = {"block": block, "isa": isa, "threads": 1}
    assert np.array_equal(reject_similar(vectors, max_cosine, **how), expected)

    cut = data.draw(st.integers(0, n))
    kept = Kept(d, capacity=1)
    parts = [reject_similar(vectors[:cut], max_cosine, kept=kept, **how)]
    parts.append(cut + reject_similar(vectors[cut:], max_cosine, kept=kept, threads=1))
    assert np.array_equal(np.concatenate(parts), expected)
    assert np.array_equal(kept.vectors, vectors[expected])
    assert np.array_equal(kept.norms, _cosine.norm(vectors[expected]))

    earlier = EARLIER.backend("reference")(vectors, max_cosine)
    assert np.array_equal(similar_to_earlier(vectors, max_cosine, **how), earlier)


@pytest.mark.parametrize("kind", ["gaussian", "clustered", "off_centre"])
def test_thread_counts(kind):
    vectors = sample(kind, 2500, 48, 5)
    expected = reference(vectors, 0.45)
    for threads in (1, 2, 3, 8):
        assert np.array_equal(reject_similar(vectors, 0.45, threads=threads, block=700), expected)


def test_strips_of_a_large_block(monkeypatch):
    vectors = sample("clustered", 900, 32)
    expected = reference(vectors, 0.4)
    for strip in (1, 33, 250):
        monkeypatch.setattr(native, "STRIP", strip)
        assert np.array_equal(reject_similar(vectors, 0.4, block=600, threads=1), expected)


def test_backends_may_take_turns_on_one_state():
    vectors = sample("clustered", 900, 40)
    kept = Kept(40)
    turns = [OP.backend(name) for name in ("native", "reference", "native", "reference", "native")]
    parts = [
        start + reject(vectors[start : start + 180], 0.4, kept=kept)
        for start, reject in zip(range(0, 900, 180), turns, strict=True)
    ]
    assert np.array_equal(np.concatenate(parts), reference(vectors, 0.4))


@pytest.mark.parametrize(
    ("wrong", "found"),
    [(object(), "object"), (Panels(40, [Chunk.reserve(40, 32, first=10)]), "panels of 10")],
    ids=["no panels", "too many"],
)
def test_panels_of_another_state_are_refused(wrong, found):
    kept = Kept(40, base=sample("clustered", 9, 40))
    kept.derived["native"] = wrong
    with pytest.raises(ValueError, match=f"at most the 9 vectors kept, found {found}; .* it is made again"):
        reject_similar(sample("clustered", 5, 40), 0.4, kept=kept)


def tie_cases():
    vectors = sample("gaussian", 300, 48)
    pairs = np.random.default_rng(1).integers(0, 300, (400, 2))
    real = np.array([float(_cosine.cosine(vectors[i], vectors[j])) for i, j in pairs])
    return vectors, real[(real > 0.2) & (real < 0.5)][:12]


def answers(vectors, thresholds):
    return [reject_similar(vectors, t, block=b, threads=1).tolist() for t in thresholds for b in (7, 64, 300)]


def test_a_smaller_error_bound_is_noticed(monkeypatch):
    vectors, thresholds = tie_cases()
    right = [reference(vectors, t).tolist() for t in thresholds for _ in range(3)]
    assert answers(vectors, thresholds) == right
    monkeypatch.setattr(_native, "BOUND_SCALE", 0.0)
    assert answers(vectors, thresholds) != right


def test_another_order_is_noticed(monkeypatch):
    vectors = sample("clustered", 600, 64)
    expected = reference(vectors, 0.3)
    monkeypatch.setattr(native, "STRIP", 100)
    strips = native._strips
    assert np.array_equal(reject_similar(vectors, 0.3, threads=1), expected)
    monkeypatch.setattr(native, "_strips", lambda n: reversed(list(strips(n))))
    assert not np.array_equal(np.sort(reject_similar(vectors, 0.3, threads=1)), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_the_error_bound_holds_and_is_not_wasteful(kind):
    """Reads the panels back and measures what the bound claims, with exact integer dot products."""
    d = 64
    vectors = sample(kind, 96, d, 3)
    chunk = Chunk.reserve(d, 96)
    chunk.write(vectors, 1)
    q = chunk.panels.transpose(0, 2, 1, 3).reshape(-1, d)[:96].astype(np.int64) - 128
    scale, error, norm = chunk.numbers[:, :96]
    assert np.array_equal(norm, _cosine.norm(vectors))
    assert np.abs(q).max(axis=1).tolist() == [127] * 96
    unit = vectors.astype(np.longdouble) / np.sqrt((vectors.astype(np.longdouble) ** 2).sum(1, keepdims=True))
    residual = np.sqrt(((q * scale[:, None] - unit) ** 2).sum(axis=1)).astype(np.float64)
    assert np.all(residual <= error)
    assert np.all(error <= residual * 1.0001 + 2e-6)
    estimate = (q @ q.T) * np.outer(scale, scale)
    bound = error[:, None] + error + np.outer(error, error)
    assert np.all(np.abs(estimate - _cosine.cosine(vectors[:, None], vectors[None])) <= bound + 1e-12)


def test_the_compiled_cosine_is_the_definition():
    rng = np.random.default_rng(0)
    for d in (1, 2, 3, 5, 64, 100, 511, 512, 513, 1024):
        x, y = gaussian(50, d, rng), gaussian(50, d, rng)
        out = np.empty(50)
        _C.cosine_rows(x, y, out)
        assert np.array_equal(out, _cosine.cosine(x, y)), d
        norms = np.empty(50)
        _C.norms(x, norms, 1)
        assert np.array_equal(norms, _cosine.norm(x)), d


def test_progress_ends_at_the_whole():
    vectors = sample("gaussian", 1000, 64)
    seen = []
    kept = reject_similar(
        vectors, 0.4, block=300, progress=lambda done, total, n: seen.append((done, total, n))
    )
    assert [s[0] for s in seen] == [300, 600, 900, 1000]
    assert seen[-1] == (1000, 1000, len(kept))


def test_extreme_thresholds():
    vectors = sample("gaussian", 50, 16)
    vectors[20] = vectors[3]
    for t in (-1.0, 0.0, 1.0):
        assert np.array_equal(reject_similar(vectors, t), reference(vectors, t))
    assert reject_similar(vectors[:0], 0.3).shape == (0,)


@pytest.mark.parametrize(
    ("vectors", "options", "message"),
    [
        (np.zeros((3, 8), np.float32), {}, r"3 rows have no usable direction; first: 0 \(length 0\), 1"),
        (np.full((2, 8), np.nan, np.float32), {}, r"first: 0 \(length nan\)"),
        (np.ones((2, 8)), {}, "must be float32"),
        (np.ones((2, 8), np.float32), {"max_cosine": 1.5}, r"must lie in \[-1, 1\]"),
        (np.ones((2, 8), np.float32), {"max_cosine": float("nan")}, r"must lie in \[-1, 1\]"),
        (np.ones((2, 8), np.float32), {"block": 0}, "block must be at least 1"),
        (np.ones((2, 8), np.float32), {"threads": 0}, "threads must be at least 1"),
        (np.ones((2, 8), np.float32), {"isa": "mmx"}, "isa must be one of"),
        (np.ones((2, 8), np.float32), {"kept": Kept(9)}, "must have the 9 entries"),
    ],
)
def test_refusals(vectors, options, message):
    with pytest.raises(ValueError, match=message):
        reject_similar(vectors, **{"max_cosine": 0.3, **options})


def test_a_buffer_of_another_type_is_refused_not_copied():
    with pytest.raises(TypeError, match="C-contiguous array of float64, found float32"):
        _C.norms(np.ones((2, 8), np.float32), np.empty(2, np.float32), 1)
    with pytest.raises(TypeError, match="C-contiguous"):
        _C.norms(np.ones((8, 2), np.float32).T, np.empty(2), 1)


def test_without_the_extension_the_backend_says_so_and_the_rest_works():
    code = (
        "import sys; sys.modules['v2f_kernels._C'] = None\n"
        "import numpy as np\n"
        "from v2f_kernels import BackendUnavailable\n"
        "from v2f_kernels.reject_similar import OP\n"
        "assert OP.backend('reference')(np.eye(3, dtype=np.float32), 0.3).tolist() == [0, 1, 2]\n"
        "try:\n    OP.backend('native')\n"
        "except BackendUnavailable as error:\n    assert 'pip install' in str(error); print('told')\n"
    )
    roots = [str(Path(native.__file__).parents[2])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(roots)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "told\n", done.stderr


def test_importing_the_op_does_not_load_the_extension():
    code = "import sys, v2f_kernels.reject_similar, v2f_kernels.nearest_cosine; print('v2f_kernels._C' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(native.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
