"""A frozen recogniser's ops on hardware, in bfloat16 too, which no interpreter can do; and the view they are for."""

import pytest
import torch
from v2f_kernels._judge import judge
from v2f_kernels.bias_prelu import OP as PRELU
from v2f_kernels.bias_residual import OP as RESIDUAL
from v2f_kernels.unit_distance import OP as DISTANCE

from v2f_engine.backends import choose
from v2f_engine.models.frozen_iresnet import FrozenIResNet
from v2f_engine.models.iresnet import IResNet, IResNetConfig
from v2f_engine.train.view import open_view

pytestmark = pytest.mark.gpu

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
SIZES = [
    (64, 112, 112),
    (64, 56, 56),
    (128, 28, 28),
    (256, 14, 14),
    (512, 7, 7),
    (20, 5, 9),
    (3, 1, 4),
    (8, 1, 1),
]


def noise(*shape, seed=0, dtype=torch.float32):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to("cuda", dtype)
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def compare(op, moving, constants):
    """Output and gradients against fp64, twice with the same bits, in channels-last memory."""
    found = {}
    for name, dtype in (("triton", None), ("again", None), ("reference", torch.float64), ("torch", None)):
        leaves = {k: t.detach().to(dtype or t.dtype).requires_grad_() for k, t in moving.items()}
        fixed = {k: t.to(dtype or t.dtype) for k, t in constants.items()}
        y = op.backend("triton" if name == "again" else name)(**leaves, **fixed)
        upstream = noise(*y.shape, seed=9, dtype=torch.bfloat16).to(y.dtype)
        made = torch.autograd.grad(y, list(leaves.values()), upstream)
        found[name] = {"output": y.detach(), **dict(zip(leaves, made, strict=True))}
    for name, mine in found["triton"].items():
        factor = 4.0 if mine.dtype == torch.float32 else 2.0
        verdict = judge(mine, found["reference"][name], found["torch"][name], factor)
        assert verdict.passed, f"{name}: {verdict}"
        assert torch.equal(mine, found["again"][name]), name
        assert mine.ndim < 4 or mine.is_contiguous(memory_format=torch.channels_last), name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_ops(size, dtype):
    channels = size[0]
    x, y = (noise(8, *size, seed=s, dtype=dtype) for s in (1, 2))
    for bias in (noise(channels, seed=3), noise(4, 4, channels, seed=3)):
        compare(PRELU, {"x": x}, {"bias": bias, "slope": noise(channels, seed=4)})
    compare(RESIDUAL, {"x": x, "shortcut": y}, {"bias": noise(channels, seed=3)})
    for weight in ({}, {"weight": noise(channels, seed=5).abs()}):
        compare(DISTANCE, {"left": x, "right": y}, weight)


def recogniser(**kind):
    torch.manual_seed(0)
    model = IResNet(IResNetConfig((2, 2, 2, 2), (64, 64, 128, 128), **kind)).cuda().train()
    with torch.no_grad():
        for _ in range(30):
            model(torch.rand(16, 3, 112, 112, device="cuda") * 2 - 1)
    return model.to(memory_format=torch.channels_last).eval()


@pytest.mark.parametrize(
    "kind", [{}, {"se": True}, {"se": True, "gate": "branch", "shortcut": "subsampled"}], ids=str
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_view_sees_what_the_plain_recogniser_sees(precision, kind, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    model = recogniser(**kind)
    fake, real = (noise(6, 3, 112, 112, seed=s).clamp(-1, 1) for s in (1, 2))
    found = []
    for choice in (choose("cuda", precision, gradients=True), None):
        view, x = open_view(model, None, 5, choice).to("cuda"), fake.clone().requires_grad_()
        assert isinstance(view.recogniser.recogniser, IResNet if choice is None else FrozenIResNet)
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
            seen = view(x, real)
        (seen.distance + seen.features.square().mean()).backward()
        found.append((seen.distance.detach(), seen.features.detach(), x.grad))
    for mine, theirs in zip(*found, strict=True):
        off = (
            mine.double() - theirs.double()
        ).square().mean().sqrt() / theirs.double().square().mean().sqrt()
        assert off < (1e-4 if precision == "fp32" else 0.1)


def test_a_step_of_the_view_is_captured():
    """Nothing is made on the host: the bias tables, the gates and the last Linear lie on the device."""
    view = open_view(recogniser(se=True), None, 5, choose("cuda", "bf16", gradients=True)).to("cuda")
    fake, real = (noise(4, 3, 112, 112, seed=s).clamp(-1, 1) for s in (1, 2))
    fake.requires_grad_()

    def step():
        fake.grad = None
        with torch.autocast("cuda", torch.bfloat16):
            seen = view(fake, real)
        (seen.distance + seen.features.square().mean()).backward()

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
        eager = fake.grad.clone()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=side):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(fake.grad, eager)
