"""6DRepNet in the layout of its published weights: a RepVGG-B1g2 and six numbers that make a rotation.

Hempel et al., "6D Rotation Representation for Unconstrained Head Pose Estimation" (ICIP 2022, arXiv 2202.12555);
Ding et al., "RepVGG" (CVPR 2021, arXiv 2101.03697). The released file holds the one-branch form
(`layer1.0.rbr_reparam.weight`), 41.4 M parameters; files with training branches (`rbr_dense`, `rbr_1x1`,
`rbr_identity`) are folded exactly when loaded. AttrOP feeds it BGR in [0, 1] at 112 pixels, without ImageNet's
normalisation, and so do we.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from v2f_engine.config import at_least
from v2f_engine.errors import CheckpointError
from v2f_engine.models import layouts
from v2f_engine.models.checkpoint_file import CheckpointFile, read_checkpoint

OUTPUTS = ("yaw", "pitch", "roll")
BN_EPS = 1e-5


@dataclass(frozen=True)
class RepVGGConfig:
    """Shape of the backbone; the default is RepVGG-B1g2.

    Args:
        blocks: of stages 1 to 4; stage 0 is one block.
        widths: channels of stages 0 to 4.
        groups: of every second 3x3 convolution, counted from the stem.
    """

    blocks: tuple[int, int, int, int] = (4, 6, 16, 1)
    widths: tuple[int, int, int, int, int] = (64, 128, 256, 512, 2048)
    groups: int = 2

    def __post_init__(self) -> None:
        for value in (*self.blocks, *self.widths, self.groups):
            at_least("RepVGG", value, 1)


class RepBlock(nn.Module):
    """One 3x3 convolution and a ReLU: what the training branches amount to."""

    def __init__(self, in_channels: int, channels: int, stride: int, groups: int) -> None:
        super().__init__()
        self.rbr_reparam = nn.Conv2d(in_channels, channels, 3, stride, 1, groups=groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.rbr_reparam(x).relu()
        return out


class SixDRepNet(nn.Module):
    """Yaw, pitch and roll of faces in degrees, `[B, 3]`."""

    def __init__(self, config: RepVGGConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or RepVGGConfig()
        self.layer0 = RepBlock(3, config.widths[0], 2, 1)
        channels, number = config.widths[0], 1
        for stage, (count, width) in enumerate(zip(config.blocks, config.widths[1:], strict=True), start=1):
            chain: list[nn.Module] = []
            for index in range(count):
                groups = config.groups if number % 2 == 0 else 1
                chain.append(RepBlock(channels, width, 2 if index == 0 else 1, groups))
                channels, number = width, number + 1
            self.add_module(f"layer{stage}", nn.Sequential(*chain))
        self.linear_reg = nn.Linear(channels, 6)

    def rotation(self, images: torch.Tensor) -> torch.Tensor:
        """Rotation matrices float32 `[B, 3, 3]`."""
        x = ((images + 1.0) / 2.0).flip(1).to(self.linear_reg.weight.dtype)  # RGB [-1, 1] to BGR [0, 1]
        for stage in range(5):
            x = self.get_submodule(f"layer{stage}")(x)
        return orthonormal(self.linear_reg(x.mean((2, 3))).float())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Degrees.

        Args:
            images: `[B, 3, 112, 112]`, RGB, in [-1, 1].
        """
        return euler(self.rotation(images))


def orthonormal(six: torch.Tensor) -> torch.Tensor:
    """Rotations `[B, 3, 3]` whose first column points along six[:3], the second close to six[3:] (Zhou et al. 2019)."""
    first = F.normalize(six[:, :3], dim=1, eps=1e-8)
    third = F.normalize(torch.linalg.cross(first, six[:, 3:], dim=1), dim=1, eps=1e-8)
    return torch.stack([first, torch.linalg.cross(third, first, dim=1), third], 2)


def euler(rotation: torch.Tensor) -> torch.Tensor:
    """(yaw, pitch, roll) in degrees `[B, 3]`; rotation = Rz(roll) Ry(yaw) Rx(pitch)."""
    flat = (rotation[:, 0, 0].square() + rotation[:, 1, 0].square()).clamp_min(1e-12).sqrt()
    pitch = torch.atan2(rotation[:, 2, 1], rotation[:, 2, 2])
    yaw = torch.atan2(-rotation[:, 2, 0], flat)
    roll = torch.atan2(rotation[:, 1, 0], rotation[:, 0, 0])
    return torch.stack([yaw, pitch, roll], 1) * (180.0 / math.pi)


def fold_branches(branches: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """(weight, bias) of the one convolution that a block's training branches amount to; sums in fp64.

    Args:
        branches: a block's state dict: `rbr_dense.conv.weight`, `rbr_dense.bn.*`, `rbr_1x1.*` and, where input
            and output agree, `rbr_identity.*`.
    """
    dense = branches["rbr_dense.conv.weight"].double()
    total, bias = torch.zeros_like(dense), torch.zeros(len(dense), dtype=torch.float64)
    one = F.pad(branches["rbr_1x1.conv.weight"].double(), (1, 1, 1, 1))
    kernels = {"rbr_dense.bn": dense, "rbr_1x1.bn": one}
    if "rbr_identity.weight" in branches:
        same = torch.zeros_like(dense)
        out = torch.arange(len(dense))
        same[out, out % dense.shape[1], 1, 1] = 1.0
        kernels["rbr_identity"] = same
    for norm, kernel in kernels.items():
        mean, variance = (branches[f"{norm}.running_{name}"].double() for name in ("mean", "var"))
        scale = branches[f"{norm}.weight"].double() / (variance + BN_EPS).sqrt()
        total += kernel * scale[:, None, None, None]
        bias += branches[f"{norm}.bias"].double() - mean * scale
    return total.float(), bias.float()


def load_sixd(path: str | Path) -> SixDRepNet:
    """A 6DRepNet with RepVGG-B1g2, from its published `.pth` or a safetensors of the same keys; frozen, fp32.

    Raises:
        ModelNotFound, CheckpointError: as named.
    """
    file = read_checkpoint(path)
    if not is_sixd(file):
        raise CheckpointError(f"{path}: expected a 6DRepNet (linear_reg.weight), found other keys.")
    tensors = dict(file.parts["model"])
    blocks = {key.partition(".rbr_dense")[0] for key in tensors if ".rbr_dense.conv.weight" in key}
    for block in blocks:
        mine = {k[len(block) + 1 :]: tensors.pop(k) for k in list(tensors) if k.startswith(f"{block}.rbr_")}
        tensors[f"{block}.rbr_reparam.weight"], tensors[f"{block}.rbr_reparam.bias"] = fold_branches(mine)
    folded = CheckpointFile(file.path, file.sha256, {"model": tensors}, file.head)
    return layouts.fit(SixDRepNet, folded, "model").requires_grad_(False)


def is_sixd(file: CheckpointFile) -> bool:
    """Whether a file holds a 6DRepNet."""
    return "linear_reg.weight" in file.parts["model"]
