"""The published recogniser recipe, computed once more in plain torch from the description of what its code does.

HaiyuWu/SOTA-Face-Recognition-Train-and-Test b8c42fe: network, dropout, head, margin, clip, SGD and rate are written
here anew. Shared with the engine: the first weights, and which pictures a step sees.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from v2f_engine.data import MemorySet
from v2f_engine.models.iresnet import IResNet, IResNetConfig
from v2f_engine.train.distributed import Ranks
from v2f_engine.train.loop import Budget
from v2f_engine.train.margin import make_margin
from v2f_engine.train.recogniser_settings import RecogniserTraining
from v2f_engine.train.recogniser_step import RecogniserTrainer

SHAPE = IResNetConfig((1, 2, 1, 1), (16, 16, 16, 32), stem_stride=8, se=True, feature_dim=32)
ROWS, BATCH = 17, 8  # two steps an epoch, and a row left over


def people() -> MemorySet:
    rng = np.random.default_rng(5)
    base = rng.integers(0, 255, (4, 1, 7, 7, 3)).repeat(16, 2).repeat(16, 3)
    images = np.clip(base + rng.normal(0, 20, (4, 5, 112, 112, 3)), 0, 255).astype(np.uint8)
    return MemorySet(images.reshape(-1, 112, 112, 3)[:ROWS], np.repeat(np.arange(4), 5)[:ROWS])


def published(tmp_path: Path, **changes: object) -> RecogniserTraining:
    return RecogniserTraining.named(
        "published", tmp_path, **{"model": SHAPE, "batch": BATCH, "fp16_amp": False, **changes}
    )


class Plain:
    """Parameters by their published names, and the whole step."""

    def __init__(self, trainer: RecogniserTrainer) -> None:
        state = {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}
        self.buffers = {n: v for n, v in state.items() if "running" in n}
        frozen = ("running", "num_batches", "features.weight")
        self.weights = {n: v.requires_grad_() for n, v in state.items() if not any(f in n for f in frozen)}
        self.centres = trainer.head.weight.detach().clone().requires_grad_()
        self.speed = {n: torch.zeros_like(v) for n, v in [*self.weights.items(), ("centres", self.centres)]}

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        mean, var = self.buffers[f"{name}.running_mean"], self.buffers[f"{name}.running_var"]
        weight = self.weights.get(f"{name}.weight")
        return F.batch_norm(x, mean, var, weight, self.weights[f"{name}.bias"], True, 0.1, 1e-5)

    def block(self, x: torch.Tensor, name: str, first: bool) -> torch.Tensor:
        w, stride = self.weights, 2 if first else 1
        y = F.conv2d(self.norm(x, f"{name}.bn1"), w[f"{name}.conv1.weight"], padding=1)
        y = F.prelu(self.norm(y, f"{name}.bn2"), w[f"{name}.prelu.weight"])
        y = self.norm(F.conv2d(y, w[f"{name}.conv2.weight"], stride=stride, padding=1), f"{name}.bn3")
        if not first:
            return y + x
        x = self.norm(F.conv2d(x, w[f"{name}.downsample.0.weight"], stride=2), f"{name}.downsample.1")
        gate = F.conv2d(F.adaptive_avg_pool2d(x, 1), w[f"{name}.attn.fc1.weight"]).relu()
        return y + x * torch.sigmoid(F.conv2d(gate, w[f"{name}.attn.fc2.weight"]))

    def features(self, x: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        x = F.conv2d(x, self.weights["conv1.weight"], stride=SHAPE.stem_stride, padding=1)
        x = F.prelu(self.norm(x, "bn1"), self.weights["prelu.weight"])
        for stage, blocks in enumerate(SHAPE.layers, 1):
            for number in range(blocks):
                x = self.block(x, f"layer{stage}.{number}", number == 0)
        x = self.norm(x, "bn2").flatten(1)
        x = torch.where(kept, x / 0.6, 0.0)
        return self.norm(F.linear(x, self.weights["fc.weight"], self.weights["fc.bias"]), "features")

    def step(self, images: torch.Tensor, labels: torch.Tensor, kept: torch.Tensor, lr: float) -> float:
        cosine = F.normalize(self.features(images, kept)) @ F.normalize(self.centres).T
        cosine = cosine.clamp(-1 + 1e-7, 1 - 1e-7)
        with torch.no_grad():  # the margin is a constant for the gradient
            wanted = torch.zeros_like(cosine)
            rows = torch.arange(len(labels))
            theta = torch.acos(cosine[rows, labels])
            wanted[rows, labels] = torch.cos(theta + 0.5) - cosine[rows, labels]
        loss = F.cross_entropy(64.0 * (cosine + wanted), labels)
        trained = [*self.weights.values(), self.centres]
        gradients = torch.autograd.grad(loss, trained)
        length = math.sqrt(
            sum(float(g.double().square().sum()) for g in gradients[:-1])
        )  # without the head's
        factors = [min(1.0, 5.0 / (length + 1e-6))] * (len(gradients) - 1) + [1.0]
        with torch.no_grad():
            for (name, speed), value, gradient, factor in zip(
                self.speed.items(), trained, gradients, factors, strict=True
            ):
                batch_norm = "bn" in name or "downsample.1" in name or name.startswith("features")
                decay = 0.0 if batch_norm else 5e-4
                speed.mul_(0.9).add_(gradient * factor + decay * value)
                value.sub_(lr * speed)
        return float(loss.detach())


def test_fifty_steps_are_those_of_the_published_recipe(tmp_path: Path) -> None:
    data = people()
    trainer = RecogniserTrainer(data, published(tmp_path))
    for module in (trainer.model, trainer.head):
        module.double()  # in fp32 two orders of the same sums are 1e-5 apart after five steps at this rate
    plain = Plain(trainer)
    budget = trainer.settings.ends(ROWS, 1)
    assert budget == Budget(steps=52)
    drops = {22: 1, 38: 2, 46: 3}  # after 11, 19 and 23 epochs of two steps
    fallen, seen = 0, set()
    for step in range(52):
        fallen = drops.get(step, fallen)
        rows = trainer.rows(step)
        seen = {*rows} if step % 2 == 0 else seen | {*rows}
        assert len(seen) == len(rows) * (step % 2 + 1)  # no row twice in an epoch
        batch = trainer.prepare(step, data.read(rows))
        generator = torch.Generator().manual_seed(42 * 1_000_003 + step)
        kept = torch.rand(BATCH, 32, generator=generator) >= 0.4
        by_hand = plain.step(batch[0].double(), batch[1], kept, 0.1 / 10**fallen)
        loss = float(trainer.step(batch, step, step / 52)["margin_softmax"].detach())
        assert loss == pytest.approx(by_hand, rel=1e-8), f"step {step}"


@pytest.mark.parametrize(
    ("rows", "world", "steps"), [(1000, 1, 125), (1007, 1, 125), (1007, 4, 31), (1023, 4, 32)]
)
def test_the_rate_at_every_step_of_26_epochs(tmp_path: Path, rows: int, world: int, steps: int) -> None:
    """0.1, a tenth of it as the 12th, 20th and 24th epoch begin; whole batches only, dealt as torch's sampler does."""
    trainer = object.__new__(RecogniserTrainer)
    trainer.settings = published(tmp_path, batch_per_gpu=8).on(world)
    trainer.steps_of_epoch = trainer.settings.steps_of_epoch(rows, world)
    assert trainer.steps_of_epoch == steps
    total = 26 * steps
    assert trainer.settings.ends(rows, world) == Budget(steps=total)
    wanted, lr = [], 0.1
    for epoch in range(26):
        if epoch + 1 in (12, 20, 24):
            lr /= 10
        wanted += [lr] * steps
    assert [trainer.lr(step, step / total) for step in range(total)] == wanted
    # another length moves nothing: drops are epochs
    assert trainer.lr(11 * steps - 1, 0.99) == 0.1
    ours = object.__new__(RecogniserTrainer)
    ours.settings = RecogniserTraining.named("mended", tmp_path)
    found = [ours.lr(step, step / 2600) for step in (0, 1199, 1200, 1999, 2000, 2399, 2400, 2599)]
    assert found == pytest.approx([0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4], rel=1e-12)


def test_rows_of_an_epoch_on_several_ranks(tmp_path: Path) -> None:
    """Every rank's rows together: each once but for those that even the ranks out; the next epoch is another order."""
    images = np.zeros((31, 112, 112, 3), np.uint8)
    data = MemorySet(images, np.arange(31) % 3)
    epochs = []
    for epoch in range(2):
        rows: list[int] = []
        for rank in range(4):
            trainer = object.__new__(RecogniserTrainer)
            trainer.settings = published(tmp_path, batch_per_gpu=4).on(4)
            trainer.data, trainer.group, trainer.size = data, Ranks(rank, 4), 4
            trainer.steps_of_epoch = trainer.settings.steps_of_epoch(31, 4)
            assert trainer.steps_of_epoch == 2
            for step in range(2 * epoch, 2 * epoch + 2):
                rows += trainer.rows(step).tolist()
        assert len(rows) == 32
        assert set(rows) == set(range(31))
        epochs.append(rows)
    assert epochs[0] != epochs[1]


def test_the_published_margin_over_all_angles() -> None:
    """cos(theta + m), also where theta + m is beyond pi and the cosine rises again; ours stops at pi."""
    theta = np.linspace(0.0, np.pi, 20_001)
    cosine = torch.from_numpy(np.cos(theta).astype(np.float32))
    exact = np.cos(np.arccos(np.clip(cosine.numpy().astype(np.float64), -1 + 2**-23, 1 - 2**-23)) + 0.5)
    norms = torch.ones(len(theta))
    found = make_margin("arcface-published", 0.5, True)(cosine, norms).numpy()
    assert np.abs(found - exact).max() < 2e-4 * 0.5  # fp32's acos near 0 and pi
    middle = (theta > 0.05) & (theta < np.pi - 0.05)
    assert np.abs(found - exact)[middle].max() < 4e-6
    stopped = make_margin("arcface", 0.5, True)(cosine, norms).numpy()
    beyond = theta > np.pi - 0.5 + 1e-3
    assert np.all(stopped[beyond] == -1.0)
    assert found[-1] == pytest.approx(-math.cos(0.5), abs=1e-3)
    assert np.abs(stopped - found)[middle & ~beyond].max() < 1e-5


def test_the_published_margin_is_a_constant_for_the_gradient() -> None:
    cosine = torch.tensor([-0.999, -0.5, 0.0, 0.7, 1.0], requires_grad=True)
    make_margin("arcface-published", 0.5, True)(cosine, torch.ones(5)).sum().backward()
    assert cosine.grad is not None
    assert cosine.grad.tolist() == [1.0, 1.0, 1.0, 1.0, 0.0]  # the clamp lets none through at 1


def test_dropout_stands_before_the_last_layer_in_training_only() -> None:
    torch.manual_seed(0)
    model, without = IResNet(SHAPE, 0.4), IResNet(SHAPE)
    assert model.state_dict().keys() == without.state_dict().keys()
    inputs: list[torch.Tensor] = []
    model.fc.register_forward_pre_hook(lambda _, given: inputs.append(given[0].detach()))
    images = torch.randn(64, 3, 112, 112)
    with torch.no_grad():
        model(images, 7)
        model(images, 7)
        model(images, 8)
        whole, again, other = inputs
        assert torch.equal(whole, again)
        assert not torch.equal(whole, other)
        assert (whole == 0).float().mean() == pytest.approx(0.4, abs=0.02)
        before = model.bn2(model.stages(images)[-1]).flatten(1)
        kept = whole != 0
        torch.testing.assert_close(whole[kept], (before / 0.6)[kept])
        model.eval()
        without.load_state_dict(model.state_dict())
        assert torch.equal(model(images[:2]), without.eval()(images[:2]))
