"""Trains a recogniser with margin softmax: the feature extractor of a generator, or an independent judge.

Alone or under torchrun (data parallel, the head's classes divided among ranks), resumable at every instant.

out/checkpoints/              network and optimiser, written by rank 0; the newest two
out/checkpoints/heads/1-of-4/ each rank's part of the head; a resumed run may have another number of ranks
out/recogniser.safetensors    the network
out/recogniser-best.safetensors   that of the best mean over verification sets (`recogniser_best`)
out/log.jsonl, validation.jsonl, bad_rows.json, resized.json
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import nn

from v2f_engine.data.training.notes import write_notes
from v2f_engine.data.training.prefetch import Prefetcher
from v2f_engine.data.training.rows import TrainingSet
from v2f_engine.errors import OutputFolderError
from v2f_engine.models.features import extract_features
from v2f_engine.models.iresnet import IResNet
from v2f_engine.scores import equal_error_rate, genuine_impostor
from v2f_engine.train.checkpoint import Checkpoints, restore, training_state, write_tensors
from v2f_engine.train.curves import plot_curves
from v2f_engine.train.distributed import Ranks
from v2f_engine.train.emulated import say_if_emulated
from v2f_engine.train.folder import SETTINGS, open_folder
from v2f_engine.train.foreseen import TrainingForecast, bytes_of, foresee
from v2f_engine.train.head import ShardedHead
from v2f_engine.train.head_checkpoint import read_head, whole_steps
from v2f_engine.train.loop import LOG, Loop, cut_log
from v2f_engine.train.recogniser_best import VALIDATION, BestNetwork, Validation
from v2f_engine.train.recogniser_settings import BEFORE
from v2f_engine.train.recogniser_settings import MINI_RECOGNISER as MINI_RECOGNISER
from v2f_engine.train.recogniser_settings import RecogniserTraining as RecogniserTraining
from v2f_engine.train.recogniser_step import Batch, RecogniserTrainer

IMPOSTORS = 200_000


class RecogniserRun:
    """One training under way: trainer, loop, checkpoints."""

    def __init__(
        self,
        trainer: RecogniserTrainer,
        held_out: TrainingSet | None,
        say: Callable[[str], object] | None,
        validation: Validation | None = None,
    ) -> None:
        settings, group = trainer.settings, trainer.group
        self.trainer, self.out, self.held_out = trainer, settings.out, held_out
        budget = settings.ends(len(trainer.data), group.world)
        self.loop = Loop(budget, self.out, settings.batch, settings.log_every, group=group)
        self.loop.say = say or self.loop.say
        say_if_emulated(settings.bf16, group.device, self.loop)
        folder = self.out / "checkpoints"
        self.checkpoints = Checkpoints(folder, self.loop.say)
        self.heads = Checkpoints(folder / "heads" / f"{group.rank}-of-{group.world}", self.loop.say)
        self.validates = validation is not None
        self.best: BestNetwork | None = None
        if validation is not None and group.first:
            self.best = BestNetwork(self.out, validation, settings.precision, self.loop.say)
        self._resume()

    def _modules(self) -> dict[str, nn.Module]:
        scaler = {} if self.trainer.scaler is None else {"scaler": self.trainer.scaler}
        return {"recogniser": self.trainer.model, "margin": self.trainer.head.margin, **scaler}

    def _resume(self) -> None:
        group = self.trainer.group
        self.heads.tidy()
        if group.first:
            self.checkpoints.tidy()
        steps = whole_steps(self.out / "checkpoints", self.loop.say) if group.first else []
        step = group.from_first(steps[-1] if steps else None)
        if group.first:
            for name in (LOG, VALIDATION):
                cut_log(self.out / name, step or 0)
            if self.best is not None:
                self.best.resume(step or 0)
        if step is None:
            return
        tensors, head = self.checkpoints.load(step)
        restore(tensors, self._modules(), {"optimizer": self.trainer.optimizer})
        own = (self.trainer.head.first, self.trainer.head.last)
        part = read_head(self.out / "checkpoints", step, int(head["world"]), self.trainer.head.classes, own)
        restore(part, {"head": _Weight(self.trainer.head)}, {"head_optimizer": self.trainer.head_optimizer})
        self.loop.resume(tensors, head["loop"], group.device)
        if group.first:
            self.loop.say(f"resumed at step {step}")
            if self.best is not None and self._validation_due() and self.best.lacks(step):
                self.best.measure(step, self.trainer.model, self._told())

    def train(self) -> None:
        """Steps until the budget is used."""
        trainer, settings = self.trainer, self.trainer.settings
        with Prefetcher(
            trainer.data, trainer.rows, trainer.prepare, start=self.loop.step, threads=settings.threads
        ) as batches:
            try:
                while not self.loop.done:
                    self._advance(next(batches))
            finally:  # what was begun is written, whatever stopped the training
                self.checkpoints.wait()
                self.heads.wait()

    def _advance(self, batch: Batch) -> None:
        """One step, and the checkpoint that falls due after it."""
        loop = self.loop
        terms = self.trainer.step(batch, loop.step, loop.progress)
        keys = ", ".join(batch[2][:4]) + " ..."
        loop.record(terms, keys)
        validates = self._validation_due()
        if loop.step % self.trainer.settings.checkpoint_every == 0 or loop.done or validates:
            self._checkpoint(keys)
        if validates and self.best is not None:
            # the others wait for rank 0 in the next step; its checkpoint is whole first, so that a kill costs a
            # validation and no step
            self.checkpoints.wait()
            self.best.measure(loop.step, self.trainer.model, self._told())
            plot_curves(self.out)

    def _validation_due(self) -> bool:
        """Whether verification sets are measured after this step: the same on every rank."""
        if not self.validates or not self.loop.step:
            return False
        every = self.trainer.settings.validate_every
        if every is not None:
            return self.loop.step % every == 0 or self.loop.done
        epoch = self.trainer.steps_of_epoch
        return self.loop.step // epoch > (self.loop.step - 1) // epoch or self.loop.done

    def _told(self) -> dict[str, object]:
        """What a file of weights says of itself."""
        training = {"steps": self.loop.step, "classes": self.trainer.data.classes}
        return {"kind": "iresnet", "config": asdict(self.trainer.model.config), "training": training}

    def _checkpoint(self, keys: str) -> None:
        """Every rank writes its part of the head, rank 0 the network.

        The one before is whole on every rank before this one begins: they drop what is two behind.
        """
        trainer = self.trainer
        self.checkpoints.wait()
        self.heads.wait()
        trainer.group.gather(None)
        sums, position = self.loop.state(keys)
        self.heads.save(
            self.loop.step,
            training_state({"head": _Weight(trainer.head)}, {"head_optimizer": trainer.head_optimizer}),
            {"first": trainer.head.first, "last": trainer.head.last, "classes": trainer.head.classes},
        )
        if not trainer.group.first:
            return
        head = {
            "kind": "iresnet training",
            "loop": position,
            "settings": json.loads(json.dumps(trainer.settings.to_json())),
            "world": trainer.group.world,
        }
        state = training_state(self._modules(), {"optimizer": trainer.optimizer})
        self.checkpoints.save(self.loop.step, {**state, **sums}, head)
        for line in write_notes(trainer.data, self.out):
            self.loop.say(line)
        if self.held_out is not None:
            self._validate(self.held_out)

    def _validate(self, held_out: TrainingSet) -> None:
        """Equal error rate of people the network does not learn from."""
        model = self.trainer.model.eval()
        parts = [
            held_out.read(range(start, min(len(held_out), start + 512)))
            for start in range(0, len(held_out), 512)
        ]
        features = np.concatenate([extract_features(model, part.images) for part in parts])
        labels = np.concatenate([part.labels for part in parts])
        model.train()
        genuine, impostor = genuine_impostor(features, labels, impostors=IMPOSTORS)
        rate, _ = equal_error_rate(genuine, impostor)
        with open(self.out / VALIDATION, "a") as log:
            log.write(json.dumps({"step": self.loop.step, "eer": round(rate, 5)}) + "\n")
        self.loop.say(f"held out: equal error rate {rate:.4f}")


class _Weight(nn.Module):
    """A head's centres under one name, without its margin, whose state all ranks share."""

    def __init__(self, head: ShardedHead) -> None:
        super().__init__()
        self.weight = head.weight


def train_recogniser(
    data: TrainingSet,
    settings: RecogniserTraining,
    held_out: TrainingSet | None = None,
    *,
    group: Ranks | None = None,
    say: Callable[[str], object] | None = None,
    validation: Validation | None = None,
) -> IResNet:
    """Trains on `data` and writes `recogniser.safetensors` (fp32); resumes from `out/checkpoints`.

    Args:
        data: images and labels, any training set.
        settings: see `RecogniserTraining`.
        held_out: people whose equal error rate is measured with every checkpoint.
        group: this rank, see `distributed.joined`.
        say: gets the lines of progress; stderr of rank 0 by default.
        validation: verification sets, measured each epoch by rank 0; the best network is kept beside the last. Given on
            every rank.

    Returns:
        the network, in eval mode.

    Raises:
        NonFiniteLoss, CheckpointError, DatasetError, ConfigError: as named.
        OutputFolderError: another training writes into the folder, or wrote into it with other settings.
    """
    trainer = open_trainer(data, settings, group)
    first = trainer.group.first
    with trainer.group.alone_in(settings.out):
        known = {**trainer.settings.to_json(), "data": {"images": len(data), "classes": data.classes}}
        if validation is not None:
            known["validation"] = validation.described()
        elif first:
            _refuse_unvalidated(settings.out)
        open_folder(settings.out, known, "recogniser", trainer.group, BEFORE)
        run = RecogniserRun(trainer, held_out, say, validation)
        run.train()
        model: IResNet = trainer.model.eval()
        if first:
            training = {"steps": run.loop.step, "classes": data.classes}
            save_recogniser(settings.out / "recogniser.safetensors", model, training)
    return model


def foresee_recogniser(
    data: TrainingSet,
    settings: RecogniserTraining,
    group: Ranks | None = None,
    validation: Validation | None = None,
) -> TrainingForecast:
    """What `train_recogniser` would do, and what it would raise; writes nothing."""
    trainer = open_trainer(data, settings, group)
    settings = trainer.settings
    known = {**settings.to_json(), "data": {"images": len(data), "classes": data.classes}}
    if validation is not None:
        known["validation"] = validation.described()
    else:
        _refuse_unvalidated(settings.out)

    def step(number: int) -> None:
        rows = trainer.rows(number)
        trainer.step(trainer.prepare(number, data.read(rows)), number, 0.0)

    modules = {"recogniser": trainer.model, "head": _Weight(trainer.head)}
    optimizers = {"optimizer": trainer.optimizer, "head": trainer.head_optimizer}
    return foresee(
        settings.out, known, "recogniser", settings.ends(len(data), trainer.group.world), settings.batch,
        (len(data), data.classes), step, lambda: training_state(modules, optimizers), bytes_of(trainer.model),
        device=str(trainer.group.device), absent=BEFORE,
        precision="fp16 AMP" if settings.fp16_amp else "bf16" if settings.bf16 else "fp32",
    )  # fmt: skip


def open_trainer(
    data: TrainingSet, settings: RecogniserTraining, group: Ranks | None = None
) -> RecogniserTrainer:
    """The trainer that `settings.stepping` asks for."""
    if settings.stepping == "graph":
        from v2f_engine.train.graphed_recogniser import GraphedRecogniserTrainer

        return GraphedRecogniserTrainer(data, settings, group)
    return RecogniserTrainer(data, settings, group)


def _refuse_unvalidated(folder: Path) -> None:
    """Raises OutputFolderError where the training in a folder is validated and would not be any more."""
    try:
        found = json.loads((folder / SETTINGS).read_text())
    except (OSError, ValueError):
        return
    sets = found.get("validation") if isinstance(found, dict) else None
    if sets:
        raise OutputFolderError(
            f"{folder} belongs to a training that is validated on {', '.join(sets)}, and none is given now: what was"
            " best would be forgotten. Give the same sets with --validate, or another --out."
        )


def save_recogniser(
    path: Path, model: IResNet, training: dict[str, int], dtype: torch.dtype = torch.float32
) -> None:
    """Writes the weights with the shape of the network in the head."""
    tensors = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    write_tensors(path, tensors, {"kind": "iresnet", "config": asdict(model.config), "training": training})
