"""Within-person covariance: fitted as a loop over people fits it, and images that have it."""

import math

import numpy as np
import pytest
from v2f_kernels import _cosine
from v2f_kernels.philox import DRAW

from v2f_engine.errors import ConfigError, VectorError
from v2f_engine.options import ImageOptions
from v2f_engine.pipeline.labelled import within_of
from v2f_engine.vectors.centres import person_centres
from v2f_engine.vectors.perturbation import Perturbation, from_manifest, option_of
from v2f_engine.vectors.perturbation_covariance import Covariance
from v2f_engine.vectors.within import Within, fit_within

D = 12


def people(n=200, images=9, seed=0, dimension=D):
    """(features `[N, D]`, codes, true covariance): people far apart, each with images of one covariance."""
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((dimension, dimension)) * np.geomspace(1, 0.1, dimension)
    counts = rng.integers(1, images + 1, n)
    codes = np.repeat(np.arange(n), counts)[rng.permutation(counts.sum())]
    means = 8 * rng.standard_normal((n, dimension))
    rows = means[codes] + rng.standard_normal((len(codes), dimension)) @ root.T
    return rows.astype(np.float32), codes.astype(np.int64), root @ root.T


def fitted(rows, codes, block=50, **how):
    def blocks():
        for first in range(0, len(rows), block):
            yield first, rows[first : first + block]

    means = person_centres(blocks(), codes, np.arange(codes.max() + 1))
    return fit_within(blocks(), codes, means, **how)


@pytest.mark.parametrize("block", [7, 10_000])
def test_it_is_that_of_a_loop_over_people(block):
    rows, codes, true = people()
    scatter, free = np.zeros((D, D)), 0
    for person in range(codes.max() + 1):
        own = rows[codes == person].astype(np.float64)
        scatter += sum(np.outer(one, one) for one in own - own.mean(axis=0))
        free += len(own) - 1
    found = fitted(rows, codes, block, origin="a loop")
    assert np.allclose(found.covariance, scatter / free, rtol=1e-10, atol=1e-12)
    assert (found.images, found.people, found.origin) == (len(rows), 200, "a loop")
    assert np.abs(found.covariance - true).max() < 6 * true.max() * math.sqrt(2 / free)
    assert np.allclose(found.factor @ found.factor.T, found.covariance, atol=1e-5 * true.max())
    assert found.length == pytest.approx(math.sqrt(np.trace(scatter / free)))


def test_images_differ_in_no_more_components_than_the_differences_leave():
    rows, codes, _ = people(n=3, images=3)
    free = len(rows) - 3
    assert 0 < free < D
    whole = fitted(rows, codes)
    assert whole.rank == free == np.linalg.matrix_rank(whole.factor, tol=1e-4 * np.abs(whole.factor).max())
    assert fitted(rows, codes, components=2).rank == min(2, free)
    mixed = fitted(rows, codes, shrinkage=0.1)
    assert mixed.rank == D == np.linalg.matrix_rank(mixed.factor)


def test_components_and_shrinkage():
    rows, codes, _ = people()
    whole, some = fitted(rows, codes), fitted(rows, codes, components=3)
    assert np.array_equal(some.factor, whole.factor[:, :3])
    even = fitted(rows, codes, shrinkage=1.0)
    assert np.allclose(even.covariance, np.eye(D) * np.trace(whole.covariance) / D)


def test_what_says_nothing_of_images_is_refused():
    rows, codes, _ = people(30, 1)
    with pytest.raises(VectorError, match="30 images of 30 people: nobody has two"):
        fitted(rows, codes)
    with pytest.raises(VectorError, match="there is no covariance to fit"):
        fitted(np.repeat(rows, 2, axis=0), np.repeat(codes, 2))


def test_a_file_is_itself_again_and_nothing_else(tmp_path):
    found, path = fitted(*people()[:2], origin="made"), tmp_path / "within.safetensors"
    path.write_bytes(found.to_bytes())
    again = Within.load(path)
    assert again.to_bytes() == found.to_bytes()
    assert (again.sha256, again.images, again.origin) == (found.sha256, found.images, "made")
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(VectorError, match="the file was changed"):
        Within.load(path)
    with pytest.raises(VectorError, match="no such file"):
        Within.load(tmp_path / "none.safetensors")


def test_features_and_labels_as_files(tmp_path):
    rows, codes, _ = people(dimension=512, n=40)
    np.save(tmp_path / "f.npy", rows)
    np.save(tmp_path / "l.npy", codes)
    said = []
    found = within_of(
        [tmp_path / "f.npy"], tmp_path / "l.npy", progress=lambda *pair: said.append(pair), say=said.append
    )
    assert np.array_equal(found.covariance, fitted(rows, codes, 4096).covariance)
    assert said[-1] == (2 * len(rows), 2 * len(rows))
    assert found.origin == "40 people of f.npy"


def covariance(dimension=512, scale=0.4):
    rng = np.random.default_rng(3)
    factor = (scale * rng.standard_normal((dimension, 64)) * np.geomspace(1, 0.05, 64)).astype(np.float32)
    wide = factor.astype(float)
    return Covariance(Within(wide @ wide.T, factor, 100, 10))


def centres(n=6):
    return np.random.default_rng(4).standard_normal((n, 512)).astype(np.float32)


def test_an_image_is_that_of_a_float64_loop():
    noise, rows = covariance(), centres()
    out = noise.draw(rows, np.arange(6), 3, seed=9)
    for i in range(6):
        z = DRAW.backend("reference")("normal", 9, 26, i, 3, 64)[0].astype(float)
        x = rows[i].astype(float)
        moved = [
            a + math.fsum(b * c for b, c in zip(row, z, strict=True))
            for a, row in zip(x, noise.within.factor.astype(float), strict=True)
        ]
        ratio = math.sqrt(math.fsum(x * x) / math.fsum(a * a for a in moved))
        assert np.allclose(
            out.vectors[i], [a * ratio for a in moved], rtol=0, atol=2e-5
        )  # the grid's 1e-5 of a deviation
        assert out.cosine[i] == np.float32(_cosine.cosine(rows[i], out.vectors[i]))
    assert np.allclose(_cosine.norm(out.vectors), _cosine.norm(rows), rtol=2e-7)
    assert out.attributes.keys() == {"cosine_to_centre"}


def test_differences_have_the_covariance():
    """Of a centre so long that its direction takes nothing away: the sample covariance of 4,000 images."""
    rng = np.random.default_rng(0)
    factor = rng.standard_normal((D, D)).astype(np.float32)
    wide = factor.astype(float)
    noise = Covariance(Within(wide @ wide.T, factor, 100, 10))
    centre = np.zeros((1, D), np.float32)
    centre[0, 0] = 1e4
    out = noise.draw(np.repeat(centre, 4000, axis=0), np.zeros(4000, int), np.arange(4000))
    across = (out.vectors - centre)[:, 1:].astype(
        float
    )  # along the centre the length is kept, so nothing moves
    found, true = across.T @ across / 4000, (wide @ wide.T)[1:, 1:]
    assert np.abs(found - true).max() < 6 * true.max() * math.sqrt(2 / 4000)


@pytest.mark.parametrize("size", [1, 7])
def test_batches_cut_anywhere_give_the_same_bits(size):
    noise, rows = covariance(), centres(20)
    position = np.arange(60)
    identity, image = position // 3, position % 3
    whole = noise.draw(rows[identity], identity, image, seed=2)
    for start in range(0, 60, size):
        cut = slice(start, start + size)
        part = noise.draw(rows[identity[cut]], identity[cut], image[cut], seed=2)
        assert np.array_equal(part.vectors, whole.vectors[cut])


def test_what_is_said_of_it(tmp_path):
    noise, path = covariance(), tmp_path / "perturbation.safetensors"
    path.write_bytes(noise.attachment())
    told = noise.describe()
    assert told == {"kind": "covariance", "sha256": noise.within.sha256}
    assert (
        from_manifest(told, path)
        == noise
        == Perturbation.of(option_of(told, path))
        == Perturbation.covariance(path)
    )
    assert covariance(scale=0.3) != noise != Perturbation()
    assert hash(covariance()) == hash(noise)
    with pytest.raises(VectorError, match="another file"):
        from_manifest(covariance(scale=0.3).describe(), path)
    with pytest.raises(VectorError, match=r"in a dataset's perturbation\.safetensors"):
        from_manifest(told)
    with pytest.raises(ConfigError, match="expected a file of `v2f ids within`"):
        Perturbation.of("covariance:")
    with pytest.raises(ConfigError, match=r"'exact' \(--sigma-shares\) says nothing of covariance"):
        ImageOptions(3, 0, noise, sigma_shares="exact")
    with pytest.raises(VectorError, match="features of 512 entries, found centres of 12"):
        noise.draw(centres()[:, :12].copy(), np.arange(6), 0)
    rows = centres()
    rows[1] = 0
    with pytest.raises(VectorError, match=r"zero length or not finite in rows \[1\]"):
        noise.draw(rows, np.arange(6), 0)


@pytest.mark.parametrize("each", [2, 3, 7])
def test_images_that_are_equal_are_no_differences_though_their_mean_is_rounded(each):
    rows, _, _ = people(30, 1)
    with pytest.raises(VectorError, match="images of each person are equal"):
        fitted(np.repeat(rows, each, axis=0), np.repeat(np.arange(30), each))
