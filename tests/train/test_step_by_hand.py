"""A training step held by calculations of its own: terms, clips, the average, the adaptive weight.

Nothing here asks the losses' own functions, except SSIM, whose definition `test_ssim_by_definition` holds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from train_harness import ALL, TINY, people, settings, small_recogniser

from v2f_engine.data.training.memory_set import MemorySet
from v2f_engine.data.training.rows import Rows
from v2f_engine.models import landmarks
from v2f_engine.models.iresnet import IResNetConfig
from v2f_engine.models.mask_schedule import MASK_SCHEDULES
from v2f_engine.models.vec2face import Vec2Face
from v2f_engine.train.generator import AsPublished, GeneratorTrainer
from v2f_engine.train.losses import LossWeights, ssim
from v2f_engine.train.order import rows_of_step
from v2f_engine.train.pose import PoseData, PoseTrainer, PoseTraining
from v2f_engine.train.recogniser_settings import RecogniserTraining
from v2f_engine.train.recogniser_step import RecogniserTrainer

ONLY_PIXELS = LossWeights(
    pixel=1.0, perceptual=0.0, ssim=0.0, identity=0.0, token=0.0, gan=0.05, gan_from=0.4
)


@contextmanager
def trainer_of(weights: LossWeights = ALL, **changes: Any) -> Iterator[GeneratorTrainer]:
    """A small one in fp32, whose optimisers are called but move nothing."""
    wanted = dataclasses.replace(
        settings(Path("unused"), batch=3, bf16=False),
        **{"weights": weights, "shift": 0, "clip": 1e9, **changes},
    )
    trainer = GeneratorTrainer(people(), small_recogniser(), wanted)
    trainer.optimizer.step = trainer.critic_optimizer.step = lambda: None  # type: ignore[method-assign]
    try:
        yield trainer
    finally:
        trainer.batches.close()


def whole_batch(trainer: GeneratorTrainer, number: int) -> Any:
    (part,) = trainer.batches(number)
    return part


def to_unit(images: torch.Tensor) -> torch.Tensor:
    """uint8 `[B, H, W, 3]` to [-1, 1], written out."""
    return torch.from_numpy(np.moveaxis(images.numpy().astype(np.float32) / 255 * 2 - 1, 3, 1).copy())


def cosine_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean of 1 - cosine of the rows, in double precision."""
    left, right = a.double().numpy(), b.double().numpy()
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return float((1 - (left * right).sum(1) / norms).mean())


def moved(images: torch.Tensor, top: int, left: int, shift: int) -> torch.Tensor:
    """The window that begins `shift - top` above and `shift - left` beside the image; its border goes on."""
    rows = (torch.arange(112) + top - shift).clamp(0, 111)
    columns = (torch.arange(112) + left - shift).clamp(0, 111)
    return images[:, :, rows][:, :, :, columns]


def critic_loss_by_hand(trainer: GeneratorTrainer, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    on_real, on_fake = trainer.critic(real), trainer.critic(fake)
    return ((on_real - 1) ** 2).mean() / 2 + (on_fake**2).mean() / 2


@pytest.mark.parametrize("shift", [0, 3])
def test_every_term_of_a_generators_step(shift: int) -> None:
    """The identity is that of the stored feature, SSIM sees [0, 1], the frozen networks see moved images."""
    with trainer_of(shift=shift) as trainer:
        terms, _ = trainer.step(5, 0.9)
        part = whole_batch(trainer, 5)
        with torch.no_grad():
            made = trainer.model(part.features, part.noise, part.n_masked, part.n_dropped)
            real, fake = to_unit(part.images), made.images
            seen_fake, seen_real = (moved(x, *part.crop, shift) for x in (fake, real))
            recogniser = small_recogniser()
            features, own = recogniser(seen_fake), recogniser(seen_real)
            by_hand = {
                "pixel": ((fake - real).double() ** 2).mean(),
                "absolute": (fake - real).double().abs().mean(),
                "ssim": 1 - ssim(fake / 2 + 0.5, real / 2 + 0.5),
                "token": ((made.tokens[:, 1:] - made.target_tokens[:, 1:]).double() ** 2).mean(),
                "perceptual": trainer.view(seen_fake, seen_real).distance,
                "identity": cosine_distance(features, part.features),
                "gan": ((trainer.critic(fake) - 1).double() ** 2).mean() / 2,
                "critic": critic_loss_by_hand(trainer, real, fake),
            }
            on_other_range = 1 - ssim(fake, real)
    assert set(terms) == {*by_hand, "gradient"}
    for name, value in by_hand.items():
        assert float(terms[name].detach()) == pytest.approx(float(value), rel=2e-4), name
    # The values tell the right formula from its neighbours.
    assert abs(cosine_distance(features, own) - float(by_hand["identity"])) > 0.05
    assert abs(float(on_other_range) - float(by_hand["ssim"])) > 0.01
    if shift:
        assert part.crop != (shift, shift)


def gradients(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None]).double()


def test_gradients_longer_than_the_clip_are_cut_to_it() -> None:
    """The generator's by a loss a million times as large, the discriminator's by one with large weights."""

    def step(clip: float, huge: float) -> tuple[torch.Tensor, torch.Tensor, float]:
        with trainer_of(dataclasses.replace(ALL, pixel=huge), clip=clip) as trainer:
            with torch.no_grad():
                trainer.critic.to_logits[2].weight.mul_(huge)  # type: ignore[operator, union-attr]
            terms, _ = trainer.step(0, 0.9)
            return gradients(trainer.model), gradients(trainer.critic), float(terms["gradient"])

    generator, critic, length = step(1e12, 1e4)
    assert length == pytest.approx(float(generator.norm()), rel=1e-4)
    assert min(generator.norm(), critic.norm()) > 1e3
    cut_generator, cut_critic, length_before = step(0.75, 1e4)
    assert length_before == pytest.approx(length, rel=1e-4)  # what is reported is the length before the clip
    for cut, whole in ((cut_generator, generator), (cut_critic, critic)):
        assert float(cut.norm()) == pytest.approx(0.75, rel=1e-4)
        torch.testing.assert_close(cut, whole * (0.75 / whole.norm()), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("number", "published", "kept"),
    [(0, False, 1 / 10), (1000, False, 1001 / 1010), (10**6, False, 0.998), (1000, True, 0.0)],
)
def test_the_average_moves_by_its_closed_form(number: int, published: bool, kept: float) -> None:
    """`min(ema, (1 + step) / (10 + step))` of the old average remains; nothing of it, as published."""
    switches = dataclasses.replace(settings(Path("x")).as_published, no_average=published)
    with trainer_of(ema=0.998, as_published=switches) as trainer:
        with torch.no_grad():
            for average, weight in zip(trainer.ema.parameters(), trainer.model.parameters(), strict=True):
                average.fill_(3.0)
                weight.fill_(5.0)
        trainer.average(number)
        wanted = 3.0 * kept + 5.0 * (1 - kept)
        for average in trainer.ema.parameters():
            torch.testing.assert_close(average, torch.full_like(average, wanted), rtol=1e-6, atol=1e-6)


def last_layers_gradients(trainer: GeneratorTrainer, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the pixel term and of the adversarial one, by hand, at the last layer."""
    part = whole_batch(trainer, number)
    fake = trainer.model(part.features, part.noise, part.n_masked, part.n_dropped).images
    last = trainer.model.im_decoder.conv_out.weight
    pixel = ((fake - to_unit(part.images)) ** 2).mean()
    fooling = ((trainer.critic(fake) - 1) ** 2).mean() / 2
    (ours,) = torch.autograd.grad(pixel, last, retain_graph=True)
    (theirs,) = torch.autograd.grad(fooling, last)
    return ours, theirs


@pytest.mark.parametrize(
    ("adaptive", "progress"),
    [(0.8, 0.9), (0.8, 0.1), (0.0, 0.9)],
    ids=["adaptive", "before its start", "fixed"],
)
def test_the_adversarial_term_weighs_what_its_recipe_says(adaptive: float, progress: float) -> None:
    """`0.8 |d others| / (|d adversarial| + 1e-4)` at the last layer, `gan` where it is fixed, nothing before."""
    with trainer_of(dataclasses.replace(ONLY_PIXELS, gan_adaptive=adaptive)) as trainer:
        trainer.step(2, progress)
        last = trainer.model.im_decoder.conv_out.weight
        assert last.grad is not None
        found = last.grad.clone()
        ours, theirs = last_layers_gradients(trainer, 2)
    ratio = float(ours.norm() / (theirs.norm() + 1e-4))
    assert ratio > 2  # neither 1 nor the fixed weight
    weight = (adaptive * ratio if adaptive else 0.05) if progress > 0.4 else 0.0
    torch.testing.assert_close(found, ours + weight * theirs, rtol=1e-3, atol=1e-7)
    if weight:
        assert float((weight * theirs).norm() / ours.norm()) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("leaks", [False, True])
def test_what_the_published_leak_teaches_the_discriminator(leaks: bool) -> None:
    """Least squares end at D(real) = 1, D(fake) = 0; with the leak, -mean(D(fake)), the least is at D(fake) = 1."""
    switches = AsPublished(linear_fooling=True, critic_leak=leaks)
    wanted = dataclasses.replace(
        settings(Path("unused"), batch=4), weights=dataclasses.replace(ONLY_PIXELS, gan=1.0), shift=0, clip=1e9,
        critic_lr=3e-3, warm_up=0.0, lr_floor=1.0, as_published=switches,
    )  # fmt: skip
    trainer = GeneratorTrainer(people(), small_recogniser(), wanted)
    trainer.optimizer.step = lambda: None  # type: ignore[assignment, method-assign]
    for _ in range(20):
        trainer.step(0, 0.9)
    part = whole_batch(trainer, 0)
    trainer.batches.close()
    with torch.no_grad():
        fake = trainer.model(part.features, part.noise, part.n_masked, part.n_dropped).images
        on_fake, on_real = (float(trainer.critic(x).mean()) for x in (fake, to_unit(part.images)))
    assert on_real > 0.7
    assert (on_fake > 0.7) if leaks else (on_fake < 0.3)


def test_a_training_goes_on_from_earlier_weights(tmp_path: Path) -> None:
    """Trained and averaged weights alike begin where the earlier ones ended."""
    torch.manual_seed(9)
    earlier = Vec2Face(TINY)
    save_file(earlier.state_dict(), tmp_path / "earlier.safetensors")
    with trainer_of(start_from=tmp_path / "earlier.safetensors") as trainer:
        for model in (trainer.model, trainer.ema):
            for name, value in model.state_dict().items():
                assert torch.equal(value, earlier.state_dict()[name]), name


def test_every_term_of_a_pose_step() -> None:
    """As the generator's: stored features, SSIM on [0, 1]; the landmark picture reaches the generator."""
    rng = np.random.default_rng(1)
    everyone = people(3, 2)
    points = landmarks.project(np.linspace(-40, 40, 6).astype(np.float32), np.zeros(6, np.float32))
    data = PoseData(everyone.images, rng.standard_normal((6, 512)).astype(np.float32), points=points)
    torch.manual_seed(0)
    base = Vec2Face(TINY)
    base.initialise(torch.Generator().manual_seed(0))
    wanted = PoseTraining(Path("unused"), batch=4, bf16=False, seed=7)
    trainer = PoseTrainer(data, base.eval(), small_recogniser(), wanted)
    trainer.optimizer.step = lambda: None  # type: ignore[assignment, method-assign]
    terms, _ = trainer.step(3, 0.5)

    rows = rows_of_step(7, 3, 4, 6)
    schedule = MASK_SCHEDULES["plus-train"]
    noise, n_masked = schedule.draw(7, np.full(4, 3), np.arange(4))
    features = torch.from_numpy(data.features[rows])
    with torch.no_grad():
        fake = trainer.model(
            features, torch.from_numpy(noise), torch.from_numpy(n_masked), schedule.n_dropped,
            torch.from_numpy(landmarks.draw(points[rows])),
        )  # fmt: skip
        real = to_unit(torch.from_numpy(data.images[rows]))
        recogniser = small_recogniser()
        made, own = recogniser(fake), recogniser(real)
        by_hand = {
            "pixel": ((fake - real).double() ** 2).mean(),
            "ssim": 1 - ssim(fake / 2 + 0.5, real / 2 + 0.5),
            "perceptual": trainer.view(fake, real).distance,
            "identity": cosine_distance(made, features),
        }
        on_other_range = 1 - ssim(fake, real)
    assert set(terms) == set(by_hand)
    for name, value in by_hand.items():
        assert float(terms[name].detach()) == pytest.approx(float(value), rel=2e-4), name
    assert abs(cosine_distance(made, own) - float(by_hand["identity"])) > 0.05
    assert abs(float(on_other_range) - float(by_hand["ssim"])) > 0.01


def test_the_augmentation_mirror_swaps_left_and_right() -> None:
    """Half of the faces, and each of those column by column; none stands on its head."""
    images = np.random.default_rng(2).integers(0, 255, (64, 112, 112, 3)).astype(np.uint8)
    labels = np.arange(64) % 2
    shape = IResNetConfig((1, 1, 1, 1), (8, 8, 8, 16), stem_stride=4)
    wanted = RecogniserTraining(Path("unused"), shape, batch=64, augment="mirror", bf16=False)
    trainer = RecogniserTrainer(MemorySet(images, labels), wanted)
    x, _, _ = trainer.prepare(0, Rows(images, labels, None, ["row"] * 64))
    straight, swapped = (
        to_unit(torch.from_numpy(images)),
        to_unit(torch.from_numpy(images[:, :, ::-1].copy())),
    )
    kinds = [
        "straight" if torch.allclose(one, a, atol=1e-6) else "swapped" if torch.allclose(one, b, atol=1e-6) else "?"
        for one, a, b in zip(x, straight, swapped, strict=True)
    ]  # fmt: skip
    assert "?" not in kinds
    assert 16 <= kinds.count("swapped") <= 48
