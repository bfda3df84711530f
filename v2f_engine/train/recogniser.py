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
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from v2f_engine.config import at_least
from v2f_engine.data.training.notes import write_notes
from v2f_engine.data.training.prefetch import Prefetcher
from v2f_engine.data.training.rows import Rows, TrainingSet
from v2f_engine.errors import OutputFolderError
from v2f_engine.models.features import extract_features, to_network
from v2f_engine.models.iresnet import IResNet
from v2f_engine.scores import equal_error_rate, genuine_impostor
from v2f_engine.train.augment import augment_faces
from v2f_engine.train.checkpoint import Checkpoints, read_tensors, restore, training_state, write_tensors
from v2f_engine.train.curves import plot_curves
from v2f_engine.train.distributed import Ranks
from v2f_engine.train.folder import SETTINGS, open_folder
from v2f_engine.train.generator_scaler import LossScaler
from v2f_engine.train.head import ShardedHead
from v2f_engine.train.head_checkpoint import read_head, whole_steps
from v2f_engine.train.loop import LOG, Loop, cut_log
from v2f_engine.train.margin import make_margin
from v2f_engine.train.optim import adamw, cosine, set_lr, sgd
from v2f_engine.train.order import rows_of_step
from v2f_engine.train.published_augment import augment_published
from v2f_engine.train.recogniser_best import VALIDATION, BestNetwork, Validation
from v2f_engine.train.recogniser_settings import BEFORE
from v2f_engine.train.recogniser_settings import MINI_RECOGNISER as MINI_RECOGNISER
from v2f_engine.train.recogniser_settings import RecogniserTraining as RecogniserTraining

WARM_UP = 0.05
IMPOSTORS = 200_000
Batch = tuple[torch.Tensor, torch.Tensor, list[str]]


class RecogniserTrainer:
    """Network, head, optimisers and the step.

    Args:
        data: images and labels.
        settings: of the training.
        group: this rank among its equals.
    """

    def __init__(self, data: TrainingSet, settings: RecogniserTraining, group: Ranks | None = None) -> None:
        at_least("identities to tell apart", data.classes, 2)
        self.group = group or Ranks(device=settings.device)
        self.data, self.settings = data, settings.on(self.group.world)
        settings = self.settings
        self.device = torch.device(self.group.device)
        self.size = settings.part(self.group.world)
        self.steps_of_epoch = settings.steps_of_epoch(len(data), self.group.world)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)  # only the constructor draws from it
            self.model = IResNet(settings.model, settings.dropout)
        self.model.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        margin = make_margin(settings.margin, settings.m, settings.straight)
        self.head = ShardedHead(
            data.classes,
            settings.model.feature_dim,
            margin,
            settings.scale,
            self.group,
            settings.sample_rate,
            settings.seed,
            settings.fp16_amp,
        ).to(self.device)
        self.optimizer, self.head_optimizer = (self._optimiser(m) for m in (self.model, self.head))
        if settings.start_from is not None:
            self._start(settings.start_from)
        self.scaler = LossScaler(self.device, interval=100) if settings.fp16_amp else None
        self._wrapped = self.group.wrap(self.model)
        if settings.fp16_amp and isinstance(self._wrapped, DistributedDataParallel):
            self._wrapped.register_comm_hook(None, fp16_compress_hook)
        self.model.train()

    def _optimiser(self, module: nn.Module) -> torch.optim.Optimizer:
        settings = self.settings
        if settings.optimiser == "adamw":
            return adamw([module], settings.lr, settings.weight_decay)
        return sgd([module], settings.lr, settings.momentum, settings.weight_decay)

    def _start(self, weights: Path) -> None:
        """Puts earlier weights into the network and its class centres into the head."""
        state, _ = read_tensors(weights)
        restore(
            {f"recogniser/{name}": value for name, value in state.items()}, {"recogniser": self.model}, {}
        )
        self.model.eval()
        centres = torch.zeros(self.head.weight.shape)
        for start in range(0, len(self.data), 512):
            read = self.data.read(range(start, min(len(self.data), start + 512)))
            features = F.normalize(torch.from_numpy(extract_features(self.model, read.images)))
            mine = (read.labels >= self.head.first) & (read.labels < self.head.last)
            rows = torch.from_numpy(read.labels[mine] - self.head.first)
            centres.index_add_(0, rows, features[torch.from_numpy(mine)])
        with torch.no_grad():  # the length of a random start
            self.head.weight.copy_(F.normalize(centres) * 0.01 * centres.shape[1] ** 0.5)

    def rows(self, step: int) -> NDArray[np.int64]:
        """This rank's rows of a step."""
        batch, count = self.settings.batch, len(self.data)
        if self.settings.whole_epochs:
            epoch, number = divmod(step, int(self.steps_of_epoch))
            places = (
                np.arange(number * batch, (number + 1) * batch) % count
            )  # few come twice, on several ranks
            whole = rows_of_step(self.settings.seed, epoch, count, count)[places]
        else:
            whole = rows_of_step(self.settings.seed, step, batch, count)
        return whole[self.group.rank * self.size : (self.group.rank + 1) * self.size]

    def prepare(self, step: int, rows: Rows) -> Batch:
        """Augmented network input, labels and keys.

        `published` augments by (settings, step, place in the batch), the others by (settings, step, rank, world):
        a run of another number of ranks sees other crops and flips.
        """
        settings = self.settings
        places = np.arange(self.size) + self.group.rank * self.size
        if settings.augment == "published":
            images = augment_published(
                rows.images, settings.seed, step, places, settings.augment_share, settings.erase_share
            )
        else:
            images = to_network(torch.from_numpy(rows.images))
            generator = torch.Generator().manual_seed(
                (settings.seed * 1_000_003 + step) * self.group.world + self.group.rank
            )
            if settings.augment == "rendered":
                images = augment_faces(images, generator)
            elif settings.augment == "mirror":
                mirrored = torch.rand(len(images), generator=generator) < 0.5
                images[mirrored] = images[mirrored].flip(3)
        return images, torch.from_numpy(rows.labels), rows.keys

    def step(self, batch: Batch, number: int, progress: float) -> dict[str, torch.Tensor]:
        """One update; the loss terms."""
        settings = self.settings
        images, labels, _ = batch
        images = images.to(self.device).contiguous(memory_format=torch.channels_last)
        for optimizer in (self.optimizer, self.head_optimizer):
            set_lr(optimizer, self.lr(number, progress))
        precision = settings.precision
        with torch.autocast(self.device.type, precision, enabled=precision is not None):
            features = self._wrapped(images, self._dropout_seed(number))
        share = min(1.0, max(0.0, 2.0 * progress - 0.4)) if settings.ease else 1.0
        loss = self.head(features, labels.to(self.device), number, share)
        for optimizer in (self.optimizer, self.head_optimizer):
            optimizer.zero_grad(set_to_none=True)
        whole = self._backward(loss)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
        if not whole:  # the scale was too large for fp16: the step is left out
            return {"margin_softmax": loss}
        self.optimizer.step()
        self.head_optimizer.step()
        return {"margin_softmax": loss, "gradient": norm}

    def _backward(self, loss: torch.Tensor) -> bool:
        """Gradients of both; whether all of them, on every rank, are finite (looked at with a scaler only)."""
        if self.scaler is None:
            loss.backward()  # type: ignore[no-untyped-call]
            return True
        (loss * self.scaler.scale).backward()  # type: ignore[no-untyped-call]
        overflow = self.scaler.unscale([*self.model.parameters(), *self.head.parameters()])
        overflow = (self.group.mean(overflow) > 0).float()
        self.scaler.update(overflow)
        return not overflow.item()

    def _dropout_seed(self, step: int) -> int:
        """Of this rank's part of a step."""
        return (self.settings.seed * 1_000_003 + step) * self.group.world + self.group.rank

    def lr(self, step: int, progress: float) -> float:
        """The learning rate of a step.

        Args:
            step: number of the step, from 0.
            progress: share of the budget used before it.
        """
        settings = self.settings
        if not settings.milestones and not settings.drops:
            return settings.lr * cosine(progress, WARM_UP)
        if settings.drops:
            fallen = sum(step >= epoch * self.steps_of_epoch for epoch in settings.drops)
        else:
            fallen = sum(progress >= milestone for milestone in settings.milestones)
        lr = settings.lr
        for _ in range(fallen):
            lr /= 10  # one after the other, for the published trainer's bits
        return lr


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
    trainer = RecogniserTrainer(data, settings, group)
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
