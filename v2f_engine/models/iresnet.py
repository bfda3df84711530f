"""Improved residual networks for face recognition, with the parameter names every published checkpoint uses.

Layout: `conv1 bn1 prelu`, four stages of blocks `bn1 conv1 bn2 prelu conv2 bn3 (+ downsample)`, then
`bn2`, `fc` and `features` (BatchNorm1d whose weight stays 1). The squeeze-excitation variant of the
Vec2Face authors' recogniser repository applies SE to the *shortcut* of the first block of each stage.
Source: Duta et al., "Improved Residual Networks", arXiv 2004.04989; insightface arcface_torch key layout.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn
from v2f_kernels._shapes import shape_class

from v2f_engine.config import at_least, between, one_of
from v2f_engine.errors import ConfigError
from v2f_engine.models.batch_norm import NORM, normed
from v2f_engine.models.iresnet_block import BN_EPS, blurred
from v2f_engine.models.iresnet_block import Block as Block
from v2f_engine.models.iresnet_block import SqueezeExcitation as SqueezeExcitation
from v2f_engine.models.ops import Bound

LAYERS = {
    "iresnet18": (2, 2, 2, 2),
    "iresnet34": (3, 4, 6, 3),
    "iresnet50": (3, 4, 14, 3),
    "iresnet100": (3, 13, 30, 3),
    "iresnet200": (6, 26, 60, 6),
}


@dataclass(frozen=True)
class IResNetConfig:
    """Shape of a recogniser.

    Args:
        layers: blocks of the four stages.
        widths: channels of the four stages; the stem has `widths[0]`.
        stem_stride: 1 as published; 2 halves the resolution of the whole network (a quarter of the work).
        se: squeeze-excitation on the shortcut of the first block of each stage, as published.
        feature_dim: length of a feature.
        input_size: height and width of the input in pixels.
        shortcut: `projected` in the first block of every stage; `subsampled` (every second pixel) where the width
            stays, as in the IR networks of `models.ir_layout`.
        inner_norm: whether blocks have a norm behind their first convolution.
        gate: where SE stands: `shortcut`, or `branch` of every block (IR-SE).
        channels: order of the pixels it was trained on, `rgb` or `bgr`; `extract_features` gives it those.
        blur: a binomial filter before every stride, against the resonances of strided layers. Ours: no published
            recogniser has it.
    """

    layers: tuple[int, int, int, int] = LAYERS["iresnet50"]
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    stem_stride: int = 1
    se: bool = False
    feature_dim: int = 512
    input_size: int = 112
    shortcut: str = "projected"
    inner_norm: bool = True
    gate: str = "shortcut"
    channels: str = "rgb"
    blur: bool = False

    def __post_init__(self) -> None:
        for name, values in (("layers", self.layers), ("widths", self.widths)):
            object.__setattr__(self, name, tuple(values))
            for value in values:
                at_least(name, value, 1)
        at_least("stem_stride", self.stem_stride, 1)
        one_of("shortcut", self.shortcut, ("projected", "subsampled"))
        one_of("gate", self.gate, ("shortcut", "branch"))
        one_of("channels", self.channels, ("rgb", "bgr"))

    @classmethod
    def named(cls, name: str, *, se: bool = False) -> IResNetConfig:
        """A published depth: `iresnet18`, `34`, `50`, `100` or `200`."""
        return cls(LAYERS[one_of("recogniser", name, LAYERS)], se=se)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for checkpoints and manifests; those of strangers' layouts only where they are such."""
        plain = {**asdict(self), "layers": list(self.layers), "widths": list(self.widths)}
        ours = {
            "shortcut": "projected",
            "inner_norm": True,
            "gate": "shortcut",
            "channels": "rgb",
            "blur": False,
        }
        return {name: value for name, value in plain.items() if name not in ours or value != ours[name]}

    @property
    def grid(self) -> int:
        """Height and width of the last feature map: 7 as published."""
        return self.sides[-1]

    @property
    def sides(self) -> tuple[int, ...]:
        """Height and width of the four stages' maps: 56, 28, 14 and 7 as published."""
        size, found = -(-self.input_size // self.stem_stride), []
        for _ in range(4):
            size = -(-size // 2)
            found.append(size)
        return tuple(found)


class IResNet(Bound):
    """A recogniser: aligned faces to un-normalised features.

    Args:
        config: its shape.
        dropout: of the last map, before `fc`, in training; 0.4 in the published trainer. It has no parameters and is
            no part of the shape: weights are the same files with and without.
    """

    uses = (NORM, NORM)
    """Of the stem, with PReLU, and behind the last stage, in training."""

    def __init__(self, config: IResNetConfig, dropout: float = 0.0) -> None:
        super().__init__()
        between("dropout", dropout, 0.0, 0.99)
        self.config, self.dropout = config, dropout
        stem, last = config.widths[0], config.widths[3]
        self.conv1 = nn.Conv2d(3, stem, 3, config.stem_stride, 1, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(stem, eps=BN_EPS)
        self.prelu = nn.PReLU(stem)
        in_channels, side = stem, self.stem_side
        for stage, (blocks, width) in enumerate(zip(config.layers, config.widths, strict=True), start=1):
            every = config.se and config.gate == "branch"
            chain = [Block(in_channels, width, 2, config.se, config, side)]
            side = config.sides[stage - 1]
            chain += [Block(width, width, 1, every, config, side) for _ in range(blocks - 1)]
            self.add_module(f"layer{stage}", nn.Sequential(*chain))
            in_channels = width
        self.bn2: nn.Module = nn.BatchNorm2d(last, eps=BN_EPS)
        self.fc = nn.Linear(last * config.grid**2, config.feature_dim)
        last_norm = nn.BatchNorm1d(config.feature_dim, eps=BN_EPS)
        # The published recognisers freeze this weight at 1: a feature's norm is then about sqrt(512) = 22.6.
        last_norm.weight.requires_grad_(False)
        self.features: nn.Module = last_norm
        self.initialise()

    @property
    def stem_side(self) -> int:
        """Height and width of the stem's map: 112 as published."""
        return -(-self.config.input_size // self.config.stem_stride)

    def shapes(self) -> tuple[str, ...]:
        widths = self.config.widths
        return (
            shape_class(NORM, C=widths[0], HW=self.stem_side),
            shape_class(NORM, C=widths[3], HW=self.config.grid),
        )

    def initialise(self) -> None:
        """He-like start of the published trainers: convolutions N(0, 0.1), norms at identity.

        Weights without memory are left: a file's take their place, and to draw them torch would import its compiler.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
                nn.init.normal_(module.weight, 0.0, 0.1)

    def stages(self, images: torch.Tensor, last: int = 4) -> list[torch.Tensor]:
        """The outputs of the first `last` stages, for perceptual losses: `[B, widths[i], s, s]`."""
        x = blurred(images.to(self.conv1.weight.dtype), self.config.stem_stride if self.config.blur else 1)
        x = normed(self.ops[0], self.conv1(x), self.bn1, self.prelu)
        maps = []
        for stage in range(1, last + 1):
            x = self.get_submodule(f"layer{stage}")(x)
            maps.append(x)
        return maps

    def head(self, last_map: torch.Tensor, dropout_seed: int | None = None) -> torch.Tensor:
        """The last stage's output to features `[B, feature_dim]`, in the dtype of the weights."""
        flat = self._dropped(normed(self.ops[1], last_map, self.bn2).flatten(1), dropout_seed)
        with torch.autocast(flat.device.type, enabled=False):  # published recognisers compute fc in fp32
            features: torch.Tensor = self.features(self.fc(flat.to(self.fc.weight.dtype)))
        return features

    def _dropped(self, flat: torch.Tensor, seed: int | None) -> torch.Tensor:
        """In training, a share `dropout` of the numbers is 0 and the others are that much larger."""
        if not (self.training and self.dropout):
            return flat
        if seed is None:
            raise ConfigError(
                "Training with dropout needs dropout_seed: this module draws nothing by itself."
            )
        generator = torch.Generator(flat.device).manual_seed(seed)
        kept = torch.rand(flat.shape, generator=generator, device=flat.device) >= self.dropout
        return flat * kept / (1.0 - self.dropout)

    def forward(self, images: torch.Tensor, dropout_seed: int | None = None) -> torch.Tensor:
        """Features `[B, feature_dim]`, un-normalised.

        Args:
            images: `[B, 3, input_size, input_size]`, RGB, `(x / 255 - 0.5) / 0.5`.
            dropout_seed: decides what is dropped; required in training when `dropout > 0`.

        Raises:
            ConfigError: training with dropout and no seed.
        """
        return self.head(self.stages(images)[-1], dropout_seed)


def as_rgb(model: IResNet) -> IResNet:
    """A recogniser that takes RGB: `model`, or a copy whose first kernels are turned where it was trained on BGR.

    For whoever feeds it tensors (losses, steering); `extract_features` turns the pictures instead.
    """
    if model.config.channels == "rgb":
        return model
    turned = copy.deepcopy(model)
    turned.conv1.weight.data = model.conv1.weight.data.flip(1)
    turned.config = replace(model.config, channels="rgb")
    return turned
