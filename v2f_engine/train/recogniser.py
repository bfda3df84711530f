"""Trains a recogniser with margin softmax: the feature extractor of a generator, or an independent judge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F

from v2f_engine.config import at_least
from v2f_engine.models.features import extract_features, to_network
from v2f_engine.models.iresnet import IResNet, IResNetConfig
from v2f_engine.train.augment import augment_faces
from v2f_engine.train.checkpoint import read_tensors, restore, training_state, write_tensors
from v2f_engine.train.loop import Budget, Loop
from v2f_engine.train.margin import MarginSoftmax
from v2f_engine.train.optim import adamw, cosine, set_lr
from v2f_engine.train.order import rows_of_step
from v2f_engine.train.training_set import TrainingSet

MINI_RECOGNISER = IResNetConfig(layers=(1, 2, 2, 1), widths=(32, 64, 128, 256), stem_stride=2)
"""The embedded feature extractor: about an iresnet-18 at half width and half resolution."""


@dataclass(frozen=True)
class RecogniserTraining:
    """Settings of one training.

    Args:
        out: folder of checkpoint, log and `recogniser.safetensors`.
        model: shape of the network.
        budget: steps or minutes.
        batch: images a step.
        lr, weight_decay: of AdamW.
        scale, angular, additive: of the margin softmax; the margin is eased in between 20 % and 70 %.
        seed: of initialisation, order and augmentation.
        bf16: compute convolutions in bfloat16, weights stay fp32.
        checkpoint_every: steps.
        log_every: steps between two lines of the log.
        device: torch device.
        start_from: `recogniser.safetensors` of an earlier training to go on from, perhaps with more people;
            the head then starts at the class centres of its features.
    """

    out: Path
    model: IResNetConfig = MINI_RECOGNISER
    budget: Budget = field(default_factory=lambda: Budget(steps=3000))
    batch: int = 64
    lr: float = 1.5e-3
    weight_decay: float = 0.05
    scale: float = 24.0
    angular: float = 0.0
    additive: float = 0.2
    seed: int = 0
    bf16: bool = True
    checkpoint_every: int = 500
    log_every: int = 50
    device: str = "cpu"
    start_from: Path | None = None

    def __post_init__(self) -> None:
        at_least("batch", self.batch, 2)


def train_recogniser(
    data: TrainingSet, settings: RecogniserTraining, *, say: Callable[[str], object] | None = None
) -> IResNet:
    """Trains on `data` and writes `recogniser.safetensors` (fp32); resumes from `checkpoint.safetensors`.

    Args:
        data: images and labels.
        settings: see `RecogniserTraining`.
        say: gets the lines of progress; stderr by default.

    Raises:
        NonFiniteLoss, CheckpointError: as named.
    """
    torch.manual_seed(settings.seed)  # only the constructors below draw from it
    device = torch.device(settings.device)
    model = IResNet(settings.model).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    head = MarginSoftmax(
        data.classes, settings.model.feature_dim, settings.scale, settings.angular, settings.additive
    ).to(device)
    optimizer = adamw([model, head], settings.lr, settings.weight_decay)
    if settings.start_from is not None:
        _start(model, head, data, settings.start_from)
    modules = {"recogniser": model, "head": head}
    loop = Loop(settings.budget, settings.out, settings.batch, settings.log_every)
    loop.say = say or loop.say
    checkpoint = settings.out / "checkpoint.safetensors"
    if checkpoint.exists():
        state, told = read_tensors(checkpoint)
        restore(state, modules, {"optimizer": optimizer})
        loop.step = int(told["step"])
    labels = torch.from_numpy(data.labels)
    model.train()
    while not loop.done:
        set_lr(optimizer, settings.lr * cosine(loop.progress, 0.05))
        rows = rows_of_step(settings.seed, loop.step, settings.batch, len(data))
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + loop.step)
        images = augment_faces(to_network(torch.from_numpy(data.images[rows])), generator)
        images = images.to(device).contiguous(memory_format=torch.channels_last)
        target = labels[rows].to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.bf16):
            features = model(images)
        loss = head(features, target, share=min(1.0, max(0.0, 2.0 * loop.progress - 0.4)))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*model.parameters(), *head.parameters()], 5.0)
        optimizer.step()
        loop.record({"margin_softmax": loss}, f"rows {rows[:4].tolist()}...")
        if loop.step % settings.checkpoint_every == 0:
            write_tensors(checkpoint, training_state(modules, {"optimizer": optimizer}), {"step": loop.step})
    model.eval()
    save_recogniser(
        settings.out / "recogniser.safetensors", model, {"steps": loop.step, "classes": data.classes}
    )
    out: IResNet = model
    return out


def _start(model: IResNet, head: MarginSoftmax, data: TrainingSet, weights: Path) -> None:
    """Puts earlier weights into the network and its class centres into the head."""
    state, _ = read_tensors(weights)
    restore({f"recogniser/{name}": value for name, value in state.items()}, {"recogniser": model}, {})
    features = torch.from_numpy(extract_features(model.eval(), data.images))
    centres = torch.zeros(head.weight.shape).index_add_(
        0, torch.from_numpy(data.labels), F.normalize(features)
    )
    with torch.no_grad():
        head.weight.copy_(
            F.normalize(centres) * 0.01 * centres.shape[1] ** 0.5
        )  # the length of a random start


def save_recogniser(
    path: Path, model: IResNet, training: dict[str, int], dtype: torch.dtype = torch.float32
) -> None:
    """Writes the weights with the shape of the network in the head."""
    tensors = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    write_tensors(path, tensors, {"kind": "iresnet", "config": asdict(model.config), "training": training})
