"""One step of a recogniser's training: network, margin head, optimisers, rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from v2f_engine.backends import choose
from v2f_engine.config import at_least
from v2f_engine.data.training.rows import Rows, TrainingSet
from v2f_engine.models import bind_ops
from v2f_engine.models.features import extract_features, to_network
from v2f_engine.models.iresnet import IResNet
from v2f_engine.train.augment import augment_faces, harden
from v2f_engine.train.checkpoint import read_tensors, restore
from v2f_engine.train.distributed import Ranks
from v2f_engine.train.generator_scaler import LossScaler
from v2f_engine.train.head import ShardedHead
from v2f_engine.train.losses import identity_loss
from v2f_engine.train.margin import make_margin
from v2f_engine.train.optim import adamw, cosine, set_lr, sgd
from v2f_engine.train.order import rows_of_step
from v2f_engine.train.published_augment import augment_published
from v2f_engine.train.recogniser_settings import RecogniserTraining

WARM_UP = 0.05
Batch = tuple[torch.Tensor, torch.Tensor, list[str]]
Terms = dict[str, torch.Tensor]


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
        if (
            self.group.world == 1 and not settings.fp16_amp
        ):  # several ranks and the published way: torch's layers
            bind_ops(
                self.model, choose(str(self.device), "bf16" if settings.bf16 else "fp32", gradients=True)
            )
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
        graphed = settings.stepping == "graph"
        if settings.optimiser == "adamw":
            return adamw([module], settings.lr, settings.weight_decay, capturable=graphed)
        return sgd([module], settings.lr, settings.momentum, settings.weight_decay, capturable=graphed)

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
            if settings.augment in ("rendered", "hardened"):
                images = augment_faces(images, generator)
                if settings.steady:
                    twice = torch.cat([harden(images, generator), images])
                    return twice, torch.from_numpy(rows.labels).repeat(2), rows.keys
                images = harden(images, generator) if settings.augment == "hardened" else images
            elif settings.augment == "mirror":
                mirrored = torch.rand(len(images), generator=generator) < 0.5
                images[mirrored] = images[mirrored].flip(3)
        return images, torch.from_numpy(rows.labels), rows.keys

    def step(self, batch: Batch, number: int, progress: float) -> Terms:
        """One update; the loss terms."""
        images, labels, _ = batch
        images = images.to(self.device).contiguous(memory_format=torch.channels_last)
        share = self.set_rates(number, progress)
        return self.update(images, labels.to(self.device), number, share)

    def set_rates(self, number: int, progress: float) -> float:
        """Sets the learning rates of a step; the share of the margin at `progress`."""
        for optimizer in (self.optimizer, self.head_optimizer):
            set_lr(optimizer, self.lr(number, progress))
        return min(1.0, max(0.0, 2.0 * progress - 0.4)) if self.settings.ease else 1.0

    def update(
        self, images: torch.Tensor, labels: torch.Tensor, number: int, share: float | torch.Tensor
    ) -> Terms:
        """Both passes, clipping and both optimisers.

        Args:
            images: `[B, 3, S, S]` on the device, channels-last.
            labels: int64 `[B]` there.
            number: of the step: what is dropped and which classes are sampled.
            share: of the margin.
        """
        settings = self.settings
        precision = settings.precision
        with torch.autocast(self.device.type, precision, enabled=precision is not None):
            features = self._features(images, number)
        loss = self.head(features, labels, number, share)
        terms = {"margin_softmax": loss}
        if settings.steady:
            terms["steady"] = identity_loss(*features.chunk(2))
            loss = loss + settings.steady * terms["steady"]
        for optimizer in (self.optimizer, self.head_optimizer):
            optimizer.zero_grad(set_to_none=True)
        whole = self._backward(loss)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip, foreach=True)
        if not whole:  # the scale was too large for fp16: the step is left out
            return terms
        self.optimizer.step()
        self.head_optimizer.step()
        return {**terms, "gradient": norm}

    def _features(self, images: torch.Tensor, number: int) -> torch.Tensor:
        """`[B, feature_dim]`, under autocast."""
        features: torch.Tensor = self._wrapped(images, self._dropout_seed(number))
        return features

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
