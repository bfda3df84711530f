"""Trains a recogniser with margin softmax: the feature extractor of a generator, or an independent judge."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from v2f_engine.config import at_least
from v2f_engine.models.iresnet import IResNet, IResNetConfig
from v2f_engine.train.augment import augment_faces, to_network
from v2f_engine.train.checkpoint import read_tensors, restore, training_state, write_tensors
from v2f_engine.train.loop import Budget, Loop
from v2f_engine.train.margin import MarginSoftmax
from v2f_engine.train.optim import adamw, cosine, set_lr
from v2f_engine.train.order import rows_of_step
from v2f_engine.train.training_set import TrainingSet

MINI_RECOGNISER = IResNetConfig(layers=(2, 2, 2, 2), widths=(32, 64, 128, 256), stem_stride=2)
"""The embedded feature extractor: iresnet-18 at half width and half resolution, 1/15 of its work."""


@dataclass(frozen=True)
class RecogniserTraining:
    """Settings of one training.

    Args:
        out: folder of checkpoint, log and `recogniser.safetensors`.
        model: shape of the network.
        budget: steps or minutes.
        batch: images a step.
        lr, weight_decay: of AdamW.
        scale, angular, additive: of the margin softmax; the margin is eased in over the first third.
        seed: of initialisation, order and augmentation.
        bf16: compute convolutions in bfloat16, weights stay fp32.
        checkpoint_every: steps.
        device: torch device.
    """

    out: Path
    model: IResNetConfig = MINI_RECOGNISER
    budget: Budget = field(default_factory=lambda: Budget(steps=3000))
    batch: int = 128
    lr: float = 2e-3
    weight_decay: float = 0.05
    scale: float = 32.0
    angular: float = 0.0
    additive: float = 0.25
    seed: int = 0
    bf16: bool = True
    checkpoint_every: int = 500
    device: str = "cpu"

    def __post_init__(self) -> None:
        at_least("batch", self.batch, 2)


def train_recogniser(data: TrainingSet, settings: RecogniserTraining) -> IResNet:
    """Trains on `data` and writes `recogniser.safetensors` (fp32); resumes from `checkpoint.safetensors`.

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
    modules = {"recogniser": model, "head": head}
    loop = Loop(settings.budget, settings.out, settings.batch)
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
        loss = head(features, target, share=min(1.0, 3.0 * loop.progress))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([*model.parameters(), *head.parameters()], 5.0)
        optimizer.step()
        loop.record({"margin_softmax": loss}, f"rows {rows[:4].tolist()}...")
        if loop.step % settings.checkpoint_every == 0:
            write_tensors(checkpoint, training_state(modules, {"optimizer": optimizer}), {"step": loop.step})
    model.eval()
    save_recogniser(settings.out / "recogniser.safetensors", model, {"steps": loop.step, "classes": data.classes})
    return model


def save_recogniser(path: Path, model: IResNet, training: dict[str, int], dtype: torch.dtype = torch.float32) -> None:
    """Writes the weights with the shape of the network in the head."""
    tensors = {
        name: value.to(dtype) if value.is_floating_point() else value for name, value in model.state_dict().items()
    }
    write_tensors(path, tensors, {"kind": "iresnet", "config": asdict(model.config), "training": training})
