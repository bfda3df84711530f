"""The three trainings' steps on an imagined GPU: made as their trainers make them, on batches without memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

from bench.training.rungs import LATE, NAMED
from bench.training.setup import pictures, sized
from bench.training.trace.imagined import imagined
from bench.training.trace.kernels import Kernel
from bench.training.trace.parts import Parts
from bench.training.trace.recorder import Recorder
from v2f_engine.models import bind_ops
from v2f_engine.models.iresnet import IResNet, IResNetConfig
from v2f_engine.models.mask_schedule import MASK_SCHEDULES
from v2f_engine.models.vec2face import Vec2Face
from v2f_engine.train import generator_step, graphed
from v2f_engine.train.batches import Part
from v2f_engine.train.distributed import Ranks
from v2f_engine.train.generator import GeneratorTrainer, GeneratorTraining
from v2f_engine.train.graphed_recogniser import GraphedRecogniserTrainer
from v2f_engine.train.pose import PoseTrainer, PoseTraining
from v2f_engine.train.pose_data import PosePart
from v2f_engine.train.recogniser_settings import MINI_RECOGNISER, RecogniserTraining
from v2f_engine.train.recogniser_step import RecogniserTrainer

OPTIMISER = "clip, optimiser, average"
STAGES: Mapping[str, str] = {
    "v2f ssim": "ssim",
    "v2f discriminator of the generator's images": "discriminator for the generator",
    "v2f discriminator": "discriminator's own step",
    "v2f optimiser": OPTIMISER,
}
"""Stages of a step (`v2f_engine.ranges`) that are parts."""
CLASSES = 10_000
"""Of a recogniser's training set: Vec2Face's HSFace10K."""
GENERATOR_RUNGS = ("4 bf16", "5 our kernels", "6 one CUDA graph")


@dataclass
class Step:
    """A training step that can be run again and again.

    Args:
        run: one step.
        modules: part -> module whose forward it is.
        static: modules and optimisers whose tensors stay from step to step.
    """

    run: Callable[[], object]
    modules: Mapping[str, nn.Module]
    static: tuple[Any, ...]


def _cuda(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="cuda")


def generator(size: str, batch: int | None, rung: str) -> Step:
    """The late step of a generator's training.

    Raises:
        ValueError: a rung that waits for numbers of the device, which a step without numbers has not.
    """
    if rung not in GENERATOR_RUNGS:
        raise ValueError(f"rung: expected one of {GENERATOR_RUNGS}, found {rung!r}")
    chosen, shape = NAMED[rung], sized(size, batch)
    settings = GeneratorTraining.named(
        "mended-2025", Path("unused"), model=shape.model, batch=shape.batch, critic_width=shape.critic_width,
        perceptual="recogniser", bf16=True, stepping=chosen.stepping, device="cuda:0",
    )  # fmt: skip
    trainer = GeneratorTrainer(
        pictures(shape.batch), IResNet(shape.recogniser).eval(), settings, Ranks(device="cuda:0")
    )
    if not chosen.ours:
        bind_ops(trainer.model, {})
    side, count, schedule = 112, shape.batch, MASK_SCHEDULES["train"]
    part = Part(
        _cuda((count, side, side, 3), torch.uint8), _cuda((count, 512)), _cuda((count, 49)),
        _cuda((count,), torch.int64), schedule.n_dropped, (0, 0), (0, 0), None, ["unread"],
    )  # fmt: skip

    def run() -> None:
        trainer.update([part], *trainer.set_rates(LATE))
        with generator_step.stage("v2f optimiser"):
            trainer.average(1)

    modules = {
        "transformers": trainer.model,
        "image decoder": trainer.model.im_decoder,
        "perceptual distance": trainer.view,
        "recogniser, {}": trainer.view.recogniser,
    }
    optimizers = tuple(trainer.optimizers().values())
    return Step(
        run, modules, (trainer.model, trainer.ema, trainer.critic, trainer.view, *optimizers, part.tensors)
    )


@dataclass(frozen=True)
class _Faces:
    """As much of a training set as a trainer asks for before it reads."""

    count: int
    classes: int
    feature_dim: int = 512

    def __len__(self) -> int:
        return self.count


def recogniser(size: str, batch: int | None, rung: str) -> Step:
    """A step of a recogniser's training by the mended recipe: SE-IResNet50 at size `base`."""
    model = IResNetConfig.named("iresnet50", se=True) if size == "base" else replace(MINI_RECOGNISER, se=True)
    if size == "tiny":
        model = replace(sized("tiny").recogniser, se=True)
    count = batch or 128
    settings = RecogniserTraining.named("mended", Path("unused"), model=model, batch=count, device="cuda:0")
    if NAMED[rung].stepping == "graph":
        settings = replace(settings, stepping="graph")
    faces: Any = _Faces(CLASSES * 50, CLASSES if size == "base" else 100)
    kind = GraphedRecogniserTrainer if settings.stepping == "graph" else RecogniserTrainer
    with mock.patch.object(graphed, "open_recorder"):  # nothing is captured: its steps run one by one
        trainer = kind(faces, settings, Ranks(device="cuda:0"))
    given = (_cuda((count, 3, 112, 112)), _cuda((count,), torch.int64), ["unread"])
    modules: dict[str, nn.Module] = {"network": trainer.model, "head": trainer.head}
    static = (trainer.model, trainer.head, trainer.optimizer, trainer.head_optimizer, given)
    return Step(lambda: RecogniserTrainer.step(trainer, given, 1, 0.5), modules, static)


def pose(size: str, batch: int | None, rung: str) -> Step:
    """A step of the pose model's training, on the generator and recogniser of a size."""
    shape = sized(size, batch)
    settings = PoseTraining(Path("unused"), batch=shape.batch, perceptual="recogniser")
    base = Vec2Face(shape.model).eval()
    faces: Any = _Faces(10_000, 100)
    trainer = PoseTrainer(faces, base, IResNet(shape.recogniser).eval(), settings, Ranks(device="cuda:0"))
    count, schedule = shape.batch, MASK_SCHEDULES[settings.masks]
    image = (count, 112, 112, 3)
    part = PosePart(
        _cuda(image, torch.uint8), _cuda((count, 512)), _cuda((count, 49)), _cuda((count,), torch.int64),
        schedule.n_dropped, _cuda(image, torch.uint8), np.arange(count),
    )  # fmt: skip
    trainer.batches = lambda number: part  # type: ignore[assignment]
    whole = trainer.model.generator
    modules = {
        "pose network": trainer.model.pose,
        "transformers": whole,
        "image decoder": whole.im_decoder,
        "perceptual distance": trainer.view,
        "recogniser, {}": trainer.view.recogniser,
    }
    static = (trainer.model, trainer.view, trainer.optimizer)
    return Step(lambda: trainer.step(1, 0.5), modules, static)


TRAINERS: Mapping[str, Callable[[str, int | None, str], Step]] = {
    "generator": generator,
    "recogniser": recogniser,
    "pose": pose,
}


def traced(
    trainer: str, size: str = "base", batch: int | None = None, rung: str = "6 one CUDA graph"
) -> Recorder:
    """The kernels and the memory of one step after the first, which makes the optimisers' slots.

    Args:
        trainer: a key of `TRAINERS`.
        size: `tiny`, `mini` or `base`.
        batch: images; the size's own where None.
        rung: of `bench.training.rungs`, for a generator.
    """
    parts = Parts()
    recorder = Recorder(parts)
    with imagined(), _stages(parts, recorder):
        with torch.device("cuda"):
            step = TRAINERS[trainer](size, batch, rung)
        step.run()
        parts.watch(step.modules)
        for held in step.static:
            recorder.hold(_tensors(held), "parameters, buffers, optimiser")
        with recorder, _optimisers(parts, recorder):
            step.run()
    return recorder


def kernels_of(run: Callable[[], object]) -> list[Kernel]:
    """The kernels of anything that runs on the device `cuda`, for tests and questions."""
    with imagined(), (recorder := Recorder(Parts())):
        run()
    return [kernel for found in recorder.kernels.values() for kernel in found]


def _tensors(held: Any) -> list[torch.Tensor]:
    if isinstance(held, nn.Module):
        return [*held.parameters(), *held.buffers()]
    if isinstance(held, torch.optim.Optimizer):
        return [v for state in held.state.values() for v in state.values() if isinstance(v, torch.Tensor)]
    return [t for t in held if isinstance(t, torch.Tensor)]


@contextmanager
def _stages(parts: Parts, recorder: Recorder) -> Iterator[None]:
    """The stages that are parts."""

    def stage(name: str) -> AbstractContextManager[Any]:
        return parts.inside(STAGES[name]) if name in STAGES else nullcontext()

    with mock.patch.object(generator_step, "stage", stage):
        yield


@contextmanager
def _optimisers(parts: Parts, recorder: Recorder) -> Iterator[None]:
    """Clipping and steps of optimisers are a part also where no stage says so."""

    def told(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with parts.inside(OPTIMISER):
                return function(*args, **kwargs)

        return call

    with (
        mock.patch.object(nn.utils, "clip_grad_norm_", told(nn.utils.clip_grad_norm_)),
        mock.patch.object(torch.optim.AdamW, "step", told(torch.optim.AdamW.step)),
        mock.patch.object(torch.optim.SGD, "step", told(torch.optim.SGD.step)),
    ):
        yield
