"""Settings of a generator's training, checked at birth; recipes by name stand in `generator_recipes`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from v2f_engine.config import at_least, between, one_of
from v2f_engine.errors import ConfigError
from v2f_engine.models.mask_schedule import MASK_SCHEDULES
from v2f_engine.models.vec2face import Vec2FaceConfig
from v2f_engine.train.generator_recipes import RECIPES as RECIPES
from v2f_engine.train.generator_recipes import AsPublished as AsPublished
from v2f_engine.train.loop import Budget
from v2f_engine.train.losses import PRESETS, LossWeights
from v2f_engine.train.perceptual_choice import check_perceptual, lpips_missing

STEPPING = ("eager", "compiled", "graph")
"""How a step runs: as written; with the convolutional parts through torch.compile; as one CUDA graph."""

NEWER: dict[str, Any] = {
    "critic_vector": False, "critic_smooth": 0.0, "critic_side": 112, "subpixel": False, "background": 1.0,
    "second": None, "weights": {"second": 0.0, "spectrum": 0.0},
}  # fmt: skip
"""Settings that trainings before 2026-11-28 did not note, with what they were there."""


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
        batch_per_gpu: images that one rank computes at a time, as published; `batch` is then this x ranks x parts.
        accumulate: parts that each rank's share of the batch is computed in.
        base_lr: the rate is `base_lr * batch / 112`, as published.
        lr_floor: share of the rate that the cosine ends at; 0 as published.
        weight_decay, clip: of AdamW; norm that gradients are clipped to, 0 for no clipping.
        warm_up: share of the budget.
        masks: names in `MASK_SCHEDULES`, taken in turn; the published training has `train` only, and so
            never shows the encoder the lengths that generation uses.
        ema: decay of the averaged weights, which are the ones written.
        critic_width: channels of the discriminator's stem, 64 as published.
        critic_lr: its learning rate, or None for the generator's own rate and schedule.
        critic_vector: the discriminator sees the identity vector, too. Ours.
        critic_smooth: weight of the squared slope of the discriminator at real images (`smoothness_loss`), looked at in
            one step of four with four times the weight. Ours.
        critic_side: of the window of both images that the discriminator sees, the same for a step's images; all of
            them, as published, at 112. At 80 a step takes two thirds of the time.
        shift: both images are moved by up to so many pixels before a frozen network sees them: a pattern that
            fools it at one place only (ringing was seen in the background) does not pay.
        subpixel: they are moved by fractions of a pixel, too.
        background: weight of a pixel far from the face in the pixel terms; 1 as published. A vector does not know what
            is behind a person, and the mean of what may be there is a grey blur.
        second: weights of a second frozen recogniser, for `loss.second`. Ours.
        vgg: LPIPS weights (VGG16 in torchvision's names).
        perceptual: a name in `perceptual_choice.PERCEPTUAL`.
        as_published: faults of the published code to repeat.
        seed: of initialisation, order and masks.
        bf16: autocast to bfloat16.
        fp16_amp: instead, as published: autocast to fp16 with one gradient scaler, the transformer blocks in fp32.
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
    batch_per_gpu: int | None = None
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
    critic_vector: bool = False
    critic_smooth: float = 0.0
    critic_side: int = 112
    shift: int = 4
    subpixel: bool = False
    background: float = 1.0
    second: Path | None = None
    vgg: Path | None = None
    perceptual: str = "auto"
    as_published: AsPublished = field(default_factory=AsPublished)
    seed: int = 0
    bf16: bool = True
    fp16_amp: bool = False
    stepping: str = "eager"
    checkpoint_every: int = 200
    picture_every: int = 200
    log_every: int = 50
    device: str = "cpu"
    start_from: Path | None = None

    def __post_init__(self) -> None:
        for name in ("batch", "accumulate", "log_every"):
            at_least(name, getattr(self, name), 1)
        for name in ("shift", "checkpoint_every", "picture_every", "critic_lr", "critic_smooth", "clip"):
            at_least(name, getattr(self, name) or 0, 0)
        if self.batch_per_gpu is not None:
            at_least("batch_per_gpu", self.batch_per_gpu, 1)
        for name in ("ema", "warm_up", "lr_floor", "background"):
            between(name, getattr(self, name), 0.0, 1.0)
        between("critic_side", self.critic_side, 32, 112)
        one_of("preset", self.preset, RECIPES)
        one_of("stepping", self.stepping, STEPPING)
        for name in self.masks or ("",):
            one_of("mask schedule", name, MASK_SCHEDULES)
        if self.stepping == "graph" and (self.shift or self.model.dropout):
            raise ConfigError(
                "A CUDA graph repeats its random numbers and its crops: stepping='graph' needs shift=0 and a"
                f" model without dropout, found shift {self.shift}, dropout {self.model.dropout}."
            )
        if self.stepping == "graph" and (self.critic_smooth or self.critic_side < 112):
            raise ConfigError(
                "A CUDA graph repeats its random numbers and its windows: stepping='graph' needs critic_smooth=0 and"
                f" critic_side=112, found critic_smooth {self.critic_smooth}, critic_side {self.critic_side}."
            )
        if (self.loss_weights.second > 0) != (self.second is not None):
            raise ConfigError(
                "A second recogniser and the weight of what it sees belong together: found"
                f" loss.second {self.loss_weights.second} and second {self.second}. Give both, or neither."
            )
        if self.fp16_amp and (self.bf16 or self.stepping == "graph"):
            raise ConfigError(
                "fp16_amp is a precision of its own, and its steps wait for the device to say whether one overflowed:"
                f" it needs bf16=False and no CUDA graph, found bf16={self.bf16}, stepping={self.stepping!r}."
            )
        check_perceptual(self.perceptual, self.vgg)

    @classmethod
    def named(cls, recipe: str, out: Path, **changes: Any) -> GeneratorTraining:
        """The settings that a recipe stands for, with what is to be otherwise.

        Raises:
            ConfigError: a recipe nobody knows.
        """
        one_of("preset", recipe, RECIPES)
        if "batch" in changes:
            changes = {"batch_per_gpu": None, **changes}
        return cls(**{"out": out, "preset": recipe, **RECIPES[recipe], **changes})

    @property
    def loss_weights(self) -> LossWeights:
        return self.weights or PRESETS[self.preset]

    def on(self, world: int) -> GeneratorTraining:
        """With `batch` as `batch_per_gpu` makes it on so many ranks."""
        if self.batch_per_gpu is None:
            return self
        return replace(self, batch=self.batch_per_gpu * self.accumulate * world)

    def ends(self, rows: int) -> Budget:
        """The budget on a set of `rows` images, in steps or minutes.

        Raises:
            DatasetError: published epochs, which have whole batches only, of a set smaller than a batch.
        """
        if not self.as_published.whole_epochs:
            return self.budget.on(rows, self.batch)
        advice = "Give a smaller batch, or --set as_published.whole_epochs=false."
        return self.budget.on_whole_batches(rows, self.batch, advice)

    def require_vgg(self) -> None:
        """Raises ModelNotFound where the recipe compares by LPIPS and there are no weights for it."""
        if self.perceptual == "lpips" and self.vgg is None and self.loss_weights.perceptual:
            raise lpips_missing(
                f"Preset {self.preset!r}",
                "HaiyuWu/Vec2Face",
                "To train by the recogniser's maps, which is another loss: --set perceptual=recogniser.",
            )

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
        values = {
            **asdict(self), "model": self.model.to_json(), "weights": asdict(self.loss_weights),
            "as_published": self.as_published.to_json(),
        }  # fmt: skip
        return {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}
