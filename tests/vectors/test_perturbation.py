"""Perturbed vectors: the mixture's shares, cosines that follow from the norm, and rows that stand alone."""

import numpy as np
import pytest
from v2f_kernels import _cosine

from v2f_engine.errors import ConfigError, VectorError
from v2f_engine.randomness import Purpose, normals
from v2f_engine.vectors.perturbation import Perturbation


def table(n=400):
    return normals(5, Purpose.IDENTITY_VECTOR, np.arange(n), 0, 512)


def flat(n, per_identity):
    position = np.arange(n * per_identity)
    return position // per_identity, position % per_identity


def test_shares_lengths_and_cosines_of_the_default_mixture():
    centres = table()
    identity, image = flat(400, 50)
    out = Perturbation().draw(centres[identity], identity, image, seed=3)
    for level, share in [(0.3, 0.4), (0.5, 0.4), (0.7, 0.2)]:
        chosen = out.sigma == np.float32(level)
        assert abs(chosen.mean() - share) < 4 * np.sqrt(share * (1 - share) / 20_000)
        expected = 1 / np.sqrt(1 + 512 * level**2 / _cosine.dot(centres, centres))
        assert abs(out.cosine[chosen].mean() - expected[identity[chosen]].mean()) < 0.001
    per_identity = np.array([(out.sigma[identity == i] == np.float32(0.7)).sum() for i in range(400)])
    assert per_identity.std() > 2  # drawn per image: binomial (2.8), not a fixed count per identity
    assert np.allclose(_cosine.norm(out.vectors), _cosine.norm(centres)[identity], rtol=3e-7)
    assert np.array_equal(out.cosine, _cosine.cosine(centres[identity], out.vectors).astype(np.float32))


@pytest.mark.parametrize("size", [1, 7, 64])
def test_batches_cut_anywhere_give_the_same_bits(size):
    centres = table(20)
    identity, image = flat(20, 11)
    whole = Perturbation().draw(centres[identity], identity, image, seed=9)
    for start in range(0, 220, size):
        cut = slice(start, start + size)
        part = Perturbation().draw(centres[identity[cut]], identity[cut], image[cut], seed=9)
        assert np.array_equal(part.vectors, whole.vectors[cut])
        assert np.array_equal(part.sigma, whole.sigma[cut])
        assert np.array_equal(part.cosine, whole.cosine[cut])


def test_any_count_per_identity():
    centres = table(3)
    identity = np.array([0, 1, 1, 1, 2])
    out = Perturbation().draw(centres[identity], identity, np.array([0, 0, 1, 2, 0]))
    assert out.vectors.shape == (5, 512)
    assert len(np.unique(out.vectors, axis=0)) == 5


def test_seed_identity_and_image_all_matter():
    centre = np.repeat(table(1), 4, axis=0)
    out = Perturbation().draw(centre, [0, 0, 1, 0], [0, 1, 0, 0]).vectors
    assert np.array_equal(out[0], out[3])
    assert len(np.unique(out, axis=0)) == 3
    assert not np.array_equal(out, Perturbation().draw(centre, [0, 0, 1, 0], [0, 1, 0, 0], seed=1).vectors)


@pytest.mark.parametrize("length", [3.0, 15.0, 21.9])
def test_target_cosine_does_not_depend_on_the_length(length):
    centres = table(2000)
    centres *= (length / _cosine.norm(centres)).astype(np.float32)[:, None]
    out = Perturbation.target_cosine(0.95, 0.7, weights=(0.25, 0.75)).draw(centres, np.arange(2000), 0)
    low = out.cosine < 0.85
    assert abs(low.mean() - 0.75) < 0.05
    assert abs(out.cosine[low].mean() - 0.7) < 0.003
    assert abs(out.cosine[~low].mean() - 0.95) < 0.003


def test_cosine_one_and_sigma_zero_give_the_centre_itself():
    centres = table(5)
    for still in (Perturbation((0.0,), (1.0,)), Perturbation.target_cosine(1.0)):
        assert np.array_equal(still.draw(centres, np.arange(5), 2).vectors, centres)


def test_description_is_json():
    assert Perturbation().describe() == {
        "levels": [0.3, 0.5, 0.7], "weights": [0.4, 0.4, 0.2], "unit": "sigma",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((0.3,), (0.5, 0.5)), "one weight per level"),
        (((), ()), "one weight per level"),
        (((0.3, 0.5), (0.5, 0.4)), "sum to 1"),
        (((0.3, 0.5), (1.5, -0.5)), "sum to 1"),
        (((-0.1,), (1.0,)), "perturbation sigma must lie between 0 and 100"),
        (((float("nan"),), (1.0,)), "perturbation sigma must lie between"),
        (((1.2,), (1.0,), "cosine"), "perturbation cosine must lie between 0.05 and 1"),
        (((0.3,), (1.0,), "sigmas"), "did you mean 'sigma'"),
    ],
)
def test_impossible_mixtures(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Perturbation(*arguments)


def test_bad_centres():
    centres = table(4)
    with pytest.raises(VectorError, match=r"expected float32 centres \[3, D\]"):
        Perturbation().draw(centres, np.arange(3), 0)
    with pytest.raises(VectorError, match="expected float32 centres"):
        Perturbation().draw(centres.astype(float), np.arange(4), 0)
    centres[2] = 0
    with pytest.raises(VectorError, match=r"rows \[2\]"):
        Perturbation().draw(centres, np.arange(4), 0)
    with pytest.raises(ConfigError, match="identity must lie in"):
        Perturbation().draw(table(1), np.array([2**32]), 0)
