"""The published recipes: loss curves equal to a computation of its own, and every piece of them tells."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from published_recipe import FACTS, Recomputed
from safetensors.torch import save_file
from train_harness import TINY, people, small_recogniser

from v2f_engine.models import perceptual
from v2f_engine.train import generator_step
from v2f_engine.train.generator import AsPublished, GeneratorTrainer, GeneratorTraining
from v2f_engine.train.loop import Budget
from v2f_engine.train.losses import PRESETS, identity_loss

BATCH = 2
WIDTHS = ((4, 2), (4, 2), (8, 3), (8, 3), (8, 3))
"""Of a VGG16 in miniature: the real one would take two thirds of the time."""


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights under torchvision's names, and linear layers of LPIPS.

    Biases above zero: of four channels all would else be cut at some places, where a unit vector has no direction.
    """
    generator = torch.Generator().manual_seed(4)
    weights: dict[str, torch.Tensor] = {}
    channels, place = 3, 0
    for level, (width, count) in enumerate(WIDTHS):
        place += bool(level)
        for _ in range(count):
            weights[f"features.{place}.weight"] = (
                torch.randn(width, channels, 3, 3, generator=generator) * (2 / (9 * channels)) ** 0.5
            )
            weights[f"features.{place}.bias"] = torch.rand(width, generator=generator) + 0.5
            channels, place = width, place + 2
        weights[f"lin{level}.model.1.weight"] = torch.rand(1, width, 1, 1, generator=generator)
    path = tmp_path_factory.mktemp("lpips") / "vgg.safetensors"
    save_file(weights, path)
    return path


def published(preset: str, vgg: Path, epochs: int, **changes: Any) -> GeneratorTraining:
    """The preset in fp32 on a tiny network, at a rate at which a few steps change something."""
    return GeneratorTraining.named(
        preset, Path("unused"),
        **{
            "vgg": vgg, "model": dataclasses.replace(TINY, norm_groups=1, dropout=0.1), "critic_width": 8,
            "fp16_amp": False,
            "budget": Budget(epochs=epochs), "warm_up": 1 / epochs, "base_lr": 0.11, "batch_per_gpu": BATCH, **changes,
        },
    )  # fmt: skip


def in_double(images: torch.Tensor) -> torch.Tensor:
    """uint8 `[B, H, W, 3]` to fp64 `[B, 3, H, W]` in [-1, 1]."""
    return images.permute(0, 3, 1, 2).double() / 127.5 - 1


def identity_in_double(features: torch.Tensor, stored: torch.Tensor) -> torch.Tensor:
    """The identity term with the norms of stored features in fp64, too.

    In fp32 they are 2e-9 off, and of `published-2024` the curves are 4e-8 apart after 24 steps and 4e-4 after 27.
    """
    return identity_loss(features, stored.double())


def deviation(
    monkeypatch: pytest.MonkeyPatch,
    preset: str,
    vgg: Path,
    epochs: int,
    per_epoch: int = 5,
    **changes: Any,
) -> tuple[float, list[float]]:
    """(largest relative difference of any term at any step, the pixel term's curve) of both computations."""
    monkeypatch.setattr(perceptual, "VGG_WIDTHS", WIDTHS)
    settings = published(preset, vgg, epochs, **changes)
    rows = slice(0, BATCH * per_epoch + 1)  # one row of each epoch is left out
    data = people(3, 4)
    assert data.features is not None
    data = dataclasses.replace(
        data, images=data.images[rows], labels=data.labels[rows], features=data.features[rows]
    )
    trainer = GeneratorTrainer(data, small_recogniser(), settings)
    steps = settings.on(1).ends(len(data)).steps
    # In fp64, as the other: Adam makes steps of gradients that are rounding alone, and fp32 parts in ten steps.
    monkeypatch.setattr(generator_step, "to_network", in_double)
    monkeypatch.setattr(generator_step, "identity_loss", identity_in_double)
    for module in (trainer.model, trainer.critic, trainer.ema, trainer.view):
        module.double()
    weights = {name: value.double() for name, value in perceptual.load_lpips(vgg).state_dict().items()}
    named = {name.removeprefix("features."): value for name, value in weights.items()}
    named |= {f"lin{level}.model.1.weight": weights[f"heads.{level}"] for level in range(5)}
    other = Recomputed(
        trainer.model, trainer.critic, small_recogniser(), named, FACTS[preset],
        rate=0.11 * BATCH / 112, epochs=epochs, warm_up=1, per_epoch=per_epoch,
    )  # fmt: skip
    worst, curve = 0.0, []
    try:
        for number in range(per_epoch * epochs):
            (part,) = trainer.batches(number)
            terms, _ = trainer.step(number, number / steps)
            wanted = other.step(number, part)
            assert set(terms) <= set(wanted)
            differences = [abs(float(v.detach()) - wanted[k]) / abs(wanted[k]) for k, v in terms.items()]
            worst = max(worst, math.inf if any(map(math.isnan, differences)) else max(differences))
            curve.append(wanted["pixel"])
    finally:
        trainer.batches.close()
    return worst, curve


@pytest.mark.parametrize(
    ("preset", "epochs", "per_epoch"),
    [("plus", 2, 4), pytest.param("published-2024", 3, 1, marks=pytest.mark.slow)],
)
def test_a_published_recipe_begins_as_computed_apart(
    preset: str, epochs: int, per_epoch: int, vgg: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Warm-up, cosine, and of 2024 the discriminator's first step: 0.4 s a step where one runs."""
    found, _ = deviation(monkeypatch, preset, vgg, epochs, per_epoch)
    print(f"{preset}: largest relative difference in {epochs * per_epoch} steps {found:.1e}")
    assert found < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("preset", FACTS)
def test_fifty_steps_of_a_published_recipe_as_computed_apart(
    preset: str, vgg: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All in fp64, so rounding has no say: starts 1e-15 apart are 3e-11 apart after 40 steps of `published-2024`."""
    found, curve = deviation(monkeypatch, preset, vgg, 10)
    print(
        f"{preset}: largest relative difference in 50 steps {found:.1e}; pixel {curve[0]:.4f} to {curve[-1]:.4f}"
    )
    assert len(curve) == 50
    assert found < 1e-7
    assert curve[-1] < 0.9 * curve[0]


OTHERWISE: list[tuple[str, dict[str, Any]]] = [
    ("plus", {"weight_decay": 0.0}),
    ("plus", {"clip": 0.0}),
    ("plus", {"as_published": dataclasses.replace(AsPublished.all(), decay_all=False)}),
    ("plus", {"weights": dataclasses.replace(PRESETS["plus"], ssim=0.99)}),
    ("plus", {"warm_up": 0.6}),
    ("plus", {"lr_floor": 0.05}),
    *(
        ("published-2025", {"as_published": dataclasses.replace(AsPublished.all(), **{name: False})})
        for name in ("critic_constant", "critic_leak", "critic_always", "linear_fooling")
    ),
    ("published-2024", {"clip": 2.0}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "changes"), OTHERWISE, ids=str)
def test_every_piece_of_a_recipe_shows_in_its_curve(
    preset: str, changes: dict[str, Any], vgg: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten steps of a recipe that is otherwise in one thing only, against the published one."""
    found, _ = deviation(monkeypatch, preset, vgg, 5, 2, **changes)
    print(f"{preset} with {changes}: {found:.1e}")
    assert found > 2e-5
