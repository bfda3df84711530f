"""What stands between a recogniser's convolutions in training: the layers' own arithmetic."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from v2f_kernels.batch_norm_prelu import OP

from v2f_engine.models import iresnet, iresnet_block
from v2f_engine.models.batch_norm import mean_of_pixels
from v2f_engine.models.iresnet import IResNet, IResNetConfig
from v2f_engine.models.ops import Bound

CONFIG = IResNetConfig((2, 1, 1, 1), (16, 16, 32, 32), stem_stride=2, se=True, input_size=48)
Tensors = dict[str, torch.Tensor]


def stepped(config: IResNetConfig = CONFIG, *, bf16: bool = False) -> Tensors:
    """Features, every gradient and every buffer after one batch, by name."""
    torch.manual_seed(3)
    model = IResNet(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.PReLU)):
            nn.init.normal_(module.weight, 0.5, 0.5)  # of both signs
    images = torch.randn(4, 3, 48, 48).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        features = model.train()(images)
    (features * torch.randn(features.shape)).sum().backward()
    gradients = {f"d {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"features": features.detach(), **gradients, **dict(model.named_buffers())}


def by_layers(
    op: Any, x: torch.Tensor, norm: nn.Module, prelu: Any = None, residual: Any = None
) -> torch.Tensor:
    y = norm(x)
    y = y if prelu is None else prelu(y)
    return y if residual is None else y + residual


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(
    "changes", [{}, {"gate": "branch", "inner_norm": False}, {"shortcut": "subsampled"}], ids=str
)
def test_unbound_it_is_the_layers_bit_for_bit(
    changes: dict[str, Any], bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = IResNetConfig(**{**CONFIG.__dict__, **changes})
    found = stepped(config, bf16=bf16)
    with monkeypatch.context() as patch:
        for module in (iresnet, iresnet_block):
            patch.setattr(module, "normed", by_layers)
        patch.setattr(iresnet_block, "branched", lambda op, x, norm: (norm(x), x))
        patch.setattr(iresnet_block, "mean_of_pixels", lambda x: x.mean((2, 3), keepdim=True))
        expected = stepped(config, bf16=bf16)
    assert found.keys() == expected.keys()
    assert [name for name, value in expected.items() if not torch.equal(value, found[name])] == []


def test_every_norm_of_an_image_goes_through_the_op(monkeypatch: pytest.MonkeyPatch) -> None:
    """In training; in eval mode none does."""
    model = IResNet(CONFIG)
    seen: list[torch.Size] = []
    op = OP.backend("torch")

    def noted(x: torch.Tensor, *rest: Any, **named: Any) -> Any:
        seen.append(x.shape)
        return op(x, *rest, **named)

    for module in model.modules():
        if isinstance(module, Bound):
            module.ops = tuple(noted for _ in module.ops)
    model.train()(torch.rand(2, 3, 48, 48))
    assert len(seen) == sum(type(m) is nn.BatchNorm2d for m in model.modules())
    del seen[:]
    model.eval()(torch.zeros(2, 3, 48, 48))
    assert seen == []


def test_shape_classes_are_those_of_the_maps() -> None:
    model = IResNet(CONFIG)
    assert model.shapes() == ("C=16 HW=24", "C=32 HW=2")
    first, second = model.get_submodule("layer1.0"), model.get_submodule("layer1.1")
    assert first.shapes() == ("C=16 HW=24", "C=16 HW=24", "C=16 HW=12")  # type: ignore[operator]
    assert second.shapes() == ("C=16 HW=12", "C=16 HW=12", "C=16 HW=12")  # type: ignore[operator]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_mean_of_pixels_sends_back_the_same_numbers_and_no_layout(dtype: torch.dtype) -> None:
    x = torch.randn(2, 8, 5, 7).to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()

    def gradient(mean: Any) -> torch.Tensor:
        (dx,) = torch.autograd.grad((x * mean(x).sigmoid()).float().square().sum(), x)
        return dx

    found, expected = gradient(mean_of_pixels), gradient(lambda t: t.mean((2, 3), keepdim=True))
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(mean_of_pixels(x.detach()), x.detach().mean((2, 3), keepdim=True))
