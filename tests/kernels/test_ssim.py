"""Structural similarity: the specification against its definition in NumPy, plain torch against the specification."""

import numpy as np
import pytest
import torch
from v2f_kernels.ssim import OP
from v2f_kernels.ssim.checks import taps

BACKENDS = ("reference", "torch")


def images(*shape, near=0.1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(sum(shape))
    left = torch.rand(shape, generator=generator, dtype=torch.float64)
    right = (left + near * torch.randn(shape, generator=generator, dtype=torch.float64)).clamp(0, 1)
    return left.to(dtype), right.to(dtype)


def by_definition(left, right):
    line = np.array(taps())
    window, values = np.outer(line, line), []
    for x, y in zip(left.flatten(0, 1).numpy(), right.flatten(0, 1).numpy(), strict=True):
        for top in range(x.shape[0] - 10):
            for at in range(x.shape[1] - 10):
                a, b = (image[top : top + 11, at : at + 11] for image in (x, y))
                ma, mb = (window * a).sum(), (window * b).sum()
                va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
                cov = (window * (a - ma) * (b - mb)).sum()
                light = (2 * ma * mb + 1e-4) / (ma**2 + mb**2 + 1e-4)
                values.append(light * (2 * cov + 9e-4) / (va + vb + 9e-4))
    return float(np.mean(values))


def test_the_window():
    assert sum(taps()) == pytest.approx(1.0, abs=1e-15)
    assert taps()[4] / taps()[5] == pytest.approx(np.exp(-1 / 4.5))
    assert len(taps()) == 11


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(2, 3, 14, 12), (1, 1, 11, 11)], ids=str)
def test_value_by_definition(backend, shape):
    left, right = images(*shape)
    ssim = OP.backend(backend)
    assert ssim(left, right).item() == pytest.approx(by_definition(left, right), abs=1e-12)
    assert ssim(left, left).item() == pytest.approx(1.0, abs=1e-12)


def test_gradients_of_the_specification():
    left, right = (image.requires_grad_() for image in images(1, 2, 12, 11))
    assert torch.autograd.gradcheck(OP.backend("reference"), (left, right))


@pytest.mark.parametrize("near", [0.3, 0.01])
def test_plain_torch_has_the_specifications_gradients(near):
    left, right = (image.requires_grad_() for image in images(2, 3, 30, 17, near=near))
    found, wanted = (torch.autograd.grad(OP.backend(name)(left, right), (left, right)) for name in BACKENDS)
    for mine, exact in zip(wanted, found, strict=True):
        torch.testing.assert_close(mine, exact, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(backend, dtype):
    left, right = images(1, 3, 16, 16, dtype=dtype)
    ssim = OP.backend(backend)
    assert ssim(left, right).dtype == torch.float32
    assert torch.equal(ssim(left, right), ssim(left.float(), right.float()))


X = torch.zeros(1, 3, 16, 16)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        (X[0], X[0], r"expected a non-empty \[B, C, H, W\] of at least 11 x 11"),
        (X[:, :, :10], X[:, :, :10], r"found \(1, 3, 10, 16\)"),
        (X, X[:, :2], r"right: expected the shape of left, \(1, 3, 16, 16\), found \(1, 2, 16, 16\)"),
        (X, X.half(), "one floating dtype, found torch.float32 and torch.float16"),
        (X.int(), X.int(), "one floating dtype"),
    ],
)
def test_errors_say_what_was_expected_and_found(backend, left, right, message):
    with pytest.raises(ValueError, match=message):
        OP.backend(backend)(left, right)
