"""Random numbers and perturbation in Triton, under the interpreter: the same bits as NumPy."""

import numpy as np
import pytest
import torch
from v2f_kernels.perturb import DRAWN
from v2f_kernels.perturb import OP as PERTURB
from v2f_kernels.philox import DRAW

pytestmark = pytest.mark.interpreter

IDENTITY = np.array([0, 5, 2**32 - 1, 977])
IMAGE = np.array([0, 2**31, 3, 49])


def words(values):
    return torch.from_numpy(np.asarray(values, np.uint32))


def same_bits(a, b):
    return np.array_equal(np.asarray(a).view(np.uint32), np.asarray(b).view(np.uint32))


@pytest.mark.parametrize("kind", ["bits", "uniform", "normal"])
@pytest.mark.parametrize("seed", [0, 1, 0x0123456789ABCDEF, 2**64 - 1])
def test_numbers_have_the_reference_bits(kind, seed):
    for n in (1, 49, 515):
        expected = DRAW.backend("reference")(kind, seed, 2**32 - 1, IDENTITY, IMAGE, n)
        found = DRAW.backend("triton")(kind, seed, 2**32 - 1, words(IDENTITY), words(IMAGE), n)
        assert found.shape == (4, n)
        assert same_bits(found.numpy(), expected)


def test_many_normals():
    """Enough for both branches of the form: 0.4 % lie in the tails."""
    expected = DRAW.backend("reference")("normal", 5, 1, [7], [9], 20_000)
    found = DRAW.backend("triton")("normal", 5, 1, words([7]), words([9]), 20_000).numpy()
    assert np.count_nonzero(np.abs(expected) > 2.9) > 40
    assert same_bits(found, expected)


@pytest.mark.parametrize("size", [512, 48, 3, 1])
def test_perturbation_has_the_reference_bits(size, poisoned):
    rng = np.random.default_rng(0)
    vectors = (3 * rng.standard_normal((4, size))).astype(np.float32)
    sigma = np.array([0.3, 0.7, 0.0, 1.0], np.float32)
    for seed in (0, 2**64 - 5):
        expected = DRAWN.backend("reference")(vectors, sigma, seed, 3, IDENTITY, IMAGE)
        inputs = torch.from_numpy(vectors), torch.from_numpy(sigma)
        drawn = DRAWN.backend("triton")(*inputs, seed, 3, words(IDENTITY), words(IMAGE))
        assert same_bits(drawn.numpy(), expected)
        assert same_bits(drawn.numpy()[2], vectors[2])
        noise = DRAW.backend("reference")("normal", seed, 3, IDENTITY, IMAGE, size)
        given = PERTURB.backend("triton")(*inputs, torch.from_numpy(noise))
        assert same_bits(given.numpy(), expected)


def test_perturbation_gradients():
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(shape, generator=generator) for shape in ((3, 48), (3,), (3, 48))]
    upstream = torch.randn((3, 48), generator=generator)
    gradients = []
    for backend, dtype in (("triton", torch.float32), ("reference", torch.float32)):
        leaves = [t.to(dtype).requires_grad_() for t in inputs]
        gradients.append(torch.autograd.grad(PERTURB.backend(backend)(*leaves), leaves, upstream.to(dtype)))
    for name, found, expected in zip(("vectors", "sigma", "noise"), *gradients, strict=True):
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6), name
    from bench.candidates.perturb.triton_op import perturb_op

    torch.library.opcheck(perturb_op, tuple(t.requires_grad_() for t in inputs))


def test_host_integers_are_checked_and_tensors_are_typed():
    draw = DRAW.backend("triton")
    places = words(IDENTITY), words(IMAGE)
    for change, message in (
        ({"kind": "gamma"}, "kind must be one of"),
        ({"seed": 2**64}, "seed must be an integer"),
        ({"purpose": 2**32}, "purpose must be an integer"),
        ({"identity": torch.arange(4)}, "uint32 tensor"),
        ({"image": words([1])}, "one length"),
    ):
        arguments = {
            "kind": "bits",
            "seed": 0,
            "purpose": 1,
            "identity": places[0],
            "image": places[1],
            "n": 4,
        }
        with pytest.raises(ValueError, match=message):
            draw(**(arguments | change))
    vectors, sigma = torch.ones(4, 8), torch.ones(4)
    with pytest.raises(ValueError, match="found 4294967296 in row 1"):
        DRAWN.backend("triton")(vectors, sigma, 0, 1, [0, 2**32, 1, 2], IMAGE)
    with pytest.raises(ValueError, match=r"float32 vectors \[B, D\]"):
        DRAWN.backend("triton")(vectors.double(), sigma, 0, 1, IDENTITY, IMAGE)
