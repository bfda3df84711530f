"""Cones around identities: float64 loops, what is drawn evenly, and that nobody is nearer to somebody else."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from v2f_kernels import _cosine
from v2f_kernels.philox import DRAW

from v2f_engine.backends import function
from v2f_engine.errors import ConfigError, DatasetError, VectorError
from v2f_engine.randomness import Purpose, normals
from v2f_engine.vectors.nearest import Nearest, nearest_other
from v2f_engine.vectors.perturbation import FORMS, Perturbation, from_manifest, option_of
from v2f_engine.vectors.perturbation_cone import Cone

FREE = Cone(0.6, guarded=False)


def table(n=40, seed=5, length=21.9):
    rows = normals(seed, Purpose.IDENTITY_VECTOR, np.arange(n), 0, 512)
    return (rows * (length / np.linalg.norm(rows, axis=1))[:, None]).astype(np.float32)


def crowd(n, seed=0):
    """People of whom each has a double: at cosines from 0.3 up to 1 - 1e-7, where a cone is all but closed."""
    rng = np.random.default_rng(seed)
    rows = table(n, seed + 1).astype(np.float64)
    for left in range(0, n - 1, 2):
        angle = 10 ** rng.uniform(-3.3, 0.1)
        aside = rng.standard_normal(512)
        aside -= (aside @ rows[left]) / (rows[left] @ rows[left]) * rows[left]
        aside *= np.linalg.norm(rows[left]) / np.linalg.norm(aside)
        rows[left + 1] = rng.uniform(0.7, 1.4) * (math.cos(angle) * rows[left] + math.sin(angle) * aside)
    return rows.astype(np.float32)


def beside(rows):
    """float64 `[N]`: the largest cosine to another row, a pair at a time by math alone."""
    wide = rows.astype(np.float64).tolist()
    lengths = [math.sqrt(math.fsum(a * a for a in row)) for row in wide]
    found = [-1.0] * len(wide)
    for i, one in enumerate(wide):
        for j in range(i):
            cosine = math.fsum(a * b for a, b in zip(one, wide[j], strict=True)) / lengths[i] / lengths[j]
            found[i], found[j] = max(found[i], cosine), max(found[j], cosine)
    return np.array(found)


def drawn_by_a_loop(centre, identity, image, seed, lowest):
    """One image, in float64 by plain Python, from Philox's reference."""
    uniform = float(DRAW.backend("reference")("uniform", seed, 24, identity, image, 1)[0, 0])
    g = DRAW.backend("reference")("normal", seed, 25, identity, image, len(centre))[0].astype(float).tolist()
    x = centre.astype(float).tolist()
    s = lowest + (1 - lowest) * uniform
    length = math.sqrt(math.fsum(a * a for a in x))
    along = math.fsum(a * b for a, b in zip(x, g, strict=True)) / length**2
    d = [b - along * a for a, b in zip(x, g, strict=True)]
    size = math.sqrt(math.fsum(a * a for a in d))
    aside = math.sin(math.acos(s))
    return s, [length * (s * a / length + aside * b / size) for a, b in zip(x, d, strict=True)]


@pytest.mark.parametrize("guarded", [False, True])
@pytest.mark.parametrize("seed", [0, 7, 2**63])
def test_an_image_is_that_of_a_float64_loop(seed, guarded):
    centres, cone = crowd(8), Cone(0.6, guarded)
    bound = cone.over(centres, np.arange(8))
    identity, image = np.repeat(np.arange(8), 3), np.tile(np.arange(3), 8)
    out = bound.draw(centres[identity], identity, image, seed=seed)
    lowest = [max(0.6, math.cos(math.acos(min(c, 1)) / 2)) if guarded else 0.6 for c in beside(centres)]
    for row, (i, k) in enumerate(zip(identity.tolist(), image.tolist(), strict=True)):
        s, expected = drawn_by_a_loop(centres[i], i, k, seed, lowest[i])
        assert np.allclose(out.vectors[row], expected, rtol=0, atol=1e-5)  # entries of 1, in float32
        assert abs(out.cosine[row] - s) < 2e-7
    assert out.sigma is None
    assert out.attributes.keys() == {"cosine_to_centre"}
    assert np.allclose(_cosine.norm(out.vectors), _cosine.norm(centres[identity]), rtol=2e-7, atol=0)


@pytest.mark.parametrize("n", [2, 15, 16, 17, 33, 50])
@pytest.mark.parametrize("backend", ["reference", "native"])
def test_the_nearest_other_is_that_of_all_pairs(n, backend):
    rows = crowd(n, seed=n)
    found = nearest_other(rows, backend)
    assert np.allclose(found, beside(rows), rtol=0, atol=1e-14)
    cosines = _cosine.cosine(rows[:, None], rows[None])
    np.fill_diagonal(cosines, -1)
    assert np.array_equal(found, np.minimum(cosines.max(axis=1), 1))  # to the bit, by whatever backend


def test_nobody_beside_one():
    assert nearest_other(table(1)).tolist() == [-1.0]
    alone = Cone(0.2).over(table(1), np.arange(1))
    assert alone.lowest_of(np.zeros(1, np.int64)).tolist() == [0.2]


@pytest.mark.parametrize("size", [1, 7, 64])
def test_batches_cut_anywhere_give_the_same_bits(size):
    centres = crowd(20)
    cone = Cone(0.5).over(centres, np.arange(20))
    position = np.arange(220)
    identity, image = position // 11, position % 11
    whole = cone.draw(centres[identity], identity, image, seed=9)
    for start in range(0, 220, size):
        cut = slice(start, start + size)
        part = cone.draw(centres[identity[cut]], identity[cut], image[cut], seed=9)
        assert np.array_equal(part.vectors, whole.vectors[cut])
        assert np.array_equal(part.cosine, whole.cosine[cut])


def test_a_part_of_a_table_has_the_bound_of_the_whole():
    """A shard holds neither of two doubles' other half, and its images are those of the whole all the same."""
    centres, keys = crowd(20), np.arange(100, 120)
    cone = Cone(0.3).over(centres, keys)
    whole = cone.draw(centres, keys, 0)
    assert cone.over(centres[4:9], keys[4:9]) is cone
    part = cone.draw(centres[4:9], keys[4:9], 0)
    assert np.array_equal(part.vectors, whole.vectors[4:9])
    alone = Cone(0.3).over(centres[[4]], keys[[4]]).draw(centres[[4]], keys[[4]], 0)
    assert not np.array_equal(alone.vectors, whole.vectors[[4]])


def test_another_table_is_refused():
    centres, keys = table(20), np.arange(20)
    cone = Cone(0.3).over(centres, keys)
    with pytest.raises(ConfigError, match="identity 20 is not in the table of 20"):
        cone.over(table(21), np.arange(21))
    with pytest.raises(ConfigError, match="20 of 20 identities have other vectors"):
        cone.over(table(20, seed=6), keys)
    assert cone.over(np.concatenate([table(1, seed=6), centres[1:]]), keys, slice(1, None)) is cone
    with pytest.raises(ConfigError, match="has to know the whole table"):
        Cone(0.3).draw(centres, keys, 0)
    with pytest.raises(ConfigError, match="is not in the table of 0"):
        Cone(0.3).over(table(2)[:0], keys[:0]).draw(centres, keys, 0)


def violations(centres, cone, images, seed=0):
    """Images nearer to another identity's centre than to their own, by the float64 cosine of all pairs."""
    bound, found = cone.over(centres, np.arange(len(centres))), 0
    for image in range(images):
        vectors = bound.draw(centres, np.arange(len(centres)), image, seed=seed).vectors
        best, whose = function("nearest_cosine")(vectors, centres)
        found += int(((whose != np.arange(len(centres))) & (best > _cosine.cosine(vectors, centres))).sum())
    return found


def test_no_image_is_nearer_to_another_centre_than_to_its_own():
    centres = crowd(400)
    assert violations(centres, Cone(0.0), 8) == 0
    assert violations(centres, Cone(0.0, guarded=False), 8) > 400  # the guard is what holds it


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 12), st.integers(2, 9), st.floats(0, 1))
def test_the_guard_holds_in_few_dimensions(seed, n, dimension, lowest):
    """In a plane every other image is turned straight towards the neighbour; doubles lie at 1e-3 and less."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((n, dimension)).astype(np.float32)
    centres[1] = centres[0] + np.float32(10 ** rng.uniform(-3, 0)) * rng.standard_normal(dimension)
    bound = Cone(lowest).over(centres, np.arange(n))
    for image in range(4):
        vectors = bound.draw(centres, np.arange(n), image, seed=seed).vectors
        cosines = _cosine.cosine(vectors[:, None], centres[None])
        own = np.diag(cosines)[:, None]
        assert (
            cosines - own <= 3e-7
        ).all()  # the rounding of a float32 vector; a violation by half an angle is more


@pytest.mark.slow
def test_no_image_of_a_hundred_thousand_is_nearer_to_another_centre():
    """Everybody has a double, as `crowd` makes them: 100,000 x 100,000 pairs twice, 4 minutes of one core."""
    rows = crowd(100_000, seed=3)
    assert violations(rows, Cone(0.0), 1, seed=11) == 0


def test_cosines_are_even_over_the_cone():
    """Kolmogorov-Smirnov over 20,000 images: s is U[0.6, 1], and of each identity U[its own bound, 1]."""
    centres = np.repeat(table(200), 100, axis=0)
    identity, image = np.repeat(np.arange(200), 100), np.tile(np.arange(100), 200)
    out = FREE.draw(centres, identity, image, seed=3)
    assert stats.kstest((out.cosine - 0.6) / 0.4, "uniform").pvalue > 1e-3
    assert stats.kstest((out.cosine - 0.6) / 0.4, "beta", args=(2, 2)).pvalue < 1e-6  # the test can fail
    near = crowd(200)
    bound = Cone(0.6).over(near, np.arange(200))
    lowest = bound.lowest_of(identity)
    wide = lowest < 0.999  # in narrower cones a cosine in float32 has too few steps
    found = bound.draw(near[identity], identity, image, seed=4).cosine
    assert stats.kstest(((found - lowest) / (1 - lowest))[wide], "uniform").pvalue > 1e-3


def test_directions_are_even_over_the_sphere_across():
    """A coordinate of a uniform direction in 511 dimensions is Beta(255, 255) on [-1, 1]; none has a part along x."""
    count = 8000
    centre = table(1, seed=2)
    vectors = FREE.draw(np.repeat(centre, count, axis=0), np.arange(count), 5, seed=6).vectors.astype(float)
    unit = centre[0].astype(float) / np.linalg.norm(centre[0].astype(float))
    across = vectors - np.outer(vectors @ unit, unit)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    assert np.abs(across @ unit).max() < 1e-6
    probes = np.random.default_rng(1).standard_normal((5, 512))
    probes -= np.outer(probes @ unit, unit)
    probes /= np.linalg.norm(probes, axis=1, keepdims=True)
    for probe in probes:
        assert stats.kstest((1 + across @ probe) / 2, "beta", args=(255, 255)).pvalue > 1e-3
    moments = across.T @ across / count * 511
    assert abs(np.trace(moments) - 511) < 1e-6
    assert np.abs(moments - np.diag(np.diag(moments))).max() < 0.08  # 5 standard deviations of 1 / sqrt(8000)


def test_dealt_chances_are_spread_evenly():
    """`--sigma-shares exact`: the middles of equal parts, whatever order they come in."""
    centres = np.repeat(table(1), 10, axis=0)
    chance = np.random.default_rng(0).permutation(10) / 10 + 0.05
    found = FREE.draw(centres, np.zeros(10, int), np.arange(10), chance=chance).cosine
    assert np.allclose(np.sort(found), 0.6 + 0.4 * (np.arange(10) + 0.5) / 10, atol=2e-7)


def test_a_closed_cone_gives_the_centre_itself():
    centres = table(5)
    assert np.array_equal(
        Cone(1.0).over(centres, np.arange(5)).draw(centres, np.arange(5), 2).vectors, centres
    )
    double = np.concatenate([centres, 2 * centres[:1]])  # the same direction twice: no angle is left
    found = Cone(0.0).over(double, np.arange(6)).draw(double, np.arange(6), 1)
    assert np.array_equal(found.vectors[[0, 5]], double[[0, 5]])


def test_its_numbers_are_its_own():
    """No other stream is read: the levels and noise of sigma stay what they were, and are not the cone's."""
    assert (Purpose.CONE_COSINE, Purpose.CONE_DIRECTION) == (24, 25)
    assert Cone().chance_of is Purpose.CONE_COSINE
    assert Perturbation().chance_of is Purpose.SIGMA


def test_what_is_said_of_it():
    assert Perturbation.cone() == Cone(0.6, True)
    assert (Perturbation.cone(0.5, guarded=False).words, Cone(0.55).words) == (
        "cone 0.5 unguarded",
        "cone 0.55",
    )
    assert FREE.describe() == {"kind": "cone", "lowest": 0.6, "guarded": False}
    centres, keys = crowd(6), np.arange(6)
    bound = Cone(0.6).over(centres, keys)
    assert bound.describe() == {
        "kind": "cone", "lowest": 0.6, "guarded": True, "nearest_sha256": bound.nearest.sha256,
    }  # fmt: skip
    assert bound == Cone(0.6) != Cone(0.6, False)
    assert (FREE.attachment(), Cone(0.6).attachment()) == (None, None)


def test_a_table_is_told_once_and_found_again(tmp_path):
    centres, keys = crowd(30), np.arange(30)[::-1].copy()
    bound, path = Cone(0.4).over(centres, keys), tmp_path / "perturbation.safetensors"
    path.write_bytes(bound.attachment())
    again = from_manifest(bound.describe(), path)
    assert again.over(centres, keys) is again
    assert np.array_equal(again.draw(centres, keys, 1).vectors, bound.draw(centres, keys, 1).vectors)
    assert again.describe() == bound.describe()
    assert from_manifest(bound.describe()).nearest is None  # without the file: told of a table anew
    other = Cone(0.4).over(crowd(30, seed=1), keys)
    with pytest.raises(VectorError, match="the file was changed"):
        from_manifest(other.describe(), path)
    with pytest.raises(VectorError, match="no such file"):
        from_manifest(bound.describe(), tmp_path / "none.safetensors")


def test_the_cosines_of_a_table_are_computed_once(monkeypatch):
    centres, calls = crowd(30), []
    monkeypatch.setattr(
        "v2f_engine.vectors.nearest.nearest_other",
        lambda rows, backend: (calls.append(len(rows)), nearest_other(rows))[1],
    )
    first = Nearest.of(centres + np.float32(1), np.arange(30))
    again = Nearest.of(centres + np.float32(1), np.arange(30)[::-1])
    assert calls == [30]
    assert np.array_equal(first.cosine, again.cosine[::-1])
    Nearest.of(centres, np.arange(30))
    assert calls == [30, 30]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sigma:0.3,0.5,0.7", Perturbation()),
        ("sigma:0.2", Perturbation((0.2,), (1.0,))),
        ("sigma:0.1,0.6@0.75,0.25", Perturbation((0.1, 0.6), (0.75, 0.25))),
        ("cosine:0.9,0.8", Perturbation.target_cosine(0.9, 0.8)),
        ("cosine:0.9,0.8@0.3,0.7", Perturbation.target_cosine(0.9, 0.8, weights=(0.3, 0.7))),
        ("cone:0.6", Cone(0.6)),
        ("cone", Cone(0.6)),
        ("cone:0.6,guarded", Cone(0.6)),
        ("cone:0.45,unguarded", Cone(0.45, guarded=False)),
    ],
)
def test_forms_as_typed_are_those_that_manifests_tell(text, expected):
    found = Perturbation.of(text)
    assert (found, type(found)) == (expected, type(expected))
    assert from_manifest(found.describe()) == expected
    assert Perturbation.of(option_of(found.describe())) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kone:0.6", "did you mean 'cone'"),
        ("0.3,0.5", "perturbation '0.3,0.5' is not known"),
        ("cone:0.6,ungarded", "did you mean 'unguarded'"),
        ("cone:a", "perturbation cone:LOWEST: expected numbers"),
        ("cone:1.2", "perturbation cone must lie between 0 and 1"),
        ("cone:nan", "perturbation cone must lie between 0 and 1"),
        ("cone:-0.1", "perturbation cone must lie between 0 and 1"),
        ("sigma:0.3,0.5", "one weight per level"),
        ("sigma:", "expected numbers separated by commas"),
        ("cosine:0.9@x", "expected numbers separated by commas"),
    ],
)
def test_impossible_forms(text, message):
    with pytest.raises(ConfigError, match=message):
        Perturbation.of(text)


def test_a_form_of_a_later_version_is_named():
    with pytest.raises(DatasetError, match=f"'torus' is not known here; known: {', '.join(sorted(FORMS))}"):
        from_manifest({"kind": "torus"})


def test_bad_centres():
    centres = table(4)
    with pytest.raises(VectorError, match=r"expected float32 centres \[3, D\]"):
        FREE.draw(centres, np.arange(3), 0)
    centres[2] = 0
    with pytest.raises(VectorError, match=r"rows \[2\]"):
        FREE.draw(centres, np.arange(4), 0)
    with pytest.raises(ConfigError, match="identity must lie in"):
        FREE.draw(table(1), np.array([2**32]), 0)
