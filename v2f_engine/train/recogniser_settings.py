"""Settings of a recogniser's training: one name, one recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from v2f_engine.config import at_least, between, one_of
from v2f_engine.errors import ConfigError
from v2f_engine.models.iresnet import IResNetConfig
from v2f_engine.train.loop import Budget
from v2f_engine.train.margin import MARGINS

MINI_RECOGNISER = IResNetConfig(layers=(1, 2, 2, 1), widths=(32, 64, 128, 256), stem_stride=2)
"""The embedded feature extractor: about an iresnet-18 at half width and half resolution."""
OPTIMISERS = ("adamw", "sgd")
AUGMENTATIONS = ("rendered", "published", "mirror", "none")

_PUBLISHED: dict[str, Any] = {
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
RECIPES: Mapping[str, Mapping[str, Any]] = {
    # ResNet-50 with SE, ArcFace, SGD, 26 epochs, milestones 12, 20, 24: the five-set tables of Vec2Face.
    "published": _PUBLISHED,
    # The same with the margins of the CosFace and AdaFace papers.
    "published-cosface": {**_PUBLISHED, "margin": "cosface", "m": 0.4, "straight": False},
    "published-adaface": {**_PUBLISHED, "margin": "adaface", "m": 0.4, "straight": False},
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
        optimiser: a name in `OPTIMISERS`; SGD has momentum.
        lr: its learning rate. Published rates are for 128 images and are not scaled here.
        momentum: of SGD.
        weight_decay: AdamW spares vectors; SGD spares batch norms, as published.
        milestones: shares of the budget after which the rate is a tenth; none for warm-up and half a cosine.
        clip: norm of the network's clipped gradient; the head's is not clipped.
        margin, m, straight: see `margin.MARGINS` and `Margin`.
        scale: of the margin softmax.
        ease: the margin grows between 20 % and 70 % of the budget.
        sample_rate: share of the other classes that a step compares with.
        augment: a name in `AUGMENTATIONS`.
        seed: of initialisation, order, augmentation and samples.
        bf16: compute convolutions in bfloat16, weights stay fp32.
        threads: that decode and augment.
        checkpoint_every: steps.
        log_every: steps between two lines of the log.
        device: torch device.
        start_from: `recogniser.safetensors` of an earlier training to go on from, perhaps with more people;
            the head then starts at the class centres of its features.
    """

    out: Path
    model: IResNetConfig = MINI_RECOGNISER
    budget: Budget = field(default_factory=lambda: Budget(steps=3000))
    batch: int = 64
    optimiser: str = "adamw"
    lr: float = 1.5e-3
    momentum: float = 0.9
    weight_decay: float = 0.05
    milestones: tuple[float, ...] = ()
    clip: float = 5.0
    margin: str = "cosface"
    m: float = 0.2
    straight: bool = False
    scale: float = 24.0
    ease: bool = True
    sample_rate: float = 1.0
    augment: str = "rendered"
    seed: int = 0
    bf16: bool = True
    threads: int = 1
    checkpoint_every: int = 500
    log_every: int = 50
    device: str = "cpu"
    start_from: Path | None = None

    def __post_init__(self) -> None:
        at_least("batch", self.batch, 2)
        for name in ("threads", "log_every", "checkpoint_every"):
            at_least(name, getattr(self, name), 1)
        for name in ("lr", "momentum", "weight_decay", "clip", "scale"):
            at_least(name, getattr(self, name), 0.0)
        one_of("optimiser", self.optimiser, OPTIMISERS)
        one_of("margin", self.margin, MARGINS)
        one_of("augmentation", self.augment, AUGMENTATIONS)
        between("sample_rate", self.sample_rate, 1e-6, 1.0)
        if list(self.milestones) != sorted(self.milestones):
            raise ConfigError(f"milestones must rise, found {self.milestones}.")
        for share in self.milestones:
            between("milestone", share, 0.0, 1.0)

    @classmethod
    def named(cls, recipe: str, out: Path, **changes: Any) -> RecogniserTraining:
        """The settings that a recipe stands for, with what is to be otherwise.

        Raises:
            ConfigError: a recipe nobody knows.
        """
        one_of("recipe", recipe, RECIPES)
        return cls(**{"out": out, **RECIPES[recipe], **changes})

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
