"""A frozen recogniser is the plain one: any shape of network, forward and gradient; no weight is cast or learns."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_weights import randomised
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from v2f_engine.models import bind_ops
from v2f_engine.models.frozen_iresnet import FrozenIResNet
from v2f_engine.models.iresnet import IResNet, IResNetConfig
from v2f_engine.models.perceptual import RecogniserView


def recogniser(config: IResNetConfig, seed: int = 0) -> IResNet:
    """In fp64."""
    return randomised(IResNet(config).double(), seed).requires_grad_(False)


def pictures(config: IResNetConfig, batch: int = 2) -> torch.Tensor:
    side = config.input_size
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(batch, 3, side, side, generator=generator, dtype=torch.float64) * 2 - 1
    return x.contiguous(memory_format=torch.channels_last)


def seen(model: Any, images: torch.Tensor) -> list[torch.Tensor]:
    """All four maps, the features, and the gradient that a seeded mix of them sends to the images."""
    x = images.clone(memory_format=torch.preserve_format).requires_grad_()
    maps = model.stages(x)
    found = [*maps, model.head(maps[-1])]
    generator = torch.Generator().manual_seed(5)
    mix = [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o.dtype) for o in found]
    (gradient,) = torch.autograd.grad(found, x, mix)
    return [*(o.detach() for o in found), gradient]


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected.double()).abs().max() / expected.double().abs().max())


shapes = st.builds(
    IResNetConfig,
    layers=st.tuples(*[st.integers(1, 2)] * 4),
    widths=st.tuples(*[st.sampled_from((16, 17, 24))] * 4),
    stem_stride=st.sampled_from((1, 2)),
    se=st.booleans(),
    feature_dim=st.sampled_from((5, 8)),
    input_size=st.integers(1, 24),
    shortcut=st.sampled_from(("projected", "subsampled")),
    inner_norm=st.booleans(),
    gate=st.sampled_from(("shortcut", "branch")),
    blur=st.booleans(),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(shapes)
def test_any_frozen_recogniser_computes_the_same(config: IResNetConfig) -> None:
    """In fp64 to 1e-10; maps of a single line have padding on both sides."""
    model = recogniser(config)
    images = pictures(config)
    with torch.enable_grad():
        wanted, found = seen(model, images), seen(FrozenIResNet(model, torch.float64), images)
    for name, mine, theirs in zip(("1", "2", "3", "4", "features", "gradient"), found, wanted, strict=True):
        assert mine.shape == theirs.shape
        assert relative(mine, theirs) < 1e-10, name


def test_the_original_is_left_alone_and_nothing_of_it_is_shared() -> None:
    model = recogniser(IResNetConfig((1, 1, 1, 1), (4, 8, 8, 8), input_size=16))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    frozen = FrozenIResNet(model, torch.float64)
    for constant in frozen.buffers():
        constant.zero_()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(TypeError, match="folded before"):
        FrozenIResNet(_without_norm(model), torch.float64)


def _without_norm(model: IResNet) -> IResNet:
    model.bn1 = nn.Identity()
    return model


class Calls(TorchDispatchMode):
    """Casts of the given tensors, what convolutions met in another order of memory, and every operator's count."""

    def __init__(self, constants: list[torch.Tensor]) -> None:
        super().__init__()
        self.constants = {tensor.untyped_storage().data_ptr() for tensor in constants}
        self.casts: list[str] = []
        self.astray: list[str] = []
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        self.count[name] += 1
        if name == "_to_copy" and args[0].untyped_storage().data_ptr() in self.constants:
            self.casts.append(str(tuple(args[0].shape)))
        if name.startswith("convolution"):
            self.astray += [
                f"{name} {tuple(tensor.shape)} {tensor.stride()}"
                for tensor in (*args, *(made if isinstance(made, tuple) else (made,)))
                if isinstance(tensor, torch.Tensor)
                and tensor.ndim == 4
                and not tensor.is_contiguous(memory_format=torch.channels_last)
            ]
        return made


@pytest.mark.parametrize(
    "kind", [{}, {"se": True}, {"se": True, "gate": "branch", "shortcut": "subsampled"}], ids=str
)
def test_a_step_casts_no_weight_and_stays_channels_last(kind: dict[str, Any]) -> None:
    """Under autocast, forward and backward; the plain recogniser casts every weight at every pass."""
    config = IResNetConfig((1, 2, 1, 1), (16, 16, 24, 32), input_size=32, **kind)
    model = recogniser(config).float().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    casts = {}
    for name, judged in (("plain", model), ("frozen", FrozenIResNet(model, torch.bfloat16))):
        view = RecogniserView(judged)
        bind_ops(
            view, {"bias_prelu": "reference", "bias_residual": "reference"}
        )  # as the kernels, they read fp32 biases
        images = pictures(config).float().requires_grad_()
        with Calls([*view.parameters(), *view.buffers()]) as calls:
            with torch.autocast("cpu", torch.bfloat16):
                maps, features = view(images)
                view(images.detach(), whole=False)
            torch.autograd.backward([*maps, features], [torch.ones_like(m) for m in (*maps, features)])
        casts[name] = len(calls.casts)
        assert features.dtype == torch.float32
        assert not any(tensor.requires_grad or tensor.grad is not None for tensor in view.parameters())
        if name == "frozen":
            assert not list(view.parameters())
            assert not calls.astray
            assert not any("norm" in operator for operator in calls.count)
    assert casts["frozen"] == 0 < casts["plain"]


def test_half_precision_is_as_near_as_autocast() -> None:
    """Of the plain recogniser; fewer roundings stand between two convolutions here."""
    config = IResNetConfig((2, 2, 2, 1), (16, 16, 24, 32), input_size=48)
    model, images = recogniser(config), pictures(config, batch=4)
    wanted, frozen = seen(model, images), FrozenIResNet(model, torch.bfloat16)
    bind_ops(frozen, {"bias_prelu": "reference", "bias_residual": "reference"})
    with torch.autocast("cpu", torch.bfloat16):
        found = [seen(judged, images.float()) for judged in (frozen, model.float())]
    errors = [
        [
            float((m.double() - w).square().mean().sqrt() / w.square().mean().sqrt())
            for m, w in zip(f, wanted, strict=True)
        ]
        for f in found
    ]
    for mine, theirs in zip(*errors, strict=True):
        assert mine < 1.1 * theirs < 0.1, errors


def test_a_view_ends_where_it_is_read() -> None:
    """Compared maps of real images need neither the stages behind them nor the head; they are the same maps."""
    config = IResNetConfig((1, 1, 1, 1), (4, 8, 8, 8), input_size=16)
    model, images = recogniser(config), pictures(config)
    for judged in (model, FrozenIResNet(model, torch.float64)):
        view = RecogniserView(judged, stages=(2, 0))
        with Calls([]) as whole:
            maps, _ = view(images)
        with Calls([]) as short:
            fewer, none = view(images, whole=False)
        assert none is None
        assert [m.shape[1] for m in fewer] == [8, 4]
        assert all(torch.equal(a, b) for a, b in zip(maps, fewer, strict=True))
        assert short.count["convolution"] == whole.count["convolution"] - 3  # two, and the projection
        assert short.count["addmm"] == 0 < whole.count["addmm"]
