"""Trains a Vec2Face: a stored feature of an image goes in, that image shall come out.

Corrected against the published code: the discriminator gets no gradient from the generator's step and does
not run before its start; recognisers are frozen; every image has its own mask count; nothing is drawn from
global state, so a step is a function of (settings, step).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from v2f_engine.config import at_least, one_of
from v2f_engine.errors import DatasetError
from v2f_engine.models.discriminator import PatchDiscriminator
from v2f_engine.models.features import to_network
from v2f_engine.models.iresnet import IResNet
from v2f_engine.models.mask_schedule import MASK_SCHEDULES
from v2f_engine.models.perceptual import RecogniserView, map_distance
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig, Vec2FaceOutput
from v2f_engine.randomness import Purpose, normals, uniforms
from v2f_engine.train.checkpoint import read_tensors, restore, training_state, write_tensors
from v2f_engine.train.cpu_forms import quicken
from v2f_engine.train.ema import average_into, twin
from v2f_engine.train.loop import Budget, Loop
from v2f_engine.train.losses import (
    PRESETS,
    LossWeights,
    critic_loss,
    fooling_loss,
    identity_loss,
    ssim,
    token_loss,
)
from v2f_engine.train.optim import adamw, cosine, published_lr, set_lr
from v2f_engine.train.order import rows_of_step
from v2f_engine.train.picture import to_bytes, write_grid
from v2f_engine.train.training_set import TrainingSet

SHIFT = 4
"""Both images are moved by up to so many pixels before the frozen recogniser sees them: a pattern that fools
it at one place only (ringing was seen in the background) does not pay."""


@dataclass(frozen=True)
class GeneratorTraining:
    """Settings of one training.

    Args:
        out: folder of checkpoint, log, sample grids and `generator.safetensors`.
        model: shape of the network.
        preset: a name in `losses.PRESETS`.
        weights: used instead of the preset.
        budget: steps or minutes.
        batch: images a step.
        base_lr: the rate is `base_lr * batch / 112`, as published.
        weight_decay, clip: of AdamW; norm of the clipped gradient.
        warm_up: share of the budget.
        masks: names in `MASK_SCHEDULES`, taken in turn; the published training has `train` only, and so
            never shows the encoder the lengths that generation uses.
        ema: decay of the averaged weights, which are the ones written.
        critic_width: channels of the discriminator's stem, 64 as published.
        critic_lr: its learning rate.
        seed: of initialisation, order and masks.
        bf16: autocast to bfloat16.
        ssim_share: share of a batch that the SSIM term looks at; 1 as published.
        checkpoint_every, picture_every: steps.
        log_every: steps between two lines of the log.
        device: torch device.
        start_from: `generator.safetensors` of an earlier training to go on from.
    """

    out: Path
    model: Vec2FaceConfig = field(default_factory=Vec2FaceConfig.mini)
    preset: str = "rendered"
    weights: LossWeights | None = None
    budget: Budget = field(default_factory=lambda: Budget(steps=20_000))
    batch: int = 16
    base_lr: float = 4.9e-3
    weight_decay: float = 0.01
    clip: float = 2.0
    warm_up: float = 0.03
    masks: tuple[str, ...] = ("train", "generate")
    ema: float = 0.998
    critic_width: int = 16
    critic_lr: float = 2e-4
    seed: int = 0
    bf16: bool = True
    ssim_share: float = 1.0
    checkpoint_every: int = 200
    picture_every: int = 200
    log_every: int = 50
    device: str = "cpu"
    start_from: Path | None = None

    def __post_init__(self) -> None:
        at_least("batch", self.batch, 1)
        one_of("preset", self.preset, PRESETS)
        for name in self.masks:
            one_of("mask schedule", name, MASK_SCHEDULES)

    @property
    def loss_weights(self) -> LossWeights:
        return self.weights or PRESETS[self.preset]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the card."""
        told = {**asdict(self), "model": self.model.to_json(), "weights": asdict(self.loss_weights)}
        return {key: str(value) if isinstance(value, Path) else value for key, value in told.items()}


class GeneratorTrainer:
    """Networks, optimisers and the step; `train_generator` drives it.

    Args:
        data: images with features.
        recogniser: made those features; frozen here.
        settings: of the training.
    """

    def __init__(self, data: TrainingSet, recogniser: IResNet, settings: GeneratorTraining) -> None:
        if data.features is None:
            raise DatasetError(
                "A generator learns from features: give the training set them (extract_features)."
            )
        self.data, self.settings = data, settings
        self.features = data.features
        self.device = torch.device(settings.device)
        layout: dict[str, Any] = {"device": self.device, "memory_format": torch.channels_last}
        self.model = Vec2Face(settings.model).to(**layout)
        self.model.initialise(torch.Generator().manual_seed(settings.seed))
        if settings.start_from is not None:
            state, _ = read_tensors(settings.start_from)
            restore({f"model/{k}": v for k, v in state.items()}, {"model": self.model}, {})
        if self.device.type == "cpu" and not settings.model.dropout:
            quicken(self.model)
        self.ema = twin(self.model)
        self.critic = PatchDiscriminator(settings.critic_width).to(**layout)
        self.view = RecogniserView(recogniser).to(**layout)
        self.optimizer = adamw([self.model], 1.0, settings.weight_decay)
        self.critic_optimizer = adamw([self.critic], settings.critic_lr, settings.weight_decay)
        self.lr = published_lr(settings.base_lr, settings.batch)

    def modules(self) -> dict[str, torch.nn.Module]:
        return {"generator": self.model, "ema": self.ema, "critic": self.critic}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"optimizer": self.optimizer, "critic_optimizer": self.critic_optimizer}

    def step(self, number: int, progress: float) -> tuple[dict[str, torch.Tensor], str]:
        """One update: (loss terms, names of the batch's rows)."""
        settings, weights = self.settings, self.settings.loss_weights
        rows = rows_of_step(settings.seed, number, settings.batch, len(self.data))
        real = to_network(torch.from_numpy(self.data.images[rows]).to(self.device))
        real = real.contiguous(memory_format=torch.channels_last)
        features = torch.from_numpy(self.features[rows]).to(self.device)
        set_lr(self.optimizer, self.lr * cosine(progress, settings.warm_up, floor=0.02))
        with_critic = weights.gan > 0 and progress >= weights.gan_from
        output = self._generate(self.model, features, number)
        terms = self._terms(output, real, features, number)
        if with_critic:
            self.critic.requires_grad_(False)
            with self._autocast():
                terms["gan"] = fooling_loss(self.critic(output.images))
        self.optimizer.zero_grad(set_to_none=True)
        weights.total(terms).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
        self.optimizer.step()
        if with_critic:
            terms["critic"] = self._train_critic(real, output.images.detach())
        average_into(self.ema, self.model, min(settings.ema, (1 + number) / (10 + number)))
        return terms, f"rows {rows[:8].tolist()}..."

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.bf16)

    def _generate(self, model: Vec2Face, features: torch.Tensor, step: int) -> Vec2FaceOutput:
        settings = self.settings
        schedule = MASK_SCHEDULES[settings.masks[step % len(settings.masks)]]
        place = np.arange(len(features))
        noise, n_masked = schedule.draw(settings.seed, np.full(len(features), step), place)
        seed = step if settings.model.dropout else None
        with self._autocast():
            output: Vec2FaceOutput = model(
                features,
                torch.from_numpy(noise).to(self.device),
                torch.from_numpy(n_masked).to(self.device),
                schedule.n_dropped,
                dropout_seed=seed,
            )
        return output

    def _terms(
        self, output: Vec2FaceOutput, real: torch.Tensor, features: torch.Tensor, step: int
    ) -> dict[str, torch.Tensor]:
        weights = self.settings.loss_weights
        fake = output.images.float()
        terms = {"pixel": F.mse_loss(fake, real)}
        if weights.absolute:
            terms["absolute"] = F.l1_loss(fake, real)
        if weights.ssim:
            looked = max(1, round(len(fake) * self.settings.ssim_share))
            terms["ssim"] = 1.0 - ssim((fake[:looked] + 1) / 2, (real[:looked] + 1) / 2)
        if weights.token:
            terms["token"] = token_loss(output.tokens, output.target_tokens)
        if weights.perceptual or weights.identity:
            left, top = (
                uniforms(self.settings.seed, Purpose.AUGMENT, step, 0, 2)[0] * (2 * SHIFT + 1)
            ).astype(int)
            size = fake.shape[-1]

            def moved(images: torch.Tensor) -> torch.Tensor:
                padded = F.pad(images, (SHIFT,) * 4, mode="replicate")
                return padded[:, :, top : top + size, left : left + size]

            with self._autocast():
                maps, seen = self.view(moved(fake))
                with torch.no_grad():
                    wanted, _ = self.view(moved(real))
            if weights.perceptual:
                terms["perceptual"] = map_distance(maps, wanted).mean()
            if weights.identity:
                terms["identity"] = identity_loss(seen, features)
        return terms

    def _train_critic(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        self.critic.requires_grad_(True)
        with self._autocast():
            loss = critic_loss(self.critic(real), self.critic(fake))
        self.critic_optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.critic.parameters(), self.settings.clip)
        self.critic_optimizer.step()
        return loss

    @torch.no_grad()
    def picture(self, path: Path, held_out: TrainingSet) -> None:
        """One row a person: two images, what they become, six perturbations of the person's centre."""
        assert held_out.features is not None
        rows = []
        for label in range(min(10, held_out.classes)):
            mine = np.flatnonzero(held_out.labels == label)
            features = held_out.features[mine]
            centre = features.mean(0)
            centre *= np.linalg.norm(features, axis=1).mean() / np.linalg.norm(centre)
            sigma = np.array([0.3, 0.3, 0.5, 0.5, 0.7, 0.7], np.float32)[:, None]
            noisy = centre + sigma * normals(
                7, Purpose.PERTURBATION, np.full(6, label), np.arange(6), len(centre)
            )
            noisy *= np.linalg.norm(centre) / np.linalg.norm(noisy, axis=1, keepdims=True)
            vectors = torch.from_numpy(np.concatenate([features[:2], noisy]).astype(np.float32)).to(
                self.device
            )
            made = to_bytes(self._generate(self.ema, vectors, len(self.settings.masks) - 1).images)
            rows.append(np.concatenate([held_out.images[mine[:2]], made]))
        write_grid(path, rows)

    def save(self, told: dict[str, Any]) -> None:
        """Writes `generator.safetensors`: the averaged weights, fp32."""
        head = {"kind": "vec2face", "config": self.settings.model.to_json(), "training": told}
        write_tensors(self.settings.out / "generator.safetensors", self.ema.state_dict(), head)


def train_generator(
    data: TrainingSet,
    recogniser: IResNet,
    settings: GeneratorTraining,
    held_out: TrainingSet | None = None,
    *,
    say: Callable[[str], object] | None = None,
) -> Vec2Face:
    """Trains on `data` with features of `recogniser`; resumes from `settings.out / "checkpoint.safetensors"`.

    Args:
        data: images, labels and features.
        recogniser: eval mode; made the features.
        settings: see `GeneratorTraining`.
        held_out: people for the sample grids.
        say: gets the lines of progress; stderr by default.

    Returns:
        The averaged generator, in eval mode.

    Raises:
        DatasetError, NonFiniteLoss, CheckpointError: as named.
    """
    torch.manual_seed(settings.seed)  # only the constructors draw from it
    trainer = GeneratorTrainer(data, recogniser, settings)
    loop = Loop(settings.budget, settings.out, settings.batch, settings.log_every)
    loop.say = say or loop.say
    checkpoint = settings.out / "checkpoint.safetensors"
    if checkpoint.exists():
        state, told = read_tensors(checkpoint)
        restore(state, trainer.modules(), trainer.optimizers())
        loop.step = int(told["step"])
    while not loop.done:
        terms, rows = trainer.step(loop.step, loop.progress)
        loop.record(terms, rows)
        if loop.step % settings.checkpoint_every == 0:
            state = training_state(trainer.modules(), trainer.optimizers())
            write_tensors(checkpoint, state, {"step": loop.step})
            trainer.save({"steps": loop.step})
        if held_out is not None and loop.step % settings.picture_every == 0:
            trainer.picture(settings.out / f"step-{loop.step:06d}.png", held_out)
    trainer.save({"steps": loop.step})
    if held_out is not None:
        trainer.picture(settings.out / "final.png", held_out)
    return trainer.ema.eval()
