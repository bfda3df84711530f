"""What judges images in training: on a CPU the recogniser itself, on a GPU its frozen form, bound by the choice."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from v2f_engine.backends import Choice, choose
from v2f_engine.models.frozen_iresnet import FrozenIResNet
from v2f_engine.models.iresnet import IResNet, IResNetConfig
from v2f_engine.models.perceptual import MapDistance, map_distance
from v2f_engine.train.view import FrozenView, open_view


def recogniser() -> IResNet:
    torch.manual_seed(0)
    model = IResNet(IResNetConfig((1, 2, 1, 1), (8, 16, 16, 32), stem_stride=2))
    model.train()
    with torch.no_grad():
        for _ in range(30):  # norms that have seen something
            model(torch.rand(8, 3, 112, 112) * 2 - 1)
    return model.eval()


def card(precision: str, **backends: str) -> Choice:
    """A GPU's choice whose backends run here."""
    plain = choose("cpu", precision, gradients=True)
    return replace(plain, device="cuda:0", backends={**plain.backends, **backends})


def step(view: FrozenView) -> list[torch.Tensor]:
    """Distance, features and the gradient of generated images."""
    generator = torch.Generator().manual_seed(1)
    fake, real = (torch.rand(3, 3, 112, 112, generator=generator) * 2 - 1 for _ in range(2))
    fake.requires_grad_()
    seen = view(fake, real)
    (seen.distance + seen.features.square().mean()).backward()
    assert fake.grad is not None
    return [seen.distance.detach(), seen.features.detach(), fake.grad]


def test_a_cpu_keeps_the_recogniser_and_its_numbers() -> None:
    model = recogniser()
    views = [open_view(model, None, 5, choice) for choice in (choose("cpu", "fp32", gradients=True), None)]
    assert all(view.recogniser.recogniser is model for view in views)
    assert all(torch.equal(a, b) for a, b in zip(step(views[0]), step(views[1]), strict=True))
    images = torch.rand(2, 3, 112, 112)
    maps = [model.stages(x)[:3] for x in (images, images.flip(0))]
    assert torch.equal(views[0](images, images.flip(0)).distance, map_distance(*maps).mean())


def test_a_gpu_gets_the_frozen_form_and_leaves_the_recogniser_alone() -> None:
    model = recogniser()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    view = open_view(model, None, 5, card("fp32"))
    assert isinstance(view.recogniser.recogniser, FrozenIResNet)
    for mine, theirs in zip(step(view), step(open_view(model, None, 5)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5 * float(theirs.abs().max()))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in (*model.parameters(), *view.parameters()))


def test_each_op_is_bound_for_its_own_shape() -> None:
    from v2f_kernels._tuned import Pick

    shapes = {
        "bias_residual": {"C=16 HW=14": Pick("reference", "x")},
        "unit_distance": {"C=8 HW=28": Pick("x", "x")},
    }
    with pytest.raises(LookupError, match="unit_distance"):
        open_view(recogniser(), None, 5, replace(card("bf16"), shapes=shapes))
    del shapes["unit_distance"]
    frozen = open_view(recogniser(), None, 5, replace(card("bf16"), shapes=shapes)).recogniser
    used = [[b.ops[1].__module__.split(".")[-1] for b in chain] for chain in frozen.recogniser.blocks]
    assert used == [["torch_native"], ["reference"] * 2, ["torch_native"], ["torch_native"]]
    assert [d.shapes() for d in frozen.distances if isinstance(d, MapDistance)] == [
        ("C=8 HW=28",), ("C=16 HW=14",), ("C=16 HW=7",)
    ]  # fmt: skip
