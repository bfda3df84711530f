"""The specifications of a frozen recogniser's ops against closed forms and gradcheck; plain torch agrees."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from v2f_kernels.bias_prelu import OP as PRELU
from v2f_kernels.bias_residual import OP as RESIDUAL
from v2f_kernels.unit_distance import OP as DISTANCE

BACKENDS = ("reference", "torch")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("backend", BACKENDS)
def test_prelu_by_hand(backend: str) -> None:
    """3 rows of 1 pixel: first, inner and last line, and the only column."""
    bias = torch.zeros(4, 4, 1, dtype=torch.float64)
    bias[1, 3], bias[0, 3], bias[2, 3] = 10.0, 20.0, -30.0
    x = torch.tensor([1.0, 2.0, 3.0]).double().view(1, 1, 3, 1)
    y = PRELU.backend(backend)(x, bias, torch.tensor([0.5]).double())
    assert y.flatten().tolist() == [11.0, 22.0, -13.5]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [(5, 4), (1, 6), (2, 2), (1, 1)])
def test_a_bias_that_knows_the_edges_is_a_constant_image_behind_a_padded_convolution(
    size: tuple[int, int], backend: str
) -> None:
    """conv(x + c) = conv(x) + bias, though the padding has no c."""
    x, weight, constant = noise(2, 3, *size), noise(5, 3, 3, 3, seed=1), noise(3, seed=2)
    seen = torch.tensor(
        [[1, 1, 1], [0, 1, 1], [1, 1, 0], [0, 1, 0]]
    ).double()  # taps by line: inner, first, last, only
    bias = torch.einsum("ri,qj,ocij,c->rqo", seen, seen, weight, constant)
    y = PRELU.backend(backend)(F.conv2d(x, weight, padding=1), bias, torch.ones(5).double())
    torch.testing.assert_close(
        y, F.conv2d(x + constant[:, None, None], weight, padding=1), rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_in_fp64(backend: str) -> None:
    x, y = (noise(2, 4, 3, 2, seed=s).requires_grad_() for s in (1, 2))
    bias, slope, weight = noise(4, 4, 4, seed=3), noise(4, seed=4), noise(4, seed=5)
    check = torch.autograd.gradcheck
    assert check(lambda x: PRELU.backend(backend)(x, bias, slope), (x,))
    assert check(lambda x, y: RESIDUAL.backend(backend)(x, slope, y), (x, y))
    assert check(lambda x, y: DISTANCE.backend(backend)(x, y, weight, 0.5), (x, y))


def test_distance_by_hand() -> None:
    left, right = (torch.tensor(v).double().view(1, 2, 1, 1) for v in ([3.0, 4.0], [-4.0, 3.0]))
    call = DISTANCE.backend("reference")
    assert call(left, right).item() == pytest.approx(2.0)
    assert call(left, right, torch.tensor([1.0, 0.0])).item() == pytest.approx(1.4**2)
    assert call(left, 0 * right).item() == pytest.approx(1.0)
    assert call(left, right, floor=10.0).item() == pytest.approx(0.5)  # both divided by 10


def test_wide_inside_whatever_comes() -> None:
    half = noise(2, 8, 5, 5).to(torch.bfloat16)
    assert DISTANCE.backend("reference")(half, half).dtype == torch.float32
    bias = noise(8, seed=1).float()
    for call in (
        lambda n: PRELU.backend(n)(half, bias, bias),
        lambda n: RESIDUAL.backend(n)(half, bias, half),
    ):
        assert {call(name).dtype for name in BACKENDS} == {torch.bfloat16}


@pytest.mark.parametrize("backend", BACKENDS)
def test_refusals(backend: str) -> None:
    x, c = noise(2, 4, 3, 3), noise(4)
    for op, arguments, told in (
        (PRELU, (x[0], c, c), "x: expected a non-empty floating"),
        (PRELU, (x, noise(9, 4), c), r"bias: expected a floating \[4\] or \[4, 4, 4\], found torch.float64 \[9, 4\]"),
        (PRELU, (x, c, c.clone().requires_grad_()), "slope: expected a constant"),
        (RESIDUAL, (x, c, x[:, :, :2]), "shortcut: expected torch.float64"),
        (RESIDUAL, (x, c, x.float()), "shortcut: expected torch.float64"),
        (DISTANCE, (x, x.float()), "right: expected torch.float64"),
        (DISTANCE, (x, x, noise(5)), "weight: expected"),
        (DISTANCE, (x, x, None, 0.0), "floor: expected a number above 0"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=told):
            op.backend(backend)(*arguments)
