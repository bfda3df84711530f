"""Philox4x32-10: known answers, independence of shape, float forms with the same bits in another library."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import ndtri
from v2f_kernels.philox import DRAW, OP
from v2f_kernels.philox.reference import CENTRAL, CHUNK, LOG2, TAIL, normal_from_bits, uniform_from_bits

philox4x32 = OP.backend("reference")
draw = DRAW.backend("reference")

KNOWN = [  # Random123's kat_vectors
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_known_answers(counter, key, expected):
    out = philox4x32(np.array(counter, np.uint32), np.array(key, np.uint32))
    assert out.dtype == np.uint32
    assert out.tolist() == expected


def test_known_answers_in_one_call_and_by_broadcasting():
    counters, keys, expected = (np.array(part, np.uint32) for part in zip(*KNOWN, strict=True))
    assert np.array_equal(philox4x32(counters, keys), expected)
    grid = philox4x32(counters[:, None], keys[None])
    assert np.array_equal(grid[[0, 1, 2], [0, 1, 2]], expected)


def plain(counter, key):
    """The published round function in Python integers."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        low, high = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (high >> 32) ^ c1 ^ k0, high & 0xFFFFFFFF, (low >> 32) ^ c3 ^ k1, low & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return [c0, c1, c2, c3]


def test_counter_and_key_layout():
    seed = 0x0123456789ABCDEF
    out = draw("bits", seed, 7, [5, 2**32 - 1], [0, 3], 11)
    for row, (identity, image) in enumerate([(5, 0), (2**32 - 1, 3)]):
        words = [
            w for block in range(3) for w in plain((7, identity, image, block), (0x89ABCDEF, 0x01234567))
        ]
        assert out[row].tolist() == words[:11]


@pytest.mark.parametrize("kind", ["bits", "uniform", "normal"])
def test_a_value_depends_on_its_own_place_only(kind):
    identity, image = np.arange(300) * 977, np.arange(300) % 7
    whole = draw(kind, 3, 1, identity, image, 301)
    order = np.random.default_rng(0).permutation(300)
    assert np.array_equal(draw(kind, 3, 1, identity[order], image[order], 301), whole[order])
    assert np.array_equal(draw(kind, 3, 1, identity[17:18], image[17:18], 301), whole[17:18])
    assert np.array_equal(draw(kind, 3, 1, identity, image, 5), whole[:, :5])


def test_rows_longer_than_a_chunk():
    n = 4 * CHUNK + 4097
    out = draw("bits", 1, 2, [9], [4], n)[0]
    for k in (0, 4 * CHUNK - 1, 4 * CHUNK, n - 1):
        assert out[k] == plain((2, 9, 4, k // 4), (1, 0))[k % 4]


def test_uniform_form_is_exact_and_excludes_one():
    bits = np.array([0, 0xFF, 0x100, 0xFFFFFFFF], np.uint32)
    assert uniform_from_bits(bits).tolist() == [0.0, 0.0, 2.0**-24, 1 - 2.0**-24]


def test_normal_form_against_the_true_quantile():
    edges = [np.arange(4096), 2**31 - 1 - np.arange(4096)]
    powers = [
        2**k + np.arange(-64, 64) for k in range(7, 31)
    ]  # exponents change here; 2**23 is where TAIL begins
    seam = [8_400_000 + np.arange(-40_000, 40_000)]
    some = np.random.default_rng(0).integers(0, 2**31, 400_000)
    bits = np.concatenate([*edges, *powers, *seam, some]).astype(np.uint32)
    truth = -ndtri((2 * bits.astype(np.float64) + 1) / 2**33)
    assert np.max(np.abs(normal_from_bits(bits) / truth - 1)) < 4e-7
    assert np.array_equal(normal_from_bits(bits | np.uint32(2**31)), -normal_from_bits(bits))


def torch_normal(bits):
    """The contract's formula once more, in eager torch: one rounded operation after another."""
    b = torch.from_numpy(bits.astype(np.int64))
    t = (2 * b + 1) & 0xFFFFFFFF
    x = (2**32 - t).float() * 2.0**-32
    a = t.float() * 2.0**-32 * (x + 1)
    i = a.view(torch.int32) - 0x3F2AAAAB
    d = ((i & 0x7FFFFF) + 0x3F2AAAAB).view(torch.float32) - 1

    def horner(coefficients, v):
        total = torch.full_like(v, coefficients[-1])
        for c in coefficients[-2::-1]:
            total = total * v + c
        return total

    w = -((i >> 23).float() + d * horner(LOG2, d))
    z = torch.where(w < 7, x * horner(CENTRAL, w - 3.5), x * horner(TAIL, w - 19))
    return torch.where(b >= 2**31, -z, z).numpy()


def test_normals_have_the_same_bits_in_torch():
    bits = draw("bits", 11, 1, np.arange(500), 0, 2000).ravel()
    bits[:8] = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**23, 2**23 - 1, 2**23 + 1]
    assert np.array_equal(normal_from_bits(bits).view(np.uint32), torch_normal(bits).view(np.uint32))


def test_distribution_of_normals():
    z = draw("normal", 2024, 1, np.arange(8000), 0, 512).astype(np.float64).ravel()
    n = z.size
    moments = [np.mean(z**k) for k in range(1, 7)]
    spread = [1, 2, 15, 96, 945, 10170]  # variances of z^k
    for k, (found, variance) in enumerate(zip(moments, spread, strict=True), 1):
        assert abs(found - [0, 1, 0, 3, 0, 15][k - 1]) < 4 * np.sqrt(variance / n), k
    assert stats.kstest(z, "norm").pvalue > 1e-3
    for cut in (3.0, 4.0, 4.8):
        expected = n * 2 * stats.norm.sf(cut)
        assert abs(np.count_nonzero(np.abs(z) > cut) - expected) < 4 * np.sqrt(expected), cut
    assert np.abs(z).max() < 6.34


def test_streams_do_not_resemble_each_other():
    streams = [
        draw("normal", seed, purpose, [identity], [image], 50_000)[0]
        for seed, purpose, identity, image in [
            (0, 1, 0, 0),
            (1, 1, 0, 0),
            (0, 2, 0, 0),
            (0, 1, 1, 0),
            (0, 1, 0, 1),
        ]
    ]
    correlation = np.corrcoef(streams) - np.eye(5)
    assert np.abs(correlation).max() < 5 / np.sqrt(50_000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "gamma"}, "kind must be one of"),
        ({"seed": 2**64}, "seed must be an integer from 0"),
        ({"seed": -1}, "seed must be an integer from 0"),
        ({"seed": 1.5}, "seed must be an integer from 0"),
        ({"purpose": 2**32}, "purpose must be"),
        ({"identity": np.array([3, 2**32])}, r"found 4294967296 in row 1"),
        ({"identity": np.array([-1])}, r"found -1 in row 0"),
        ({"identity": np.array([0.5])}, "identity must be integers"),
        ({"image": np.array([2**40])}, "image must lie in"),
        ({"n": -1}, "n must be an integer from 0"),
    ],
)
def test_out_of_range_raises(change, message):
    arguments = {
        "kind": "bits",
        "seed": 0,
        "purpose": 1,
        "identity": np.arange(1),
        "image": 0,
        "n": 4,
    } | change
    with pytest.raises(ValueError, match=message):
        draw(**arguments)


def test_raw_generator_refuses_other_types():
    with pytest.raises(ValueError, match="expects counter uint32"):
        philox4x32(np.zeros(4, np.int64), np.zeros(2, np.uint32))
    with pytest.raises(ValueError, match="expects counter uint32"):
        philox4x32(np.zeros(3, np.uint32), np.zeros(2, np.uint32))


def test_empty_requests():
    assert draw("normal", 0, 1, np.arange(0), 0, 8).shape == (0, 8)
    assert draw("normal", 0, 1, np.arange(3), 0, 0).shape == (3, 0)


@pytest.mark.parametrize("kind", ["bits", "uniform", "normal"])
def test_the_compiled_form_gives_the_same_bits(kind):
    native = DRAW.backend("native")
    identity, image = np.arange(2**32 - 2000, 2**32, 3), np.arange(667) * 6_000_001
    for n in (0, 1, 3, 4, 49, 255, 256, 257, 512, 1001):
        expected = draw(kind, 2**63 + 12345, 3, identity, image, n)
        found = native(kind, 2**63 + 12345, 3, identity, image, n)
        assert found.dtype == expected.dtype
        assert np.array_equal(found.view(np.uint32), expected.view(np.uint32)), n
    assert native(kind, 0, 1, np.arange(0), 0, 5).shape == (0, 5)


def test_the_compiled_form_meets_every_tail():
    """Words come in 2**32 values and one in 256 is in the tail: 2 million draws hold the rare ones of both signs."""
    z = DRAW.backend("native")("normal", 1, 1, np.arange(2000), 0, 1024)
    assert z.min() < -4.5
    assert z.max() > 4.5
    assert np.array_equal(z, draw("normal", 1, 1, np.arange(2000), 0, 1024))


@pytest.mark.parametrize(
    ("change", "words"),
    [({"kind": "bit"}, "kind"), ({"seed": -1}, "seed"), ({"purpose": 2**32}, "purpose"), ({"n": -1}, "n must"),
     ({"identity": [2**32]}, "identity"), ({"image": [-1]}, "image"), ({"identity": [0.5]}, "identity")],
)  # fmt: skip
def test_the_compiled_form_refuses_what_the_reference_refuses(change, words):
    told = {"kind": "bits", "seed": 0, "purpose": 1, "identity": [0], "image": [0], "n": 4} | change
    for backend in ("reference", "native"):
        with pytest.raises(ValueError, match=words):
            DRAW.backend(backend)(*told.values())
