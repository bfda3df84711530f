"""What the training benchmark trains: sizes, pictures, features, and a recogniser whose features are finite.

A recogniser with the published start, convolutions N(0, 0.1) and norms at identity, is not a function one can
measure with: in eval mode nothing holds its residual stream, and iresnet100 leaves the range of fp32 in its third
stage (largest values of the four stages 94, 6e13, NaN, NaN), so the identity term is NaN and so is every gradient.
Here its BatchNorms hold the statistics of eight pictures, as a trained one's hold its training set's: each branch
then adds about unit variance, and a feature's norm is about sqrt(512) = 22.6, as published features have it.

The generator starts from Xavier's weights, as the published code's: under N(0, 0.02) the grid that enters the first
GroupNorm is so small that gradients before it, times the 65536 that a gradient scaler starts with, leave fp16
(size `tiny`, batch 2: 75,000 against 5,000 from Xavier's), and anomaly mode stops at the weight gradient's NaN.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import nn

from v2f_engine.data.training.memory_set import MemorySet
from v2f_engine.models.features import to_network
from v2f_engine.models.iresnet import IResNet, IResNetConfig
from v2f_engine.models.vec2face import Vec2FaceConfig

CALIBRATED_ON = 8
"""Pictures whose statistics the recogniser's norms get; iresnet100 takes 0.4 TFLOP for them."""
PIXEL_NOISE = 15.0
"""Grey levels of noise on coarse blocks of colour."""


@dataclass(frozen=True)
class Size:
    """What is trained, and with which frozen recogniser."""

    model: Vec2FaceConfig
    recogniser: IResNetConfig
    critic_width: int
    batch: int

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, found {self.batch}")


SIZES: Mapping[str, Size] = {
    "tiny": Size(
        Vec2FaceConfig(32, 1, 2, 1, 2, 8, 4, (1, 1, 1, 2, 2), 1, 4, 0.0),
        IResNetConfig((1, 1, 1, 1), (8, 16, 16, 16), stem_stride=4), 8, 2,
    ),
    "mini": Size(
        Vec2FaceConfig.mini(), IResNetConfig((1, 2, 2, 1), (32, 64, 128, 256), stem_stride=2), 16, 8
    ),
    "base": Size(replace(Vec2FaceConfig.base(), dropout=0.0), IResNetConfig.named("iresnet100"), 64, 32),
}  # fmt: skip


def sized(name: str, batch: int | None = None) -> Size:
    """A size by name, at its own batch or another.

    Raises:
        KeyError: a name nobody knows.
    """
    if name not in SIZES:
        raise KeyError(f"size {name!r} is not known. Known: {', '.join(SIZES)}.")
    return SIZES[name] if batch is None else replace(SIZES[name], batch=batch)


def pictures(rows: int) -> MemorySet:
    """Pictures uint8 `[rows, 112, 112, 3]` of coarse blocks and noise, with features of norm about 22.6."""
    draw = np.random.default_rng(0)
    blocks = draw.integers(0, 256, (rows, 7, 7, 3)).astype(np.float32).repeat(16, 1).repeat(16, 2)
    noisy = blocks + PIXEL_NOISE * draw.standard_normal((rows, 112, 112, 3), dtype=np.float32)
    return MemorySet(
        np.clip(noisy, 0, 255).astype(np.uint8),
        np.arange(rows, dtype=np.int64),
        draw.standard_normal((rows, 512), dtype=np.float32),
    )


@torch.no_grad()
def calibrate(recogniser: IResNet, images: torch.Tensor) -> None:
    """Gives every BatchNorm the statistics of `images` `[B, 3, 112, 112]`, by one pass in training mode."""
    norms = [m for m in recogniser.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean of what is seen, and one batch is seen
    recogniser.train()(images)
    recogniser.eval()
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum


@cache
def _calibrated(config: IResNetConfig, device: str) -> IResNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        recogniser = IResNet(config)
    recogniser.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    seen = to_network(torch.from_numpy(pictures(CALIBRATED_ON).images).to(device))
    calibrate(recogniser, seen.contiguous(memory_format=torch.channels_last))
    return recogniser


def published_start(model: nn.Module, seed: int = 0) -> None:
    """Xavier's uniform weights and no biases for every `nn.Linear` of `model`, in place, as the published code."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in model.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(drawn := torch.empty(module.weight.shape))
                with torch.no_grad():
                    module.weight.copy_(drawn)
                nn.init.zeros_(module.bias)


def recogniser_of(size: Size, device: str) -> IResNet:
    """A recogniser of its own for each caller, the same weights every time, in eval mode."""
    return copy.deepcopy(_calibrated(size.recogniser, device))
