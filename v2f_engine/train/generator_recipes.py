"""Recipes of a generator's training by name: the published ones to the letter, and ours.

`published-2024`, `published-2025` and `plus` are what HaiyuWu/Vec2Face e0b439c (its first release) and 9d9fa8c and
HaiyuWu/Vec2Face_plus 7aea100 do, faults included. `mended-*` have their losses, sizes, rates and lengths without
the faults. docs/fidelity.md lists every difference; `tests/train/test_generator_published_curve.py` holds the
published ones against a computation of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from v2f_engine.models.vec2face import Vec2FaceConfig
from v2f_engine.train.loop import Budget


@dataclass(frozen=True)
class AsPublished:
    """Behaviours of the published code, off unless asked for; tests show what each changes.

    Args:
        critic_leak: the generator's adversarial gradient stays in the discriminator's and is added to its own,
            so the discriminator is also taught to call generated patches real.
        critic_always: before its start the discriminator runs, with factor 0. Its weights then differ by
            AdamW's decoupled decay alone.
        linear_fooling: the generator's term is -mean(D(fake)) instead of least squares.
        one_ratio: one mask ratio for what a rank computes at a time instead of one for every image.
        no_average: the trained weights are written, not their moving average.
        critic_constant: where the discriminator has no rate of its own it keeps the generator's highest one,
            without warm-up and cosine.
        decay_all: biases and norms decay, too.
        xavier: linear layers begin as `generator_start.xavier` has them, instead of N(0, 0.02).
        whole_epochs: an epoch has whole batches only; what is left over is not seen in it.
    """

    critic_leak: bool = False
    critic_always: bool = False
    linear_fooling: bool = False
    one_ratio: bool = False
    no_average: bool = False
    critic_constant: bool = False
    decay_all: bool = False
    xavier: bool = False
    whole_epochs: bool = False

    @classmethod
    def all(cls) -> AsPublished:
        return cls(*(True for _ in fields(cls)))

    def to_json(self) -> dict[str, bool]:
        """Plain values; the four newest only where they are on, so that trainings begun before them go on."""
        return {name: on for name, on in vars(self).items() if on or name not in _NEWEST}


_NEWEST = ("critic_constant", "decay_all", "xavier", "whole_epochs")

_SHARED = {
    "model": Vec2FaceConfig.base(),
    "base_lr": 4e-5,
    "lr_floor": 0.0,
    "masks": ("train",),
    "critic_width": 64,
    "critic_lr": None,
    "shift": 0,
    "perceptual": "lpips",
}
_PUBLISHED = {**_SHARED, "as_published": AsPublished.all(), "bf16": False}
_MENDED = {**_SHARED, "batch": 128, "clip": 2.0, "ema": 0.9998}
_2000_EPOCHS = {"budget": Budget(epochs=2000), "warm_up": 5 / 2000}
_100_EPOCHS = {"budget": Budget(epochs=100), "warm_up": 5 / 100}

RECIPES: Mapping[str, Mapping[str, Any]] = {
    # e0b439c and its README: one GPU, batch 8, 2000 epochs, 5 of them warm-up: lr 2.9e-6; fp32, nothing clipped.
    "published-2024": {**_PUBLISHED, **_2000_EPOCHS, "batch_per_gpu": 8, "clip": 0.0},
    # 9d9fa8c and its README: 4 GPUs x 32, 100 epochs: lr 4.57e-5; fp16 AMP, clipped at 2.
    "published-2025": {**_PUBLISHED, **_100_EPOCHS, "batch_per_gpu": 32, "clip": 2.0, "fp16_amp": True},
    # Vec2Face+: no discriminator, clipped at 1. No command of its main model is published: batch, rate and length
    # are Vec2Face's README.
    "plus": {**_PUBLISHED, **_100_EPOCHS, "batch_per_gpu": 32, "clip": 1.0, "fp16_amp": True},
    # Ours: their losses without their faults; bf16, the batch is that of all ranks together.
    "mended-2024": {**_MENDED, **_2000_EPOCHS, "batch": 8},
    "mended-2025": {**_MENDED, **_100_EPOCHS},
    "mended-plus": {**_MENDED, **_100_EPOCHS, "clip": 1.0},
    # Ours, for rendered people and few steps: the defaults of `GeneratorTraining`.
    "rendered": {},
    # Ours, for rendered people and a recogniser without resonances: sharp pictures; backgrounds, which no vector knows,
    # are left to the discriminator.
    "sharp": {
        "base_lr": 2.8e-3,
        "critic_lr": 1e-3,
        "critic_vector": True,
        "critic_smooth": 0.05,
        "critic_side": 80,
        "subpixel": True,
        "background": 0.2,
    },
}
"""Name -> the settings it fixes; losses are those of the same name in `losses.PRESETS`."""
