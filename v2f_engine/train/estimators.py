"""Trains the estimators of pose and of quality on rendered people, whose attributes are exact.

Generated faces are softer and noisier than rendered ones, so both learn under blur, low resolution and noise.
Quality *is* that degradation: 30 points for a clean picture, less 6 a pixel of blur and 0.4 a grey level of
noise, which puts good pictures where the feature norms of MagFace have them (22 to 30).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from v2f_engine.attributes.estimators import Estimator, EstimatorConfig, save_estimator
from v2f_engine.batch import ImageBatch
from v2f_engine.config import at_least, one_of
from v2f_engine.data.formats import open_dataset
from v2f_engine.errors import DatasetError
from v2f_engine.models.features import to_network
from v2f_engine.train.emulated import say_if_emulated
from v2f_engine.train.foreseen import timed_steps
from v2f_engine.train.loop import Budget, Loop
from v2f_engine.train.optim import adamw, cosine, set_lr
from v2f_engine.train.order import rows_of_step

BEST_QUALITY = 30.0
POINTS_PER_BLUR = 6.0
"""Quality lost per pixel of the blur's sigma."""
POINTS_PER_NOISE = 0.4
"""Quality lost per grey level of the noise's deviation."""


RECIPES = {
    "pose": EstimatorConfig(("yaw", "pitch"), (25.0, 10.0), (0.0, 0.0), (32, 64, 128, 128), shrink=2),
    "quality": EstimatorConfig(("quality",), (7.0,), (18.0,), (16, 32, 64, 96, 96)),
}
JUDGES = {
    "pose": replace(RECIPES["pose"], widths=(24, 48, 96, 128, 128), shrink=1),
    "quality": replace(RECIPES["quality"], widths=(24, 32, 64, 64, 96)),
}
"""Of another shape, for judging what the first ones steered; to be trained on other people."""
LABELS = {"yaw": "yaw", "pitch": "pitch", "quality": "blur"}
"""Output -> the attribute of rendered people that labels it."""


@dataclass(frozen=True)
class EstimatorTraining:
    """Settings of one training.

    Args:
        out: file of the weights.
        recipe: a name in `RECIPES`.
        model: instead of the recipe's shape, e.g. for an independent judge.
        budget: steps or minutes.
        batch, lr, weight_decay: of AdamW.
        seed: of initialisation, order and degradation.
        bf16: compute convolutions in bfloat16.
        device: torch device.
    """

    out: Path
    recipe: str = "pose"
    model: EstimatorConfig | None = None
    budget: Budget = field(default_factory=lambda: Budget(steps=3000))
    batch: int = 64
    lr: float = 2e-3
    weight_decay: float = 0.02
    seed: int = 0
    bf16: bool = True
    device: str = "cpu"

    def __post_init__(self) -> None:
        at_least("batch", self.batch, 2)
        one_of("estimator", self.recipe, RECIPES)


@dataclass(frozen=True)
class Labelled:
    """Images uint8 `[N, 112, 112, 3]` and their exact attributes, each float32 `[N]`."""

    images: NDArray[np.uint8]
    attributes: Mapping[str, NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.images)


def read_labelled(path: Path, names: tuple[str, ...], limit: int | None = None) -> Labelled:
    """Images of a dataset written by `v2f render`, with the attributes it recorded.

    Args:
        path: of the dataset, in any format.
        names: attributes wanted.
        limit: use no more images than this.

    Raises:
        DatasetError: no dataset, or one that recorded no such attribute.
    """
    faces = open_dataset(path)
    table = faces.attributes()
    known = () if table is None else table.dtype.names or ()
    missing = [name for name in names if name not in known]
    if table is None or missing:
        raise DatasetError(
            f"{path}: expected an image's attributes {missing}, found {sorted(known)}. Use a set made by `v2f render`."
        )
    rows = range(len(faces) if limit is None else min(limit, len(faces)))
    columns = {name: np.asarray(table[name][: len(rows)], np.float32) for name in names}
    return Labelled(faces.images(rows, threads=2), columns)


def render_labelled(
    seed: int,
    people: int,
    images: int,
    processes: int,
    progress: Callable[[int, int], None] | None = None,
) -> Labelled:
    """People of one seed with all their attributes, rendered now; `progress` is called with (images done, in all)."""
    from v2f_engine.rendered import render_people

    batches: list[ImageBatch] = []
    for batch in render_people(seed, range(people), images, processes):
        batches.append(batch)
        if progress is not None:
            progress(len(batches) * images, people * images)
    return _labelled(batches)


def probe_rendering(seed: int) -> tuple[Labelled, float]:
    """A few faces of the first people of a seed, and images/s of one process; the first person is not timed."""
    from v2f_engine.rendered import render_people

    batches: list[ImageBatch] = []
    began = 0.0
    for batch in render_people(seed, range(3), 4, 1):
        batches.append(batch)
        began = began or time.perf_counter()
    timed = sum(len(batch) for batch in batches[1:])
    return _labelled(batches), timed / (time.perf_counter() - began)


def _labelled(batches: Sequence[ImageBatch]) -> Labelled:
    names = batches[0].attributes
    return Labelled(
        np.concatenate([batch.images for batch in batches]),
        {name: np.concatenate([batch.attributes[name] for batch in batches]) for name in names},
    )


def degrade(
    images: NDArray[np.uint8], generator: np.random.Generator
) -> tuple[torch.Tensor, NDArray[np.float32], NDArray[np.float32]]:
    """Images moved a little, blurred, relit and noised; the blur's sigma in pixels, the noise's in grey levels.

    Two in five stay unblurred and half without noise, so that both ends of the scale are learnt; three in ten
    stay on their pixel grid, since interpolation softens too.

    Args:
        images: uint8 `[B, 112, 112, 3]`.
        generator: source of every choice.

    Returns:
        float32 `[B, 3, 112, 112]` in [-1, 1], channels-last, and float32 `[B]` each.
    """
    import cv2

    batch, side = len(images), images.shape[1]

    def uniform(low: float, high: float, *shape: int) -> NDArray[np.float32]:
        return generator.uniform(low, high, (batch, *shape)).astype(np.float32)

    sigma = np.where(uniform(0, 1) < 0.6, uniform(0.3, 3.0), np.float32(0))
    noise = np.where(uniform(0, 1) < 0.5, uniform(1.0, 22.0), np.float32(0))
    moved, scale, shift = uniform(0, 1) < 0.7, uniform(0.96, 1.04), uniform(-3, 3, 2)
    gain = uniform(0.7, 1.3, 1, 1, 1) * uniform(0.9, 1.1, 1, 1, 3)
    offset = uniform(-0.2, 0.2, 1, 1, 1)
    x = images.astype(np.float32) / np.float32(127.5) - np.float32(1)
    for i in range(batch):
        if moved[i]:
            matrix = np.array([[scale[i], 0, shift[i, 0]], [0, scale[i], shift[i, 1]]], np.float32)
            x[i] = cv2.warpAffine(x[i], matrix, (side, side), borderMode=cv2.BORDER_REFLECT)
        if sigma[i]:
            x[i] = cv2.GaussianBlur(x[i], (0, 0), float(sigma[i]))
    x = x * gain + offset
    noisy = np.flatnonzero(noise)
    grain = generator.standard_normal((len(noisy), *x.shape[1:]), np.float32)
    x[noisy] += grain * (noise[noisy, None, None, None] / np.float32(127.5))
    return torch.from_numpy(x.clip(-1, 1)).permute(0, 3, 1, 2), sigma, noise


def quality_of(sigma: NDArray[np.float32], noise: NDArray[np.float32]) -> NDArray[np.float32]:
    """Points of a picture with that blur (pixels) and noise (grey levels), 0..30."""
    lost = POINTS_PER_BLUR * sigma + POINTS_PER_NOISE * noise
    return np.asarray((BEST_QUALITY - lost).clip(0.0), np.float32)


def example(
    config: EstimatorConfig,
    images: NDArray[np.uint8],
    labels: Mapping[str, NDArray[np.float32]],
    generator: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A degraded batch as the network sees it and its exact outputs `[B, K]`; half of it mirrored."""
    mirrored = generator.random(len(images)) < 0.5
    images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
    seen, sigma, noise = degrade(images, generator)
    return seen, exact(config, labels, mirrored, sigma, noise)


def exact(
    config: EstimatorConfig,
    labels: Mapping[str, NDArray[np.float32]],
    mirrored: NDArray[np.bool_],
    sigma: NDArray[np.float32],
    noise: NDArray[np.float32],
) -> torch.Tensor:
    """The true outputs `[B, K]` of images that were mirrored, blurred and noised so."""

    def one(output: str) -> NDArray[np.float32]:
        label = labels[LABELS[output]]
        if output == "quality":
            return quality_of(np.hypot(sigma, label), noise)
        return np.where(mirrored, -label, label) if output == "yaw" else label

    return torch.from_numpy(np.stack([one(output) for output in config.outputs], 1))


class EstimatorTrainer:
    """A network under training, its optimiser and its data.

    Args:
        data: what it learns from.
        settings: how.
    """

    def __init__(self, data: Labelled, settings: EstimatorTraining) -> None:
        torch.manual_seed(settings.seed)  # only the constructor below draws from it
        self.config = settings.model or RECIPES[settings.recipe]
        self.estimator = Estimator(self.config)
        self.estimator.to(device=settings.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = adamw([self.estimator], settings.lr, settings.weight_decay)
        self.data, self.settings = data, settings
        self.labels = {LABELS[name]: data.attributes[LABELS[name]] for name in self.config.outputs}
        self.estimator.train()

    def step(self, number: int, progress: float) -> tuple[dict[str, torch.Tensor], NDArray[np.int64]]:
        """One step: loss and errors, and the rows it saw.

        Args:
            number: of the step, which decides rows and degradation.
            progress: share of the budget that is behind it, for the learning rate.
        """
        settings, estimator = self.settings, self.estimator
        set_lr(self.optimizer, settings.lr * cosine(progress, 0.05))
        rows = rows_of_step(settings.seed, number, settings.batch, len(self.data))
        generator = np.random.Generator(np.random.Philox(key=settings.seed, counter=number << 64))
        labels = {name: values[rows] for name, values in self.labels.items()}
        seen, wanted = example(self.config, self.data.images[rows], labels, generator)
        with torch.autocast(settings.device, torch.bfloat16, enabled=settings.bf16):
            found = estimator.standardised(seen.to(settings.device)).float()
        target = (wanted.to(settings.device) - estimator.offset) / estimator.scale
        loss = F.smooth_l1_loss(found, target, beta=0.3)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(estimator.parameters(), 2.0)
        self.optimizer.step()
        error = (found.detach() - target).abs().mean(0) * estimator.scale
        return {"loss": loss, **{name: error[i] for i, name in enumerate(self.config.outputs)}}, rows


def foresee_estimator(data: Labelled, settings: EstimatorTraining) -> tuple[float, str]:
    """(seconds of a step, how that was measured); a few are made, nothing is written."""
    trainer = EstimatorTrainer(data, settings)
    return timed_steps(lambda number: trainer.step(number, 0.0), settings.budget.steps, settings.device)


def train_estimator(
    data: Labelled, settings: EstimatorTraining, *, say: Callable[[str], object] | None = None
) -> Estimator:
    """Trains on `data` and writes `settings.out` (fp16).

    Raises:
        DatasetError, NonFiniteLoss: as named.
    """
    trainer = EstimatorTrainer(data, settings)
    estimator = trainer.estimator
    loop = Loop(settings.budget, settings.out.parent / f"{settings.out.stem}-log", settings.batch, 100)
    loop.say = say or loop.say
    say_if_emulated(settings.bf16, settings.device, loop)
    while not loop.done:
        terms, rows = trainer.step(loop.step, loop.progress)
        loop.record(terms, f"rows {rows[:8].tolist()}...")
    estimator.eval()
    training = {"recipe": settings.recipe, "steps": loop.step, "batch": settings.batch, "seed": settings.seed}
    save_estimator(settings.out, estimator, {"training": training}, precision="fp16")
    return estimator


@torch.inference_mode()
def measure_estimator(
    estimator: Estimator, data: Labelled, *, degraded_seed: int | None = None
) -> dict[str, float]:
    """Mean absolute error of every output on `data`, as it is or, with a seed, degraded."""
    errors = []
    for start in range(0, len(data), 256):
        rows = slice(start, start + 256)
        images = data.images[rows]
        labels = {name: values[rows] for name, values in data.attributes.items()}
        if degraded_seed is None:
            none = np.zeros(len(images), np.float32)
            seen = to_network(torch.from_numpy(images))
            wanted = exact(estimator.config, labels, none > 0, none, none)
        else:
            generator = np.random.Generator(np.random.Philox(key=degraded_seed, counter=start))
            seen, wanted = example(estimator.config, images, labels, generator)
        errors.append((estimator(seen) - wanted).abs())
    mean = torch.cat(errors).mean(0).tolist()
    return dict(zip(estimator.config.outputs, mean, strict=True))
