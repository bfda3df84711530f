"""A recogniser's training by the interpreted kernels of its norms, against torch's layers: gradients, buffers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from v2f_engine.models import bind_ops
from v2f_engine.models.iresnet import IResNet, IResNetConfig

CONFIG = IResNetConfig((2, 1, 1, 1), (16, 16, 32, 32), stem_stride=2, se=True, input_size=48)


def stepped(backend: str) -> dict[str, torch.Tensor]:
    """Features, every gradient and every buffer after two batches, by name."""
    torch.manual_seed(3)
    model = IResNet(CONFIG).to(memory_format=torch.channels_last)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.PReLU)):
            nn.init.normal_(module.weight, 0.5, 0.5)  # of both signs
    bind_ops(model, {"batch_norm_prelu": backend})
    for _ in range(2):
        images = torch.randn(4, 3, 48, 48).contiguous(memory_format=torch.channels_last)
        features = model.train()(images)
        (features * torch.randn(features.shape)).sum().backward()
    gradients = {f"d {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"features": features.detach(), **gradients, **dict(model.named_buffers())}


@pytest.mark.interpreter
def test_a_network_trains_by_the_kernels() -> None:
    exact, found = stepped("torch"), stepped("triton")
    assert exact.keys() == found.keys()
    # Biases in front of a norm have no gradient but rounding: they are judged by the size of the others.
    noise = 1e-5 * max(float(value.abs().max()) for name, value in exact.items() if name.startswith("d "))
    for name, value in exact.items():
        if name.endswith("num_batches_tracked"):
            assert torch.equal(value, found[name])
        else:
            assert (found[name] - value).abs().max() <= 1e-3 * value.abs().max() + noise, name
