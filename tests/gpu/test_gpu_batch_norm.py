"""Batch normalisation with PReLU on hardware, in bfloat16 too, which no interpreter can do; a network's step by it."""

import pytest
import torch
from torch import nn
from v2f_kernels._judge import judge
from v2f_kernels.batch_norm_prelu import OP

from v2f_engine.models import bind_ops
from v2f_engine.models.iresnet import IResNet, IResNetConfig

pytestmark = pytest.mark.gpu

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
SIZES = [(64, 112), (128, 28), (256, 14), (512, 7), (20, 9), (3, 1)]


def noise(*shape, seed=0, dtype=torch.float32, scale=1.0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    x = (torch.randn(*shape, generator=generator) * scale + shift).to("cuda", dtype)
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def made(backend, named, through):
    """Output, gradients and running statistics, by name; and the counter."""
    leaves = {k: t.detach().requires_grad_() for k, t in named.items()}
    channels, inner = leaves["x"].shape[1], leaves["weight"].dtype
    mean, variance = noise(channels, seed=5).to(inner), noise(channels, seed=6).abs().to(inner)
    batches = torch.tensor(7, device="cuda")
    y = OP.backend(backend)(
        leaves["x"], leaves["weight"], leaves["bias"], mean, variance, batches, 0.1, 1e-5, leaves.get("slope"),
        leaves.get("residual"), through,
    )  # fmt: skip
    y = y[0] + 0.5 * y[1] if through else y
    upstream = noise(*y.shape, seed=9, dtype=torch.bfloat16).to(y.dtype)
    gradients = torch.autograd.grad(y, list(leaves.values()), upstream)
    assert int(batches) == 8
    return {"y": y.detach(), "mean": mean, "variance": variance, **dict(zip(leaves, gradients, strict=True))}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("sloped", "added", "through"), [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_judged_against_fp64_and_repeated(size, dtype, sloped, added, through):
    channels, side = size
    named = {
        "x": noise(16, channels, side, side, dtype=dtype, scale=2, shift=1),
        "weight": noise(channels, seed=1),
        "bias": noise(channels, seed=2),
    }
    if sloped:
        named["slope"] = noise(channels, seed=3, scale=0.3)
    if added:
        named["residual"] = noise(16, channels, side, side, seed=4, dtype=dtype)
    found, again = (made("triton", named, bool(through)) for _ in range(2))
    native = made("torch", named, bool(through))
    exact = made("reference", {k: t.double() for k, t in named.items()}, bool(through))
    for name, mine in found.items():
        verdict = judge(mine, exact[name], native[name], 4.0 if mine.dtype == torch.float32 else 2.0)
        assert verdict.passed, f"{name}: {verdict}"
        assert torch.equal(mine, again[name]), name
        assert mine.ndim < 4 or mine.is_contiguous(memory_format=torch.channels_last), name


def stepped(backend, dtype):
    """Features, gradients and buffers of a small recogniser after one batch."""
    torch.manual_seed(0)
    model = IResNet(IResNetConfig((2, 2, 2, 2), (64, 64, 128, 128), se=True)).cuda().train()
    model.to(memory_format=torch.channels_last)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.PReLU)):
            nn.init.normal_(module.weight, 0.5, 0.5)
    bind_ops(model, {"batch_norm_prelu": backend})
    images = noise(16, 3, 112, 112, seed=1)
    with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
        features = model(images)
    (features * noise(*features.shape, seed=2)).sum().backward()
    gradients = {f"d {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"features": features.detach(), **gradients, **dict(model.named_buffers())}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_network_is_as_close_to_fp32_as_with_torchs_layers(dtype, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    exact, native, found = (
        stepped("torch", torch.float32), stepped("torch", dtype), stepped("triton", dtype)
    )  # fmt: skip
    assert all(value.isfinite().all() for value in found.values())

    def distance(other):
        names = [name for name in exact if name.startswith("d ") or name == "features"]
        whole = sum(float((other[n] - exact[n]).double().square().sum()) for n in names)
        return (whole / sum(float(exact[n].double().square().sum()) for n in names)) ** 0.5

    assert distance(found) <= 1.5 * distance(native) + 1e-3
    counters = [name for name in exact if name.endswith("num_batches_tracked")]
    assert all(torch.equal(found[name], exact[name]) for name in counters)
