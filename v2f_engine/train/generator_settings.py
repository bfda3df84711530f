"""Settings of a generator's training: one name, one recipe; the published code's faults are switches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from v2f_engine.config import at_least, between, one_of
from v2f_engine.errors import ConfigError
from v2f_engine.models.mask_schedule import MASK_SCHEDULES
from v2f_engine.models.vec2face import Vec2FaceConfig
from v2f_engine.train.loop import Budget
from v2f_engine.train.losses import PRESETS, LossWeights

STEPPING = ("eager", "compiled", "graph")
"""How a step runs: as written; with the convolutional parts through torch.compile; as one CUDA graph."""


@dataclass(frozen=True)
class AsPublished:
    """Behaviours of the published code, off unless asked for; tests show what each changes.

    Args:
        critic_leak: the generator's adversarial gradient stays in the discriminator's and is added to its own,
            so the discriminator is also taught to call generated patches real.
        critic_always: before its start the discriminator runs, with factor 0. Its weights then differ by
            AdamW's decoupled decay alone.
        linear_fooling: the generator's term is -mean(D(fake)) instead of least squares.
        one_ratio: one mask ratio for the whole batch instead of one for every image.
        no_average: the trained weights are written, not their moving average.
    """

    critic_leak: bool = False
    critic_always: bool = False
    linear_fooling: bool = False
    one_ratio: bool = False
    no_average: bool = False

    @classmethod
    def all(cls) -> AsPublished:
        return cls(True, True, True, True, True)


_PUBLISHED = {
    "model": Vec2FaceConfig.base(),
    "batch": 128,
    "base_lr": 4e-5,
    "lr_floor": 0.0,
    "clip": 2.0,
    "masks": ("train",),
    "ema": 0.9998,
    "critic_width": 64,
    "critic_lr": None,
    "shift": 0,
}
RECIPES: Mapping[str, Mapping[str, Any]] = {
    # The paper's era: one GPU, batch 8, 2000 epochs, 5 of them warm-up: lr 2.9e-6.
    "published-2024": {**_PUBLISHED, "batch": 8, "budget": Budget(epochs=2000), "warm_up": 5 / 2000},
    # Today's README: 4 GPUs x 32, 100 epochs: lr 4.57e-5.
    "published-2025": {**_PUBLISHED, "budget": Budget(epochs=100), "warm_up": 5 / 100},
    # Vec2Face+: no discriminator, gradients clipped at 1.
    "plus": {**_PUBLISHED, "clip": 1.0, "budget": Budget(epochs=100), "warm_up": 5 / 100},
    # Ours, for rendered people and few steps: the defaults of `GeneratorTraining`.
    "rendered": {},
}
"""Name -> the settings it fixes; losses are those of the same name in `losses.PRESETS`."""


@dataclass(frozen=True)
class GeneratorTraining:
    """Settings of one training. `GeneratorTraining.named` fills them from a recipe.

    Args:
        out: folder of checkpoints, log, curves, sample grids and `generator.safetensors`.
        model: shape of the network.
        preset: name of the recipe, and of its losses in `losses.PRESETS`.
        weights: used instead of the preset's.
        budget: epochs, steps or minutes.
        batch: images a step, of all ranks and accumulated parts together.
        accumulate: parts that each rank's share of the batch is computed in.
        base_lr: the rate is `base_lr * batch / 112`, as published.
        lr_floor: share of the rate that the cosine ends at; 0 as published.
        weight_decay, clip: of AdamW; norm of the clipped gradient.
        warm_up: share of the budget.
        masks: names in `MASK_SCHEDULES`, taken in turn; the published training has `train` only, and so
            never shows the encoder the lengths that generation uses.
        ema: decay of the averaged weights, which are the ones written.
        critic_width: channels of the discriminator's stem, 64 as published.
        critic_lr: its learning rate, or None for the generator's own rate and schedule.
        shift: both images are moved by up to so many pixels before a frozen network sees them: a pattern that
            fools it at one place only (ringing was seen in the background) does not pay.
        vgg: LPIPS weights (VGG16 in torchvision's names); the recogniser's maps are compared where None.
        as_published: faults of the published code to repeat.
        seed: of initialisation, order and masks.
        bf16: autocast to bfloat16.
        stepping: a name in `STEPPING`.
        checkpoint_every, picture_every: steps; a picture comes with a validation. 0 for never.
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
    accumulate: int = 1
    base_lr: float = 4.9e-3
    lr_floor: float = 0.02
    weight_decay: float = 0.01
    clip: float = 2.0
    warm_up: float = 0.03
    masks: tuple[str, ...] = ("train", "generate")
    ema: float = 0.998
    critic_width: int = 16
    critic_lr: float | None = 2e-4
    shift: int = 4
    vgg: Path | None = None
    as_published: AsPublished = AsPublished()
    seed: int = 0
    bf16: bool = True
    stepping: str = "eager"
    checkpoint_every: int = 200
    picture_every: int = 200
    log_every: int = 50
    device: str = "cpu"
    start_from: Path | None = None

    def __post_init__(self) -> None:
        for name in ("batch", "accumulate", "log_every"):
            at_least(name, getattr(self, name), 1)
        for name in ("shift", "checkpoint_every", "picture_every", "critic_lr"):
            at_least(name, getattr(self, name) or 0, 0)
        for name in ("ema", "warm_up", "lr_floor"):
            between(name, getattr(self, name), 0.0, 1.0)
        one_of("preset", self.preset, RECIPES)
        one_of("stepping", self.stepping, STEPPING)
        for name in self.masks or ("",):
            one_of("mask schedule", name, MASK_SCHEDULES)
        if self.stepping == "graph" and (self.shift or self.model.dropout):
            raise ConfigError(
                "A CUDA graph repeats its random numbers and its crops: stepping='graph' needs shift=0 and a"
                f" model without dropout, found shift {self.shift}, dropout {self.model.dropout}."
            )

    @classmethod
    def named(cls, recipe: str, out: Path, **changes: Any) -> GeneratorTraining:
        """The settings that a recipe stands for, with what is to be otherwise.

        Raises:
            ConfigError: a recipe nobody knows.
        """
        one_of("preset", recipe, RECIPES)
        return cls(**{"out": out, "preset": recipe, **RECIPES[recipe], **changes})

    @property
    def loss_weights(self) -> LossWeights:
        return self.weights or PRESETS[self.preset]

    def part(self, world: int) -> int:
        """Images that one rank computes at a time.

        Raises:
            ConfigError: the batch cannot be divided.
        """
        parts = world * self.accumulate
        if self.batch % parts:
            raise ConfigError(
                f"A batch of {self.batch} cannot be divided among {world} ranks x {self.accumulate} parts."
                f" Give a multiple of {parts}."
            )
        return self.batch // parts

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the card."""
        values = {**asdict(self), "model": self.model.to_json(), "weights": asdict(self.loss_weights)}
        return {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}
