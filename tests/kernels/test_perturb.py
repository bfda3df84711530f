"""Perturbation: length kept, rows independent, gradients right, the same numbers from NumPy and torch."""

import numpy as np
import pytest
import torch
from v2f_kernels import _cosine
from v2f_kernels.perturb import DRAWN, MEASURED, OP
from v2f_kernels.philox import DRAW

perturb, perturb_drawn, draw = OP.backend("reference"), DRAWN.backend("reference"), DRAW.backend("reference")


def inputs(b=64, d=512):
    x = draw("normal", 0, 1, np.arange(b), 0, d) * np.float32(0.97)
    return x, np.linspace(0, 1, b).astype(np.float32), draw("normal", 0, 3, np.arange(b), 5, d)


@pytest.mark.parametrize("d", [1, 3, 7, 12, 48, 512])
def test_length_is_kept_and_zero_sigma_changes_nothing(d):
    x, sigma, noise = inputs(d=d)
    y = perturb(x, sigma, noise)
    assert y.dtype == np.float32
    assert np.allclose(_cosine.norm(y), _cosine.norm(x), rtol=3e-7)
    assert np.array_equal(y[0], x[0])


def test_direction_is_that_of_vector_plus_noise():
    x, sigma, noise = inputs()
    wide = x.astype(float) + sigma[:, None].astype(float) * noise
    wide *= (_cosine.norm(x) / np.linalg.norm(wide, axis=1))[:, None]
    assert np.allclose(perturb(x, sigma, noise), wide, rtol=0, atol=2e-6)


def test_expected_cosine():
    x, _, noise = inputs(2000)
    for level in (0.3, 0.5, 0.7):
        sigma = np.full(2000, level, np.float32)
        expected = 1 / np.sqrt(1 + 512 * level**2 / _cosine.dot(x, x))
        assert abs(np.mean(_cosine.cosine(x, perturb(x, sigma, noise)) - expected)) < 0.002


def test_rows_do_not_depend_on_the_batch():
    x, sigma, noise = inputs()
    whole = perturb(x, sigma, noise)
    for size in (1, 7):
        parts = [
            perturb(x[i : i + size], sigma[i : i + size], noise[i : i + size]) for i in range(0, 64, size)
        ]
        assert np.array_equal(np.concatenate(parts), whole)


def test_torch_agrees_and_has_right_gradients():
    x, sigma, noise = inputs()
    from_torch = perturb(*(torch.from_numpy(a) for a in (x, sigma, noise)))
    assert np.allclose(from_torch.numpy(), perturb(x, sigma, noise), rtol=2.5e-7, atol=0)
    small = [torch.from_numpy(a).requires_grad_() for a in inputs(4, 12)]
    weight = torch.linspace(-1, 1, 48).reshape(4, 12)
    (perturb(*small) * weight).sum().backward()
    for k, name in enumerate(("vectors", "sigma", "noise")):
        flat = small[k].detach().reshape(-1)
        for entry in range(0, flat.numel(), 5 if name != "sigma" else 1):
            step = torch.zeros_like(flat)
            step[entry] = 1e-2
            sides = []
            for sign in (1, -1):
                changed = [t.detach() for t in small]
                changed[k] = (flat + sign * step).reshape(small[k].shape)
                sides.append((perturb(*changed) * weight).sum().item())
            slope = (sides[0] - sides[1]) / 2e-2
            assert abs(small[k].grad.reshape(-1)[entry].item() - slope) < 2e-3 * (1 + abs(slope)), (
                name,
                entry,
            )


def test_drawn_is_perturb_with_philox_normals():
    x, sigma, _ = inputs(9)
    identity, image = np.arange(9) * 3, np.arange(9) % 4
    noise = draw("normal", 77, 3, identity, image, 512)
    expected = perturb(x, sigma, noise)
    assert np.array_equal(perturb_drawn(x, sigma, 77, 3, identity, image), expected)
    from_torch = perturb_drawn(torch.from_numpy(x), torch.from_numpy(sigma), 77, 3, identity, image)
    assert np.allclose(from_torch.numpy(), expected, rtol=2.5e-7, atol=0)


def test_refusals():
    x, sigma, noise = inputs()
    for bad in [
        (x, sigma[:3], noise),
        (x, sigma, noise[:, :5]),
        (x.astype(float), sigma, noise),
        (x[0], sigma, noise),
    ]:
        with pytest.raises(ValueError, match="perturb expects float32"):
            perturb(*bad)


@pytest.mark.parametrize("d", [1, 2, 3, 7, 48, 512, 1000, 4096])
def test_the_compiled_form_gives_the_same_bits(d):
    x, sigma, _ = inputs(300, d)
    place = 2**40 + 7, 3, np.arange(300) * 977, np.arange(300) % 7
    y, cosine = MEASURED.backend("native")(x, sigma, *place)
    assert np.array_equal(y, perturb_drawn(x, sigma, *place))
    assert cosine.dtype == np.float64
    assert np.array_equal(cosine, _cosine.cosine(x, y))
    for part, whole in zip(MEASURED.backend("reference")(x, sigma, *place), (y, cosine), strict=True):
        assert np.array_equal(part, whole)
    some, _ = MEASURED.backend("native")(x[::3], sigma[::3], *place[:2], *(p[::3] for p in place[2:]))
    assert np.array_equal(some, y[::3])


def test_the_compiled_form_refuses_what_does_not_fit():
    x, sigma, _ = inputs(4, 8)
    native = MEASURED.backend("native")
    for bad in ((x.astype(float), sigma), (x, sigma[:3]), (x[0], sigma), (x[:, :0], sigma)):
        with pytest.raises(ValueError, match="perturb expects float32"):
            native(*bad, 0, 3, np.arange(4), 0)
    with pytest.raises(ValueError, match="4 places"):
        native(x, sigma, 0, 3, np.arange(3), 0)
