"""The discriminator by its parts: what its ops are called with, and the function of its layers, written out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from v2f_kernels._shapes import parse_shape

from v2f_engine.models import bind_ops
from v2f_engine.models.discriminator import PatchDiscriminator
from v2f_engine.models.ops import Bound


def written_out(model: PatchDiscriminator, images: torch.Tensor) -> torch.Tensor:
    """By torch's own functions alone, from the parameters by their published names."""
    p = dict(model.named_parameters())

    def conv(name: str, x: torch.Tensor, stride: int = 1, padding: int = 0) -> torch.Tensor:
        return F.conv2d(x, p[f"{name}.weight"], p[f"{name}.bias"], stride, padding)

    stem = [conv(f"layers.0.0.convs.{i}", images, padding=k // 2) for i, k in enumerate((3, 7, 15))]
    x = F.leaky_relu(torch.cat(stem, 1), 0.1)
    for n in (1, 2, 3):
        x = F.leaky_relu(conv(f"layers.{n}.0", x, 2, 1), 0.1)
        x = F.group_norm(x, 8, p[f"layers.{n}.2.weight"], p[f"layers.{n}.2.bias"])
        block = f"layers.{n}.3.block"
        h = F.group_norm(x, 8, p[f"{block}.groupnorm.weight"], p[f"{block}.groupnorm.bias"])
        x = x + conv(f"{block}.project", F.leaky_relu(h, 0.1), padding=1)
    return conv("to_logits.2", F.leaky_relu(conv("to_logits.0", x), 0.1))


def model_of(width: int) -> PatchDiscriminator:
    torch.manual_seed(5)
    model = PatchDiscriminator(width).double().to(memory_format=torch.channels_last)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # norms that are not 1 and 0, biases that matter
                parameter.add_(torch.randn_like(parameter) / 3)
    return model


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_function_and_every_gradient(backend: str) -> None:
    model = model_of(8)
    bind_ops(model, dict.fromkeys(("group_norm_leaky", "conv3x3", "multi_scale_stem"), backend))
    images = torch.randn(2, 3, 112, 112, dtype=torch.float64).requires_grad_()
    leaves = [images, *model.parameters()]
    found, wanted = model(images), written_out(model, images)
    assert found.shape == (2, 1, 11, 11)
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)
    gradients = (torch.autograd.grad(y.square().sum(), leaves) for y in (found, wanted))
    for mine, exact in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, exact, rtol=1e-9, atol=1e-10)


def test_a_bias_left_out_of_a_convolution_is_added_by_its_norm() -> None:
    """As beyond a CPU: every stage's convolution runs without its bias, and its norm is handed it."""
    model, seen = model_of(8), []
    for stage in model.layers[1:]:
        conv, norm = stage[0], stage[2]  # type: ignore[index]
        x = torch.randn(2, conv.in_channels, 12, 12, dtype=torch.float64)
        bare = F.conv2d(x, conv.weight, None, 2, 1)
        seen.append(torch.allclose(norm(bare, conv.bias), norm(conv(x)), atol=1e-11))
        assert not torch.allclose(norm(bare), norm(conv(x)), atol=1e-3)
    assert seen == [True] * 3
    noted: list[tuple[bool, bool]] = []
    with torch.device("meta"):
        elsewhere = PatchDiscriminator()
    for module in elsewhere.modules():
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module._conv_forward = lambda x, w, b: (  # type: ignore[method-assign]
                noted.append((b is None, True)) or F.conv2d(x, w, b, 2, 1)  # type: ignore[func-returns-value]
            )
    elsewhere(torch.empty(1, 3, 112, 112, device="meta"))
    assert noted == [(True, True)] * 3


def test_its_ops_meet_the_shapes_they_were_bound_for() -> None:
    with torch.device("meta"):
        model = PatchDiscriminator()
    met: list[tuple[str, str, tuple[int, ...]]] = []
    for module in model.modules():
        if isinstance(module, Bound):
            module.ops = tuple(
                lambda x, *a, op=op, shape=shape, function=function, **named: (
                    met.append((op, shape, tuple(x.shape))) or function(x, *a, **named)
                )
                for op, shape, function in zip(module.uses, module.shapes(), module.ops, strict=True)
            )
    model(torch.empty(1, 3, 112, 112, device="meta"))
    assert [op for op, *_ in met] == [
        "multi_scale_stem",
        *["group_norm_leaky", "group_norm_leaky", "conv3x3"] * 3,
    ]
    assert met.pop(0)[1:] == ("O=64 HW=112", (1, 3, 112, 112))
    for op, shape, sizes in met:
        reported = parse_shape(op, shape)
        assert (reported["C"], reported["HW"]) == (sizes[1], sizes[2]) == (sizes[1], sizes[3])
