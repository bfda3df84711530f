"""Structural similarity's kernels on hardware: judged at a training's size and odd ones, repeatable, capturable."""

from __future__ import annotations

import pytest
import torch
from v2f_kernels._judge import judge
from v2f_kernels.ssim import OP

pytestmark = pytest.mark.gpu

ORDERS = {"NHWC": torch.channels_last, "NCHW": torch.contiguous_format}


def images(shape: tuple[int, ...], order: str) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    left = torch.rand(shape, generator=generator)
    right = (left + 0.1 * torch.randn(shape, generator=generator)).clamp(0, 1)
    return [image.to("cuda").contiguous(memory_format=ORDERS[order]) for image in (left, right)]


def results(backend: str, left: torch.Tensor, right: torch.Tensor, both: bool) -> dict[str, torch.Tensor]:
    a, b = left.clone().requires_grad_(), right.clone().requires_grad_(both)
    value = OP.backend(backend)(a, b)
    (3 * value).backward()
    found = {"value": value.detach(), "left": a.grad, **({"right": b.grad} if both else {})}
    return {name: value for name, value in found.items() if value is not None}


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", [(32, 3, 112, 112), (3, 3, 37, 29), (1, 1, 11, 11)], ids=str)
def test_value_and_gradients(shape: tuple[int, ...], order: str, both: bool) -> None:
    left, right = images(shape, order)
    found, plain = (results(backend, left, right, both) for backend in ("triton", "torch"))
    exact = results("reference", left.double(), right.double(), both)
    for name, value in found.items():
        verdict = judge(value, exact[name], plain[name], factor=4.0)
        assert verdict.passed, f"{name}: {verdict}"
    again = results("triton", left, right, both)
    assert all(torch.equal(value, again[name]) for name, value in found.items())


def test_a_graph_holds_it() -> None:
    left, right = images((4, 3, 112, 112), "NHWC")
    leaf, ssim = left.clone().requires_grad_(), OP.backend("triton")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        ssim(leaf, right).backward()
    torch.cuda.synchronize()
    leaf.grad = None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        (gradient,) = torch.autograd.grad(ssim(leaf, right), leaf)
    graph.replay()
    torch.testing.assert_close(3 * gradient, results("triton", left, right, both=False)["left"])
