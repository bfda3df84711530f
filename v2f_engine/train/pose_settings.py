"""Settings of a pose model's training, checked at birth, and its recipes by name.

`published` is what `pose_training.py` of HaiyuWu/Vec2Face_plus 7aea100 does under the command of its README;
docs/fidelity.md lists what is left of a difference, `tests/train/test_pose_published.py` computes it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from v2f_engine.config import at_least, between, one_of
from v2f_engine.models.mask_schedule import MASK_SCHEDULES
from v2f_engine.train.loop import Budget
from v2f_engine.train.losses import LossWeights
from v2f_engine.train.optim import BETAS, cosine
from v2f_engine.train.perceptual_choice import check_perceptual, lpips_missing

PLUS = LossWeights(pixel=1.0, perceptual=0.4, ssim=1.0, identity=1.0, token=0.0)
"""MSE + 0.2 x (2 x LPIPS) + (1 - SSIM) + (1 - cosine)."""

RECIPES: Mapping[str, Mapping[str, Any]] = {
    # torchrun --nproc_per_node=4 pose_training.py --batch_size=64 --lr 1e-4 --warmup_epochs 1 --cosine_lr
    # --min_lr 1e-6 --use_amp (which is store_false: fp32) --use_lora --lora_r 8 --epochs 10
    "published": {
        "budget": Budget(epochs=10),
        "batch_per_gpu": 64,
        "betas": (0.9, 0.999),
        "decay_all": True,
        "warm_up_from": 1e-3,
        "perceptual": "lpips",
        "one_ratio": True,
        "whole_epochs": True,
        "bf16": False,
    },
    # Ours, for rendered people and few steps: the defaults of `PoseTraining`.
    "rendered": {},
}
"""Name -> the settings that it fixes."""
NEWER = {
    "recipe": "rendered", "batch_per_gpu": None, "betas": list(BETAS), "decay_all": False, "warm_up_from": 0.0,
    "perceptual": "auto", "one_ratio": False, "whole_epochs": False,
}  # fmt: skip
"""Settings that trainings begun before them do not name -> what they were."""


@dataclass(frozen=True)
class PoseTraining:
    """Settings of one training; `PoseTraining.named` fills them from a recipe.

    Args:
        out: folder of the log and of `pose.safetensors`.
        budget: epochs, steps or minutes.
        batch: images a step, of all ranks together.
        lr, weight_decay: of AdamW.
        warm_up, floor: share of the budget; final share of the rate.
        rank, alpha: of LoRA; published 8 and 32.
        masks: name in `MASK_SCHEDULES`.
        weights: of the loss.
        vgg: LPIPS weights on VGG16, the user's own.
        seed: of initialisation, order and masks.
        bf16: autocast to bfloat16.
        log_every: steps between two lines of the log.
        checkpoint_every: steps; the newest two are kept.
        recipe: the name in `RECIPES` that it was filled from.
        batch_per_gpu: images of a rank, as published; `batch` is then this x ranks.
        betas: of AdamW.
        decay_all: LoRA and biases decay like the pose network's weights.
        warm_up_from: share of the rate that the first step has.
        perceptual: a name in `perceptual_choice.PERCEPTUAL`.
        one_ratio: one mask ratio for what a rank computes at a time instead of one for every image.
        whole_epochs: an epoch has whole batches only; what is left over is not seen in it.

    Raises:
        ConfigError: names that do not exist, numbers out of range, LPIPS weights that would not be read.
    """

    out: Path
    budget: Budget = field(default_factory=lambda: Budget(steps=5000))
    batch: int = 16
    lr: float = 1e-4
    weight_decay: float = 0.05
    warm_up: float = 0.1
    floor: float = 0.01
    rank: int = 8
    alpha: float = 32.0
    masks: str = "plus-train"
    weights: LossWeights = PLUS
    vgg: Path | None = None
    seed: int = 0
    bf16: bool = True
    log_every: int = 50
    checkpoint_every: int = 500
    recipe: str = "rendered"
    batch_per_gpu: int | None = None
    betas: tuple[float, float] = BETAS
    decay_all: bool = False
    warm_up_from: float = 0.0
    perceptual: str = "auto"
    one_ratio: bool = False
    whole_epochs: bool = False

    def __post_init__(self) -> None:
        for name in ("batch", "checkpoint_every", "log_every", "rank"):
            at_least(name, getattr(self, name), 1)
        if self.batch_per_gpu is not None:
            at_least("batch_per_gpu", self.batch_per_gpu, 1)
        for name in ("warm_up", "floor", "warm_up_from"):
            between(name, getattr(self, name), 0.0, 1.0)
        one_of("mask schedule", self.masks, MASK_SCHEDULES)
        one_of("recipe", self.recipe, RECIPES)
        check_perceptual(self.perceptual, self.vgg)

    @classmethod
    def named(cls, recipe: str, out: Path, **changes: Any) -> PoseTraining:
        """The settings that a recipe stands for, with what is to be otherwise.

        Raises:
            ConfigError: a recipe nobody knows.
        """
        one_of("recipe", recipe, RECIPES)
        if "batch" in changes:
            changes = {"batch_per_gpu": None, **changes}
        return cls(**{"out": out, "recipe": recipe, **RECIPES[recipe], **changes})

    def on(self, world: int) -> PoseTraining:
        """With `batch` as `batch_per_gpu` makes it on so many ranks."""
        return self if self.batch_per_gpu is None else replace(self, batch=self.batch_per_gpu * world)

    def ends(self, rows: int) -> Budget:
        """The budget on a set of `rows` images, in steps or minutes.

        Raises:
            DatasetError: whole batches only, of a set smaller than one.
        """
        if not self.whole_epochs:
            return self.budget.on(rows, self.batch)
        advice = "Give a smaller --batch, or --recipe rendered."
        return self.budget.on_whole_batches(rows, self.batch, advice)

    def require_vgg(self) -> None:
        """Raises ModelNotFound where the recipe compares by LPIPS and there are no weights for it."""
        if self.perceptual == "lpips" and self.vgg is None and self.weights.perceptual:
            raise lpips_missing(
                f"Recipe {self.recipe!r}",
                "HaiyuWu/Vec2Face_plus",
                "The recogniser's maps, which are another loss, are compared by --recipe rendered.",
            )

    def rate(self, progress: float) -> float:
        """Of AdamW at `progress` in [0, 1]: a line up from `warm_up_from`, then half a cosine down to `floor`."""
        if progress < self.warm_up:
            return self.lr * (self.warm_up_from + (1.0 - self.warm_up_from) * progress / self.warm_up)
        return self.lr * cosine(progress, self.warm_up, self.floor)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the file's head."""
        values = {**asdict(self), "weights": asdict(self.weights), "betas": list(self.betas)}
        return {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}
