"""Trains a Vec2Face: alone or under torchrun, resumable at every instant, watched on people it never learns from.

out/checkpoints/          everything a resumed run needs; the newest two
out/generator.safetensors averaged weights, in the published key layout
out/log.jsonl             loss terms; events/ holds the same for TensorBoard, curves.png draws them
out/validation.jsonl      measurements on held-out people; samples/ their pictures
out/bad_rows.json         rows of the data that could not be used
out/resized.json          how many pictures were not 112x112
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch

from v2f_engine.data.training.notes import write_notes
from v2f_engine.data.training.rows import TrainingSet
from v2f_engine.models.iresnet import IResNet
from v2f_engine.models.vec2face import Vec2Face
from v2f_engine.train.checkpoint import Checkpoints, head_of, restore, training_state, write_tensors
from v2f_engine.train.curves import VALIDATION, plot_curves
from v2f_engine.train.distributed import Ranks
from v2f_engine.train.emulated import say_if_emulated
from v2f_engine.train.folder import open_folder
from v2f_engine.train.foreseen import TrainingForecast, bytes_of, foresee
from v2f_engine.train.generator_settings import NEWER
from v2f_engine.train.generator_settings import AsPublished as AsPublished
from v2f_engine.train.generator_settings import GeneratorTraining as GeneratorTraining
from v2f_engine.train.generator_step import GeneratorTrainer as GeneratorTrainer
from v2f_engine.train.loop import LOG, Loop, cut_log
from v2f_engine.train.stepping import require_stepping
from v2f_engine.train.watch import Diary, Watcher


class GeneratorRun:
    """One training under way: trainer, loop, checkpoints, and on rank 0 the diary.

    Args:
        trainer: networks and step.
        data: what it reads.
        watcher: measures it, on rank 0; None for never.
        say: gets the lines of progress; stderr of rank 0 by default.
    """

    def __init__(
        self,
        trainer: GeneratorTrainer,
        data: TrainingSet,
        watcher: Watcher | None,
        say: Callable[[str], object] | None,
    ) -> None:
        settings, group = trainer.settings, trainer.group
        self.trainer, self.data, self.watcher = trainer, data, watcher
        self.out = settings.out
        budget = settings.ends(len(data))
        self.loop = Loop(budget, self.out, settings.batch, settings.log_every, group=group)
        self.loop.say = say or self.loop.say
        say_if_emulated(settings.bf16, group.device, self.loop)
        self.checkpoints = Checkpoints(self.out / "checkpoints", self.loop.say)
        self._resume()
        self.diary = Diary(self.out, self.loop.step) if group.first else None
        if self.diary is not None:
            self.loop.heard.append(self.diary.line)

    def _resume(self) -> None:
        """From the newest whole checkpoint that rank 0 sees; from the beginning where there is none."""
        group = self.trainer.group
        step = self.checkpoints.newest_for(group)
        if step is None:
            if group.first:
                for name in (LOG, VALIDATION):
                    cut_log(self.out / name, 0)
            return
        tensors, head = self.checkpoints.load(step)
        restore(tensors, self.trainer.modules(), self.trainer.optimizers())
        self.loop.resume(tensors, head["loop"], group.device)
        if group.first:
            cut_log(self.out / VALIDATION, step)
            self.loop.say(f"resumed at step {step}")

    def advance(self) -> None:
        """One step, and what falls due after it."""
        settings, loop = self.trainer.settings, self.loop
        terms, keys = self.trainer.step(loop.step, loop.progress)
        loop.record(terms, keys)
        state = loop.state(keys) if _due(loop.step, settings.checkpoint_every) or loop.done else None
        # A validation first: a run that is killed between the two does it again, and none is left out.
        if self.watcher is not None and (_due(loop.step, settings.picture_every) or loop.done):
            self._watch(f"step-{loop.step:06d}")
        if state is not None:
            self._checkpoint(*state)

    def _checkpoint(self, sums: dict[str, torch.Tensor], position: dict[str, Any]) -> None:
        if not self.trainer.group.first:
            return
        state = training_state(self.trainer.modules(), self.trainer.optimizers())
        settings = self.trainer.settings
        head = {
            "kind": "vec2face training",
            "config": settings.model.to_json(),
            "loop": position,
            "settings": json.loads(json.dumps(settings.to_json())),
            "world": self.trainer.group.world,
        }
        self.checkpoints.save(self.loop.step, {**state, **sums}, head)
        self.write_weights()
        for line in write_notes(self.data, self.out):
            self.loop.say(line)

    def _watch(self, name: str) -> None:
        if self.diary is None or self.watcher is None:
            return
        path = self.out / "samples" / f"{name}.png"
        self.watcher.picture(self.trainer.ema, path)
        measured = self.watcher.measure(self.trainer.ema)
        self.diary.validation(self.loop.step, measured, path)
        self.loop.say("held out: " + "  ".join(f"{k} {v:.4f}" for k, v in measured.items()))
        plot_curves(self.out)

    def write_weights(self) -> None:
        """`generator.safetensors`: the averaged weights, fp32, in the published layout."""
        head = {
            "kind": "vec2face",
            "config": self.trainer.settings.model.to_json(),
            "training": {"steps": self.loop.step, "preset": self.trainer.settings.preset},
        }
        write_tensors(self.out / "generator.safetensors", self.trainer.ema.state_dict(), head)

    def finish(self) -> None:
        """Waits for the last checkpoint and draws the curves."""
        self.checkpoints.wait()
        weights = self.out / "generator.safetensors"
        if self.trainer.group.first and head_of(weights).get("training", {}).get("steps") != self.loop.step:
            self.write_weights()  # a kill between the last checkpoint and its weights
        if self.trainer.group.first and self.watcher is None:  # a validation draws them too
            plot_curves(self.out)

    def close(self) -> None:
        self.trainer.batches.close()
        if self.diary is not None:
            self.diary.close()


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def train_generator(
    data: TrainingSet,
    recogniser: IResNet,
    settings: GeneratorTraining,
    held_out: TrainingSet | None = None,
    *,
    group: Ranks | None = None,
    say: Callable[[str], object] | None = None,
) -> Vec2Face:
    """Trains on `data` with features of `recogniser`; the same call resumes from `settings.out / "checkpoints"`.

    Args:
        data: images, labels and features.
        recogniser: eval mode; made the features.
        settings: see `GeneratorTraining`.
        held_out: people that are not trained on, for validation and sample grids.
        group: this rank, from `distributed.joined`; alone by default.
        say: gets the lines of progress; stderr of rank 0 by default.

    Returns:
        The averaged generator, in eval mode.

    Raises:
        ModelNotFound: no LPIPS weights where the recipe needs them.
        BackendUnavailable: stepping='graph' without a GPU.
        DatasetError, ConfigError, NonFiniteLoss, CheckpointError, OutputFolderError: as named.
    """
    group = group or Ranks(device=settings.device)
    settings.require_vgg()
    require_stepping(settings.stepping, group)
    settings = settings.on(group.world)
    with group.alone_in(settings.out):
        asked = {**settings.to_json(), "data": {"images": len(data)}}
        open_folder(settings.out, asked, "generator", group, NEWER)
        trainer = open_trainer(data, recogniser, settings, group)
        watcher = None
        if held_out is not None and group.first:
            watcher = Watcher(held_out, trainer.judge, trainer.device, settings.bf16)
        run = GeneratorRun(trainer, data, watcher, say)
        try:
            while not run.loop.done:
                run.advance()
            run.finish()
        finally:
            run.close()
    return trainer.ema.eval()


def foresee_generator(
    data: TrainingSet, recogniser: IResNet, settings: GeneratorTraining, group: Ranks | None = None
) -> TrainingForecast:
    """What `train_generator` would do, and what it would raise; writes nothing."""
    group = group or Ranks(device=settings.device)
    settings.require_vgg()
    require_stepping(settings.stepping, group)
    settings = settings.on(group.world)
    trainer = open_trainer(data, recogniser, settings, group)
    try:
        return foresee(
            settings.out, {**settings.to_json(), "data": {"images": len(data)}}, "generator", settings.ends(len(data)),
            settings.batch, (len(data), data.classes), lambda number: trainer.step(number, 0.0),
            lambda: training_state(trainer.modules(), trainer.optimizers()), bytes_of(trainer.ema),
            device=str(group.device),
            precision="bf16" if settings.bf16 else "fp16 AMP" if settings.fp16_amp else "fp32", absent=NEWER,
        )  # fmt: skip
    finally:
        trainer.batches.close()


def open_trainer(
    data: TrainingSet, recogniser: IResNet, settings: GeneratorTraining, group: Ranks
) -> GeneratorTrainer:
    """The trainer that `settings.stepping` asks for."""
    if settings.stepping == "graph":
        from v2f_engine.train.graphed import GraphedTrainer

        return GraphedTrainer(data, recogniser, settings, group)
    return GeneratorTrainer(data, recogniser, settings, group)
