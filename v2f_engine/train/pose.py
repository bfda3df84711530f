"""Trains the pose model of Vec2Face+: a landmark picture steers a frozen generator through LoRA, in one pass.

As published: LoRA on qkv and proj of every block and a small convolutional network are trained, the generator is
frozen and in eval mode; loss = pixels + 0.4 perceptual + (1 - SSIM) + identity; AdamW, one warm-up epoch in ten,
half a cosine. What a recipe fixes stands in `pose_settings`. Unlike the published code LoRA is inside what the ranks
average in every recipe: there each GPU trained its own and only rank 0's was saved.

Landmarks come with the data, or from the yaw and pitch of rendered people through the mean head, as they do when
images are generated from a yaw; the weights note which (`landmarks.HEIGHTS`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from v2f_engine.backends import choose, function
from v2f_engine.errors import CheckpointError
from v2f_engine.models import bind_ops
from v2f_engine.models.features import to_network
from v2f_engine.models.fmae import LoRALinear
from v2f_engine.models.iresnet import IResNet
from v2f_engine.models.pose import PoseModel
from v2f_engine.models.vec2face import Vec2Face
from v2f_engine.models.weights import save_weights
from v2f_engine.train.checkpoint import Checkpoints, restore, training_state
from v2f_engine.train.distributed import Ranks
from v2f_engine.train.emulated import say_if_emulated
from v2f_engine.train.folder import open_folder
from v2f_engine.train.foreseen import TrainingForecast, bytes_of, foresee
from v2f_engine.train.loop import LOG, Loop, cut_log
from v2f_engine.train.losses import identity_loss
from v2f_engine.train.optim import set_lr
from v2f_engine.train.pose_data import PoseBatches, PoseSource
from v2f_engine.train.pose_data import PoseData as PoseData
from v2f_engine.train.pose_settings import NEWER
from v2f_engine.train.pose_settings import PoseTraining as PoseTraining
from v2f_engine.train.view import open_view


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


def with_learned_lora(base: Vec2Face, earlier: Vec2Face) -> Vec2Face:
    """`base` with the A and B that an earlier pose model learned, on the weights of another generator.

    Raises:
        CheckpointError: `earlier` has no LoRA, or is of another shape.
    """
    rank = earlier.config.lora_rank
    shape = replace(base.config, lora_rank=rank, lora_alpha=earlier.config.lora_alpha)
    if not rank or replace(earlier.config, dropout=base.config.dropout) != shape:
        raise CheckpointError(
            f"A pose model to go on from: expected LoRA on a generator of {base.config}, found {earlier.config}."
            " Give one that was trained on a generator of this shape, or train from none."
        )
    model = with_lora(base, rank, earlier.config.lora_alpha)
    learned = {name: p for name, p in earlier.named_parameters() if name.endswith((".A", ".B"))}
    model.load_state_dict(learned, strict=False)
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

    Raises:
        ModelNotFound: no LPIPS weights where the recipe needs them.
        DatasetError: no rows, or less than a batch of them where epochs have whole batches.
    """

    def __init__(
        self,
        data: PoseSource,
        base: Vec2Face,
        recogniser: IResNet,
        settings: PoseTraining,
        group: Ranks | None = None,
        pose: PoseModel | None = None,
    ) -> None:
        self.group = group or Ranks()
        settings.require_vgg()
        self.data, self.settings = data, settings.on(self.group.world)
        self.batches = PoseBatches(data, self.settings, self.group)
        self.device = torch.device(self.group.device)
        layout: dict[str, Any] = {"device": self.device, "memory_format": torch.channels_last}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)  # only the constructors draw from it
            generator = with_lora(base, settings.rank, settings.alpha)
            pose = pose or PoseModel(base.config.width)
        pose.requires_grad_(True)
        self.model = Conditioned(generator, pose).to(**layout)
        precision = "bf16" if settings.bf16 else "fp32"
        chosen = choose(str(self.device), precision, gradients=True)
        bind_ops(generator, chosen)
        self.ssim = function("ssim", chosen.backends["ssim"])
        self.view = open_view(recogniser, settings.vgg, 5, chosen).to(**layout)
        self.wrapped = self.group.wrap(self.model)
        heavy = [p for p in pose.parameters() if p.ndim > 1]
        light = [p for p in self.model.parameters() if p.requires_grad and not any(p is h for h in heavy)]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": heavy, "weight_decay": settings.weight_decay},
                {"params": light, "weight_decay": settings.weight_decay if settings.decay_all else 0.0},
            ],
            lr=settings.lr,
            betas=settings.betas,
        )

    def step(self, number: int, progress: float) -> tuple[dict[str, torch.Tensor], str]:
        """One update on this rank's part of batch `number`: loss terms and the rows."""
        settings, part = self.settings, self.batches(number)
        images, features, noise, counts, pictures = (
            tensor.to(self.device)
            for tensor in (part.images, part.features, part.noise, part.n_masked, part.pictures)
        )
        real = to_network(images).contiguous(memory_format=torch.channels_last)
        set_lr(self.optimizer, settings.rate(progress))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.bf16):
            fake = self.wrapped(features, noise, counts, part.n_dropped, pictures)
        terms = self._terms(fake.float(), real, features)
        self.optimizer.zero_grad(set_to_none=True)
        settings.weights.total(terms).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return terms, f"rows {part.rows[:8].tolist()}..."

    def _terms(
        self, fake: torch.Tensor, real: torch.Tensor, features: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        weights = self.settings.weights
        terms = {"pixel": F.mse_loss(fake, real)}
        if weights.ssim:
            terms["ssim"] = 1.0 - self.ssim((fake + 1) / 2, (real + 1) / 2)
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
        head = {"kind": "vec2face", "config": config, "training": training, "landmarks": self.data.heights}
        models = {"model": self.model.generator, "pose": self.model.pose}
        save_weights(self.settings.out / "pose.safetensors", models, head)


def train_pose(
    data: PoseSource,
    base: Vec2Face,
    recogniser: IResNet,
    settings: PoseTraining,
    group: Ranks | None = None,
    pose: PoseModel | None = None,
    *,
    say: Callable[[str], object] | None = None,
) -> PoseTrainer:
    """Trains, and on the first rank writes `pose.safetensors`, which `load_generator` reads; the same call resumes.

    `pose`, with a `base` that has LoRA already (`with_learned_lora`), is where it goes on from.

    Raises:
        ModelNotFound, DatasetError, NonFiniteLoss, CheckpointError: as named.
        OutputFolderError: another training writes into the folder, or wrote into it with other settings.
    """
    trainer = PoseTrainer(data, base, recogniser, settings, group, pose)
    settings = trainer.settings
    try:
        with trainer.group.alone_in(settings.out):
            asked = {**settings.to_json(), "data": {"images": len(data)}}
            open_folder(settings.out, asked, "pose", trainer.group, absent=NEWER)
            budget = settings.ends(len(data))
            loop = Loop(budget, settings.out, settings.batch, settings.log_every, group=trainer.group)
            loop.say = say or loop.say
            say_if_emulated(settings.bf16, trainer.group.device, loop)
            _run(trainer, loop, Checkpoints(settings.out / "checkpoints", loop.say))
    finally:
        trainer.batches.close()
    return trainer


def foresee_pose(
    data: PoseSource, base: Vec2Face, recogniser: IResNet, settings: PoseTraining, group: Ranks | None = None
) -> TrainingForecast:
    """What `train_pose` would do, and what it would raise; writes nothing."""
    trainer = PoseTrainer(data, base, recogniser, settings, group)
    settings = trainer.settings
    try:
        weights = bytes_of(trainer.model.generator) + bytes_of(trainer.model.pose)
        return foresee(
            settings.out, {**settings.to_json(), "data": {"images": len(data)}}, "pose", settings.ends(len(data)),
            settings.batch, (len(data), 0), lambda number: trainer.step(number, 0.0),
            lambda: training_state(trainer.trained(), {"optimizer": trainer.optimizer}), weights,
            device=str(trainer.group.device), precision="bf16" if settings.bf16 else "fp32", absent=NEWER,
        )  # fmt: skip
    finally:
        trainer.batches.close()


def _run(trainer: PoseTrainer, loop: Loop, checkpoints: Checkpoints) -> None:
    settings = trainer.settings
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
            for line in trainer.data.written(settings.out):
                loop.say(line)
    checkpoints.wait()
    if trainer.group.first:
        trainer.save(loop.step)


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
