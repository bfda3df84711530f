"""The Triton form of structural similarity under the interpreter: value and gradients judged, odd sizes, poison."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from v2f_kernels.ssim import OP

pytestmark = pytest.mark.interpreter

ORDERS = {"NHWC": torch.channels_last, "NCHW": torch.contiguous_format}


def images(shape: tuple[int, ...], order: str, near: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    """Two in [0, 1], the second the first with noise of scale `near`."""
    generator = torch.Generator().manual_seed(sum(shape))
    left = torch.rand(shape, generator=generator)
    right = (left + near * torch.randn(shape, generator=generator)).clamp(0, 1)
    return tuple(image.contiguous(memory_format=ORDERS[order]) for image in (left, right))  # type: ignore[return-value]


def results(
    function: Callable[..., Any], left: torch.Tensor, right: torch.Tensor, wanted: str = "lr"
) -> dict[str, torch.Tensor]:
    """The value and the gradients of three times it, by the letters of `wanted`."""
    leaves = {"l": left.clone(), "r": right.clone()}
    for name in wanted:
        leaves[name].requires_grad_()
    value = function(leaves["l"], leaves["r"])
    (3 * value).backward()
    return {"value": value.detach(), **{f"d{name}": leaves[name].grad for name in wanted}}


@pytest.mark.parametrize(
    ("shape", "order", "wanted"),
    [
        ((2, 3, 37, 29), "NHWC", "lr"),
        ((2, 3, 12, 60), "NHWC", "l"),
        ((1, 4, 30, 13), "NHWC", "r"),
        ((1, 2, 21, 140), "NCHW", "l"),
        ((2, 3, 14, 15), "NCHW", "lr"),
        ((1, 1, 11, 11), "NCHW", "lr"),
    ],
    ids=str,
)
def test_value_and_gradients(
    shape: tuple[int, ...], order: str, wanted: str, poisoned: None, assert_judged: Callable[..., None]
) -> None:
    left, right = images(shape, order)
    found = results(OP.backend("triton"), left, right, wanted)
    exact = results(OP.backend("reference"), left.double(), right.double(), wanted)
    plain = results(OP.backend("torch"), left, right, wanted)
    assert_judged({name: (found[name], exact[name], plain[name]) for name in found})
    for name in wanted:
        assert found[f"d{name}"].stride() == left.stride()


def test_images_of_two_memory_orders_and_of_half_precision() -> None:
    left, right = images((2, 3, 20, 15), "NHWC")
    ssim = OP.backend("triton")
    assert torch.equal(ssim(left, right.contiguous()), ssim(left, right))
    half = ssim(left.half(), right.half())
    assert half.dtype == torch.float32
    assert torch.equal(half, ssim(left.half().float(), right.half().float()))


def test_flat_and_equal_images() -> None:
    """Where variances cancel to nothing: 1, and a gradient that is finite."""
    flat = torch.full((1, 3, 16, 16), 0.7)
    found = results(OP.backend("triton"), flat, flat.clone())
    assert found["value"].item() == pytest.approx(1.0, abs=1e-4)
    assert all(bool(torch.isfinite(value).all()) for value in found.values())


def test_it_repeats_bit_by_bit_and_keeps_nothing_without_gradients() -> None:
    module = import_module("v2f_kernels.ssim.triton_op")
    left, right = images((2, 3, 37, 29), "NHWC")
    first, second = (results(module.ssim, left, right) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    mean, slopes = module.forward_op(left, right, 0)
    assert torch.equal(mean, first["value"])
    assert slopes.numel() == 0


def test_registered_ops_pass_opcheck() -> None:
    module = import_module("v2f_kernels.ssim.triton_op")
    left, right = (image.requires_grad_() for image in images((1, 2, 13, 12), "NHWC"))
    torch.library.opcheck(module.forward_op, (left, right, module.OF_BOTH))
    torch.library.opcheck(module.forward_op, (left, right.detach(), module.OF_LEFT))
    slopes = module.forward_op(left, right, module.OF_LEFT)[1].detach()
    torch.library.opcheck(module.backward_op, (slopes, left.detach(), right.detach(), torch.tensor(2.0)))


def test_double_precision_is_refused() -> None:
    left, right = images((1, 1, 11, 11), "NCHW")
    with pytest.raises(ValueError, match="computes in float32"):
        OP.backend("triton")(left.double(), right.double())
