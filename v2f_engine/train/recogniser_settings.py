"""Settings of a recogniser's training: one name, one recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from v2f_engine.config import at_least, between, one_of
from v2f_engine.errors import ConfigError, DatasetError
from v2f_engine.models.iresnet import IResNetConfig
from v2f_engine.train.loop import Budget
from v2f_engine.train.margin import MARGINS
from v2f_engine.train.published_augment import ERASED, SHARE

MINI_RECOGNISER = IResNetConfig(layers=(1, 2, 2, 1), widths=(32, 64, 128, 256), stem_stride=2, blur=True)
"""The embedded feature extractor: about an iresnet-18 at half width and resolution, blurred before every stride."""
OPTIMISERS = ("adamw", "sgd")
STEPPING = ("eager", "graph")
AUGMENTATIONS = ("rendered", "hardened", "published", "mirror", "none")
"""`hardened` is `rendered` and then stripes and JPEG."""

_MENDED: dict[str, Any] = {
    "model": IResNetConfig.named("iresnet50", se=True),
    "budget": Budget(epochs=26),
    "batch": 128,
    "optimiser": "sgd",
    "lr": 0.1,
    "weight_decay": 5e-4,
    "milestones": (12 / 26, 20 / 26, 24 / 26),
    "margin": "arcface",
    "m": 0.5,
    "straight": True,
    "scale": 64.0,
    "ease": False,
    "augment": "published",
    "seed": 42,
}
_PUBLISHED: dict[str, Any] = {
    **_MENDED,
    "batch_per_gpu": 128,
    "milestones": (),
    "drops": (
        11.0,
        19.0,
        23.0,
    ),  # the configuration's 12, 20, 24 are looked at as an epoch begins, counted from 1
    "margin": "arcface-published",
    "dropout": 0.4,
    "whole_epochs": True,
    "bf16": False,
    "fp16_amp": True,
}
_COSFACE = {"margin": "cosface", "m": 0.4, "straight": False}
_ADAFACE = {"margin": "adaface", "m": 0.4, "straight": False}
RECIPES: Mapping[str, Mapping[str, Any]] = {
    # HaiyuWu/SOTA-Face-Recognition-Train-and-Test b8c42fe with the configuration of HaiyuWu/Vec2Face issue 1, to the
    # letter: SE-ResNet-50, ArcFace, SGD, 26 epochs, 128 images a GPU, fp16: the five-set tables of Vec2Face.
    "published": _PUBLISHED,
    # The same with other heads. Its own AdaFace stops with a NameError: this is that of the AdaFace paper.
    "published-cosface": {**_PUBLISHED, **_COSFACE},
    "published-adaface": {**_PUBLISHED, **_ADAFACE},
    # Ours for real sets: no dropout, an angle that stops at pi, bf16, every image in every epoch, the rate falls at 12,
    # 20 and 24 of 26 parts of any budget, 128 images of all ranks together.
    "mended": _MENDED,
    "mended-cosface": {**_MENDED, **_COSFACE},
    "mended-adaface": {**_MENDED, **_ADAFACE},
    # Ours, for rendered people and few steps: the defaults of `RecogniserTraining`.
    "rendered": {},
}
"""Name -> the settings it fixes."""


@dataclass(frozen=True)
class RecogniserTraining:
    """Settings of one training. `RecogniserTraining.named` fills them from a recipe.

    Args:
        out: folder of checkpoints, log and `recogniser.safetensors`.
        model: shape of the network.
        budget: epochs, steps or minutes.
        batch: images a step, of all ranks together.
        batch_per_gpu: images a step of one rank, as published; `batch` is then this x ranks.
        whole_epochs: an epoch has whole batches only, as published: what is left over is not seen in it.
        optimiser: a name in `OPTIMISERS`; SGD has momentum.
        lr: its learning rate. Published rates are for 128 images and are not scaled here.
        momentum: of SGD.
        weight_decay: AdamW spares vectors; SGD spares batch norms, as published.
        milestones: shares of the budget after which the rate is a tenth.
        drops: finished epochs after which the rate is a tenth, whatever the budget; with neither of the two, warm-up
            and half a cosine.
        dropout: before the network's last layer, in training.
        clip: norm of the network's clipped gradient; the head's is not clipped.
        margin, m, straight: see `margin.MARGINS` and `Margin`.
        scale: of the margin softmax.
        ease: the margin grows between 20 % and 70 % of the budget.
        sample_rate: share of the other classes that a step compares with.
        augment: a name in `AUGMENTATIONS`.
        steady: weight of 1 - cosine of an image's features with and without what `hardened` adds to `rendered`; above
            0, a step sees every image both ways. Ours.
        augment_share, erase_share: of `published`: images for each of AdaFace's three, and for RandomErasing.
        seed: of initialisation, order, augmentation and samples.
        bf16: compute convolutions in bfloat16, weights stay fp32.
        fp16_amp: instead, as published: convolutions and the head's cosines in fp16, a gradient scaler, and gradients
            sent between ranks in fp16.
        stepping: a name in `STEPPING`: operator by operator, or a step as one CUDA graph.
        threads: that decode and augment.
        checkpoint_every: steps.
        validate_every: steps between validations on verification sets; every epoch where none is given.
        log_every: steps between two lines of the log.
        device: torch device.
        start_from: `recogniser.safetensors` of an earlier training to go on from, perhaps with more people;
            the head then starts at the class centres of its features.
    """

    out: Path
    model: IResNetConfig = MINI_RECOGNISER
    budget: Budget = field(default_factory=lambda: Budget(steps=3000))
    batch: int = 64
    batch_per_gpu: int | None = None
    whole_epochs: bool = False
    optimiser: str = "adamw"
    lr: float = 1.5e-3
    momentum: float = 0.9
    weight_decay: float = 0.05
    milestones: tuple[float, ...] = ()
    drops: tuple[float, ...] = ()
    dropout: float = 0.0
    clip: float = 5.0
    margin: str = "cosface"
    m: float = 0.2
    straight: bool = False
    scale: float = 24.0
    ease: bool = True
    sample_rate: float = 1.0
    augment: str = "rendered"
    steady: float = 0.0
    augment_share: float = SHARE
    erase_share: float = ERASED
    seed: int = 0
    bf16: bool = True
    fp16_amp: bool = False
    stepping: str = "eager"
    threads: int = 1
    checkpoint_every: int = 500
    validate_every: int | None = None
    log_every: int = 50
    device: str = "cpu"
    start_from: Path | None = None

    def __post_init__(self) -> None:
        at_least("batch", self.batch, 2)
        for name in ("threads", "log_every", "checkpoint_every"):
            at_least(name, getattr(self, name), 1)
        for name in ("lr", "momentum", "weight_decay", "clip", "scale", "steady"):
            at_least(name, getattr(self, name), 0.0)
        one_of("optimiser", self.optimiser, OPTIMISERS)
        one_of("stepping", self.stepping, STEPPING)
        if self.stepping == "graph" and (self.dropout or self.fp16_amp or self.sample_rate < 1.0):
            raise ConfigError(
                "A CUDA graph repeats its random numbers and cannot ask the device whether a step overflowed:"
                " stepping='graph' needs dropout=0, sample_rate=1 and no fp16_amp, found dropout"
                f" {self.dropout}, sample_rate {self.sample_rate}, fp16_amp {self.fp16_amp}."
            )
        one_of("margin", self.margin, MARGINS)
        one_of("augmentation", self.augment, AUGMENTATIONS)
        if self.steady and self.augment != "hardened":
            raise ConfigError(
                "steady compares images with and without stripes and JPEG: it needs augment='hardened', found"
                f" {self.augment!r} with steady {self.steady}."
            )
        between("sample_rate", self.sample_rate, 1e-6, 1.0)
        between("dropout", self.dropout, 0.0, 0.99)
        for name in ("augment_share", "erase_share"):
            between(name, getattr(self, name), 0.0, 1.0)
        if self.batch_per_gpu is not None:
            at_least("batch_per_gpu", self.batch_per_gpu, 2)
        if self.validate_every is not None:
            at_least("validate_every", self.validate_every, 1)
        for name in ("milestones", "drops"):
            if list(getattr(self, name)) != sorted(getattr(self, name)):
                raise ConfigError(f"{name} must rise, found {getattr(self, name)}.")
        for share in self.milestones:
            between("milestone", share, 0.0, 1.0)
        for epoch in self.drops:
            at_least("drop of the rate, in epochs", epoch, 0.0)
        if self.milestones and self.drops:
            raise ConfigError(
                f"milestones {self.milestones} are shares of the budget and drops {self.drops} are epochs: give one of"
                " the two, () for the other."
            )
        if self.fp16_amp and self.bf16:
            raise ConfigError("fp16_amp is a precision of its own: it needs bf16=False.")

    @classmethod
    def named(cls, recipe: str, out: Path, **changes: Any) -> RecogniserTraining:
        """The settings that a recipe stands for, with what is to be otherwise.

        Raises:
            ConfigError: a recipe nobody knows.
        """
        one_of("recipe", recipe, RECIPES)
        if "batch" in changes:
            changes = {"batch_per_gpu": None, **changes}
        return cls(**{"out": out, **RECIPES[recipe], **changes})

    @property
    def precision(self) -> torch.dtype | None:
        """Of convolutions; None for fp32."""
        return torch.float16 if self.fp16_amp else torch.bfloat16 if self.bf16 else None

    def on(self, world: int) -> RecogniserTraining:
        """With `batch` as `batch_per_gpu` makes it on so many ranks."""
        return self if self.batch_per_gpu is None else replace(self, batch=self.batch_per_gpu * world)

    def steps_of_epoch(self, rows: int, world: int) -> float:
        """Steps in which `rows` images are seen once; whole where epochs have whole batches only.

        As torch's `DistributedSampler` and `drop_last` count them: every rank is dealt as many rows, the first ones
        twice where they do not come out even, and leaves out what fills no batch.

        Raises:
            DatasetError: published epochs of a set smaller than a batch.
        """
        if not self.whole_epochs:
            return rows / self.batch
        steps = -(-rows // world) // self.part(world)
        if not steps:
            raise DatasetError(
                f"A published epoch has whole batches only, and the set holds {rows} rows for a batch of {self.batch}:"
                " nothing would be learned. Give a smaller batch, or --set whole_epochs=false."
            )
        return steps

    def ends(self, rows: int, world: int) -> Budget:
        """The budget on a set of `rows` images, in steps or minutes. Raises DatasetError as `steps_of_epoch`."""
        steps = self.steps_of_epoch(rows, world)
        return self.budget.of_epochs(steps) if self.whole_epochs else self.budget.on(rows, self.batch)

    def part(self, world: int) -> int:
        """Images of one rank's step. Raises ConfigError where the batch cannot be divided."""
        if self.batch % world or self.batch // world < 2:
            raise ConfigError(
                f"A batch of {self.batch} cannot be divided among {world} ranks. Give a multiple of {world}, two "
                "images a rank at least."
            )
        return self.batch // world

    def to_json(self) -> dict[str, Any]:
        """Plain values, for checkpoints and cards."""
        values = {**asdict(self), "model": self.model.to_json()}
        return {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}


_NEWEST = (
    "steady",
    "batch_per_gpu",
    "whole_epochs",
    "drops",
    "dropout",
    "augment_share",
    "erase_share",
    "fp16_amp",
)
BEFORE: Mapping[str, Any] = {
    each.name: list(each.default) if isinstance(each.default, tuple) else each.default
    for each in fields(RecogniserTraining)
    if each.name in _NEWEST
}
"""Settings that trainings begun before 2026-11-28 do not name, as they were then."""
