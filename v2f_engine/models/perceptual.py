"""Perceptual distances: LPIPS on VGG16, and the same on the feature maps of a recogniser.

LPIPS (Zhang et al. 2018) compares VGG16 maps trained on ImageNet, whose licence and weights are not ours to
ship: they come from files that the user names. Without them a face recogniser's first stages serve, which
know about the same edges, textures and parts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import nn
from v2f_kernels._shapes import shape_class

from v2f_engine.config import between
from v2f_engine.errors import CheckpointError
from v2f_engine.models.checkpoint_file import read_checkpoint
from v2f_engine.models.frozen_iresnet import FrozenIResNet
from v2f_engine.models.iresnet import IResNet
from v2f_engine.models.ops import Bound
from v2f_engine.models.pth import Tensors

NORM_FLOOR = 1e-4
"""Channel norms below this are not divided by: the published loss turned NaN there (Vec2Face issue 9)."""


def wide(x: torch.Tensor) -> torch.Tensor:
    """`x` in fp32; fp64 stays, in which a test follows a training through its chaos."""
    return x if x.dtype is torch.float64 else x.float()


class MapDistance(Bound):
    """The distance of one map; see `v2f_kernels.unit_distance`.

    Args:
        channels, side: of the map.
    """

    uses = ("unit_distance",)

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.channels, self.side = channels, side

    def shapes(self) -> tuple[str, ...]:
        return (shape_class("unit_distance", C=self.channels, HW=self.side),)

    def forward(
        self, left: torch.Tensor, right: torch.Tensor, weight: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`[B]` of maps `[B, C, H, W]`, in fp32."""
        out: torch.Tensor = self.ops[0](left, right, weight, NORM_FLOOR)
        return out


def map_distance(
    left: Sequence[torch.Tensor],
    right: Sequence[torch.Tensor],
    heads: Sequence[torch.Tensor] | None = None,
    distances: Iterable[Callable[..., torch.Tensor]] | None = None,
) -> torch.Tensor:
    """Sum over maps of the squared distance of unit channel vectors, averaged over positions: `[B]`.

    Args:
        left, right: maps `[B, C, H, W]`, any floating dtype; computed in fp32.
        heads: a weight `[C]` for every channel of each map, LPIPS's linear layers; 1 where None.
        distances: a `MapDistance` for each map; plain torch where None.
    """
    total = left[0].new_zeros(len(left[0]), dtype=torch.float32)
    weights = heads if heads is not None else [None] * len(left)
    ways: Iterable[Callable[..., torch.Tensor]] = distances or [MapDistance(1, 1)] * len(left)
    for a, b, weight, distance in zip(left, right, weights, ways, strict=True):
        total = total + distance(a, b, weight)
    return total


VGG_WIDTHS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""VGG16's stages: channels and number of 3x3 convolutions; between stages a 2x2 maximum."""
SIDE = 112
"""Of the images that are compared in training: what the distances' backends are chosen for."""
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""ImageNet's mean and deviation for images in [-1, 1], in LPIPS's rounding."""


class Lpips(nn.Module):
    """LPIPS 0.1 on VGG16: maps after ReLU 1_2, 2_2, 3_3, 4_3 and 5_3, compared with learned channel weights.

    Parameters carry torchvision's names (`features.0.weight` ...). Frozen, in eval mode. One departure: norms
    are clamped to 1e-4 where the original adds 1e-10, which turned NaN in half precision (Vec2Face issue 9).

    Args:
        layers: how many of the five maps are compared; Vec2Face of 2024 left the fifth out.
    """

    def __init__(self, layers: int = 5) -> None:
        super().__init__()
        between("layers", layers, 1, len(VGG_WIDTHS))
        modules: list[nn.Module] = []
        self._taps: list[int] = []
        channels = 3
        for width, count in VGG_WIDTHS[:layers]:
            if self._taps:
                modules.append(nn.MaxPool2d(2, 2))
            for _ in range(count):
                modules += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            self._taps.append(len(modules) - 1)
        self.features = nn.Sequential(*modules)
        self.heads = nn.ParameterList([torch.ones(width) for width, _ in VGG_WIDTHS[:layers]])
        self.distances = nn.ModuleList(
            MapDistance(width, SIDE >> level) for level, (width, _) in enumerate(VGG_WIDTHS[:layers])
        )
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def maps(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The compared maps of images `[B, 3, H, W]` in [-1, 1]; those of real images can be kept."""
        shift, scale = self.get_buffer("shift"), self.get_buffer("scale")
        x = (images - shift) / scale
        found = []
        for index, module in enumerate(self.features):
            x = module(x)
            if index in self._taps:
                found.append(x)
        return found

    def distance(self, left: Sequence[torch.Tensor], right: Sequence[torch.Tensor]) -> torch.Tensor:
        """LPIPS `[B]` of two lists of maps, in fp32."""
        return map_distance(left, right, list(self.heads), self.distances)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """LPIPS `[B]` of images `[B, 3, H, W]` in [-1, 1]."""
        return self.distance(self.maps(left), self.maps(right))


def load_lpips(path: str | Path, layers: int = 5) -> Lpips:
    """LPIPS from the user's weights.

    Args:
        path: a `.safetensors` or `.pth` that holds VGG16 (torchvision's names, or a whole `lpips.LPIPS` state)
            and the linear layers (`lin0.model.1.weight` ...), or a folder whose files together hold both.
        layers: how many maps are compared.

    Raises:
        ModelNotFound: no such file.
        CheckpointError: unsafe, damaged, or without what is needed; the message names the missing tensors.
    """
    path = Path(path)
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".safetensors", ".pth", ".pt"))
        if not files:
            raise CheckpointError(
                f"{path}: expected files of VGG16 and of LPIPS's linear layers, found none."
            )
    tensors: Tensors = {}
    for file in files:
        tensors |= _lpips_names(read_checkpoint(file).parts["model"])
    model = Lpips(layers)
    own = model.state_dict()
    wrong = [
        f"{name} {list(value.shape)}"
        for name, value in own.items()
        if name not in tensors or tensors[name].shape != value.shape
    ]
    if wrong:
        raise CheckpointError(
            f"{path}: expected VGG16 in torchvision's names and LPIPS's linear layers; missing or of another "
            f"shape: {', '.join(wrong[:6])}{f' and {len(wrong) - 6} more' if len(wrong) > 6 else ''}. The "
            "linear layers (heads.*) are `lin0.model.1.weight` ... of the lpips package's weights/v0.1/vgg.pth; "
            "give a folder that holds both files."
        )
    model.load_state_dict({name: tensors[name].float() for name in own})
    return model


def _lpips_names(tensors: Tensors) -> Tensors:
    """Tensors under the names of `Lpips`: torchvision's, timm's and the lpips package's are known.

    What all names of a file share (`features.`, `net.`) is gone already.
    """
    out: Tensors = {}
    for name, value in tensors.items():
        if head := re.fullmatch(r"lins?\.?(\d)\.model\.[01]\.weight", name):
            out[f"heads.{head[1]}"] = value.reshape(-1)
        elif convolution := re.fullmatch(r"(?:(?:net\.)?slice\d\.|features\.)?(\d+\.(?:weight|bias))", name):
            out[f"features.{convolution[1]}"] = value
        elif name.startswith("heads."):
            out[name] = value
    return out


class RecogniserView(nn.Module):
    """One pass of a frozen recogniser that serves both the perceptual and the identity loss.

    Args:
        recogniser: put into eval mode and frozen here.
        stages: which of its four stages are compared.
    """

    def __init__(self, recogniser: IResNet | FrozenIResNet, stages: Sequence[int] = (0, 1, 2)) -> None:
        super().__init__()
        self.recogniser = recogniser.eval().requires_grad_(False)
        self.chosen = tuple(stages)
        config = recogniser.config
        self.distances = nn.ModuleList(
            MapDistance(config.widths[stage], config.sides[stage]) for stage in self.chosen
        )

    def forward(
        self, images: torch.Tensor, whole: bool = True
    ) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        """(maps of the chosen stages, features `[B, D]`) of images `[B, 3, 112, 112]` in [-1, 1].

        Args:
            whole: otherwise the pass ends with the last chosen stage, and there are no features.
        """
        maps = self.recogniser.stages(images, 4 if whole else max(self.chosen) + 1)
        return [maps[stage] for stage in self.chosen], self.recogniser.head(maps[-1]) if whole else None

    def distance(self, left: Sequence[torch.Tensor], right: Sequence[torch.Tensor]) -> torch.Tensor:
        """`[B]` of two lists of such maps, in fp32."""
        return map_distance(left, right, None, self.distances)
