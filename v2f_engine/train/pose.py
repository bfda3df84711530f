"""Trains the pose model of Vec2Face+: a landmark picture steers a frozen generator through LoRA, in one pass.

As published: LoRA on qkv and proj of every block and a small convolutional network are trained, the generator is
frozen and in eval mode; loss = pixels + 0.4 perceptual + (1 - SSIM) + identity; AdamW, one warm-up epoch in ten,
half a cosine. Unlike the published code LoRA is inside what the ranks average (there each GPU trained its own and
only rank 0's was saved), and it does not decay (there it did).

Landmarks come with the data, or from the yaw and pitch of rendered people through the mean head, as they do when
images are generated from a yaw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from v2f_engine.backends import choose
from v2f_engine.config import at_least, one_of
from v2f_engine.errors import DatasetError
from v2f_engine.models import bind_ops, landmarks
from v2f_engine.models.features import to_network
from v2f_engine.models.fmae import LoRALinear
from v2f_engine.models.iresnet import IResNet
from v2f_engine.models.mask_schedule import MASK_SCHEDULES
from v2f_engine.models.pose import PoseModel
from v2f_engine.models.vec2face import Vec2Face
from v2f_engine.models.weights import save_weights
from v2f_engine.train.checkpoint import Checkpoints, restore, training_state
from v2f_engine.train.distributed import Ranks
from v2f_engine.train.folder import open_folder
from v2f_engine.train.loop import LOG, Budget, Loop, cut_log
from v2f_engine.train.losses import LossWeights, identity_loss, ssim
from v2f_engine.train.optim import BETAS, cosine, set_lr
from v2f_engine.train.order import rows_of_step
from v2f_engine.train.view import open_view

PLUS = LossWeights(pixel=1.0, perceptual=0.4, ssim=1.0, identity=1.0, token=0.0)


@dataclass(frozen=True)
class PoseTraining:
    """Settings of one training.

    Args:
        out: folder of the log and of `pose.safetensors`.
        budget: steps or minutes.
        batch: images a step, of all ranks together; 256 as published.
        lr, weight_decay: of AdamW; published 1e-4 and 0.05, the latter on the pose network alone here.
        warm_up, floor: share of the budget; final share of the rate. Published 0.1 and 0.01.
        rank, alpha: of LoRA; published 8 and 32.
        masks: name in `MASK_SCHEDULES`.
        weights: of the loss.
        vgg: LPIPS weights on VGG16, the user's own; without them the recogniser's maps are compared.
        seed: of initialisation, order and masks.
        bf16: autocast to bfloat16.
        log_every: steps between two lines of the log.
        checkpoint_every: steps; the newest two are kept.
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

    def __post_init__(self) -> None:
        at_least("batch", self.batch, 1)
        at_least("checkpoint_every", self.checkpoint_every, 1)
        at_least("rank", self.rank, 1)
        one_of("mask schedule", self.masks, MASK_SCHEDULES)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the file's head."""
        values = {**asdict(self), "weights": asdict(self.weights)}
        return {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}


@dataclass(frozen=True)
class PoseData:
    """What a pose model learns from, in memory.

    Args:
        images: uint8 `[N, 112, 112, 3]`.
        features: float32 `[N, D]` of the frozen extractor.
        points: landmarks float32 `[N, 5, 2]` in pixels, or None where `pictures` are given.
        pictures: landmark pictures uint8 `[N, 112, 112, 3]`, as in published LMDBs.
    """

    images: NDArray[np.uint8]
    features: NDArray[np.float32]
    points: NDArray[np.float32] | None = None
    pictures: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        held = self.points if self.pictures is None else self.pictures
        if held is None:
            raise DatasetError("a pose model learns from landmarks: give points or pictures of them.")
        if not len(self.images) == len(self.features) == len(held):
            raise DatasetError(
                f"{len(self.images)} images, {len(self.features)} features, {len(held)} landmarks: expected"
                " as many of each."
            )

    def __len__(self) -> int:
        return len(self.images)

    def conditions(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Landmark pictures of these rows."""
        if self.pictures is not None:
            return self.pictures[rows]
        assert self.points is not None
        return landmarks.draw(self.points[rows])


class Conditioned(nn.Module):
    """Generator and pose network as one module, so that one wrapper averages all that is trained."""

    def __init__(self, generator: Vec2Face, pose: PoseModel) -> None:
        super().__init__()
        self.generator, self.pose = generator, pose

    def forward(
        self,
        features: torch.Tensor,
        noise: torch.Tensor,
        n_masked: torch.Tensor,
        n_dropped: int,
        pictures: torch.Tensor,
    ) -> torch.Tensor:
        """Images `[B, 3, 112, 112]` of features, under landmark pictures uint8 `[B, 112, 112, 3]`."""
        condition = self.pose(to_network(pictures))
        images: torch.Tensor = self.generator(features, noise, n_masked, n_dropped, condition).images
        return images


def with_lora(base: Vec2Face, rank: int, alpha: float) -> Vec2Face:
    """A copy of `base` with LoRA that changes nothing yet; only LoRA's A and B ask for gradients.

    A model that has LoRA of that rank already goes on from it.
    """
    config = replace(base.config, lora_rank=rank, lora_alpha=alpha)
    model = Vec2Face(config)
    state = base.state_dict()
    if not base.config.lora_rank:
        linears = [name for name, module in model.named_modules() if isinstance(module, LoRALinear)]
        fresh = model.state_dict()
        for name in linears:
            for part in ("weight", "bias"):
                state[f"{name}.base.{part}"] = state.pop(f"{name}.{part}")
            for part in ("A", "B"):
                state[f"{name}.{part}"] = fresh[f"{name}.{part}"]
    model.load_state_dict(state)
    model.requires_grad_(False).eval()
    for module in model.modules():
        if isinstance(module, LoRALinear):
            module.A.requires_grad_(True)
            module.B.requires_grad_(True)
    return model


class PoseTrainer:
    """Networks, optimiser and step.

    Args:
        data: images, features, landmarks.
        base: the generator to steer.
        recogniser: made the features; frozen here.
        settings: of the training.
        group: this rank among its equals.
        pose: to go on from, or None.
    """

    def __init__(
        self,
        data: PoseData,
        base: Vec2Face,
        recogniser: IResNet,
        settings: PoseTraining,
        group: Ranks | None = None,
        pose: PoseModel | None = None,
    ) -> None:
        self.data, self.settings = data, settings
        self.group = group or Ranks()
        self.device = torch.device(self.group.device)
        layout: dict[str, Any] = {"device": self.device, "memory_format": torch.channels_last}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)  # only the constructors draw from it
            generator = with_lora(base, settings.rank, settings.alpha)
            pose = pose or PoseModel(base.config.width)
        pose.requires_grad_(True)
        self.model = Conditioned(generator, pose).to(**layout)
        precision = "bf16" if settings.bf16 else "fp32"
        bind_ops(generator, choose(str(self.device), precision, gradients=True))
        self.view = open_view(recogniser, settings.vgg, 5).to(**layout)
        self.wrapped = self.group.wrap(self.model)
        heavy = [p for p in pose.parameters() if p.ndim > 1]
        light = [p for p in self.model.parameters() if p.requires_grad and not any(p is h for h in heavy)]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": heavy, "weight_decay": settings.weight_decay},
                {"params": light, "weight_decay": 0.0},
            ],
            lr=settings.lr,
            betas=BETAS,
        )

    def step(self, number: int, progress: float) -> tuple[dict[str, torch.Tensor], str]:
        """One update on this rank's part of batch `number`: loss terms and the rows."""
        settings = self.settings
        rows = rows_of_step(settings.seed, number, settings.batch, len(self.data))
        place = np.arange(self.group.rank, settings.batch, self.group.world)
        rows = rows[place]
        schedule = MASK_SCHEDULES[settings.masks]
        noise, n_masked = schedule.draw(settings.seed, np.full(len(rows), number), place)
        arrays = (
            self.data.images[rows],
            self.data.features[rows],
            noise,
            n_masked,
            self.data.conditions(rows),
        )
        images, features, noise_, counts, pictures = (torch.from_numpy(a).to(self.device) for a in arrays)
        real = to_network(images).contiguous(memory_format=torch.channels_last)
        set_lr(self.optimizer, settings.lr * cosine(progress, settings.warm_up, settings.floor))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.bf16):
            fake = self.wrapped(features, noise_, counts, schedule.n_dropped, pictures)
        terms = self._terms(fake.float(), real, features)
        self.optimizer.zero_grad(set_to_none=True)
        settings.weights.total(terms).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return terms, f"rows {rows[:8].tolist()}..."

    def _terms(
        self, fake: torch.Tensor, real: torch.Tensor, features: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        weights = self.settings.weights
        terms = {"pixel": F.mse_loss(fake, real)}
        if weights.ssim:
            terms["ssim"] = 1.0 - ssim((fake + 1) / 2, (real + 1) / 2)
        if weights.perceptual or weights.identity:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.bf16):
                seen = self.view(fake, real)
            terms["perceptual"] = seen.distance
            terms["identity"] = identity_loss(seen.features, features)
        return terms

    def trained(self) -> dict[str, nn.Module]:
        """What a checkpoint holds; the frozen generator is not in it."""
        lora = nn.ParameterList(p for p in self.model.generator.parameters() if p.requires_grad)
        return {"lora": lora, "pose": self.model.pose}

    def save(self, steps: int) -> None:
        """`pose.safetensors`: generator with LoRA and pose model, the published parts in one file."""
        config = self.model.generator.config.to_json()
        training = {**self.settings.to_json(), "steps": steps}
        del training["out"]  # weights travel, folders do not
        head = {"kind": "vec2face", "config": config, "training": training}
        models = {"model": self.model.generator, "pose": self.model.pose}
        save_weights(self.settings.out / "pose.safetensors", models, head)


def train_pose(
    data: PoseData,
    base: Vec2Face,
    recogniser: IResNet,
    settings: PoseTraining,
    group: Ranks | None = None,
    *,
    say: Callable[[str], object] | None = None,
) -> PoseTrainer:
    """Trains, and on the first rank writes `pose.safetensors`, which `load_generator` reads; the same call resumes.

    Raises:
        DatasetError, NonFiniteLoss, CheckpointError: as named.
        OutputFolderError: another training writes into the folder, or wrote into it with other settings.
    """
    trainer = PoseTrainer(data, base, recogniser, settings, group)
    with trainer.group.alone_in(settings.out):
        open_folder(
            settings.out, {**settings.to_json(), "data": {"images": len(data)}}, "pose", trainer.group
        )
        loop = Loop(settings.budget, settings.out, settings.batch, settings.log_every, group=trainer.group)
        loop.say = say or loop.say
        checkpoints = Checkpoints(settings.out / "checkpoints", loop.say)
        _resume(trainer, loop, checkpoints)
        while not loop.done:
            terms, keys = trainer.step(loop.step, loop.progress)
            loop.record(terms, keys)
            if loop.step % settings.checkpoint_every and not loop.done:
                continue
            sums, position = loop.state(keys)
            if trainer.group.first:
                state = training_state(trainer.trained(), {"optimizer": trainer.optimizer})
                head = {"kind": "pose training", "loop": position, "settings": settings.to_json()}
                checkpoints.save(loop.step, {**state, **sums}, head)
        checkpoints.wait()
        if trainer.group.first:
            trainer.save(loop.step)
    return trainer


def _resume(trainer: PoseTrainer, loop: Loop, checkpoints: Checkpoints) -> None:
    """From the newest whole checkpoint that rank 0 sees; from the beginning where there is none."""
    group = trainer.group
    step = checkpoints.newest_for(group)
    if step is None:
        if group.first:
            cut_log(loop.folder / LOG, 0)
        return
    tensors, head = checkpoints.load(step)
    restore(tensors, trainer.trained(), {"optimizer": trainer.optimizer})
    loop.resume(tensors, head["loop"], group.device)
    if group.first:
        loop.say(f"resumed at step {step}")
