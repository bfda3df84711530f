"""A perceptual distance on the feature maps of a recogniser, in the manner of LPIPS.

LPIPS (Zhang et al. 2018) compares VGG16 maps trained on ImageNet, whose licence and weights are not ours to
ship; a face recogniser's first stages know about the same edges, textures and parts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from v2f_engine.models.iresnet import IResNet

NORM_FLOOR = 1e-4
"""Channel norms below this are not divided by: the published loss turned NaN there (Vec2Face issue 9)."""


def unit_channels(maps: torch.Tensor) -> torch.Tensor:
    """`[B, C, H, W]` with every position's channel vector at length 1, in fp32."""
    wide = maps.float()
    out: torch.Tensor = wide / wide.norm(dim=1, keepdim=True).clamp_min(NORM_FLOOR)
    return out


def map_distance(left: Sequence[torch.Tensor], right: Sequence[torch.Tensor]) -> torch.Tensor:
    """Sum over maps of the squared distance of unit channel vectors, averaged over positions: `[B]`."""
    total = left[0].new_zeros(len(left[0]), dtype=torch.float32)
    for a, b in zip(left, right, strict=True):
        total = total + (unit_channels(a) - unit_channels(b)).square().sum(1).mean((1, 2))
    return total


class RecogniserView(torch.nn.Module):
    """One pass of a frozen recogniser that serves both the perceptual and the identity loss.

    Args:
        recogniser: put into eval mode and frozen here.
        stages: which of its four stages are compared.
    """

    def __init__(self, recogniser: IResNet, stages: Sequence[int] = (0, 1, 2)) -> None:
        super().__init__()
        self.recogniser = recogniser.eval().requires_grad_(False)
        self.chosen = tuple(stages)

    def forward(self, images: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """(maps of the chosen stages, features `[B, D]`) of images `[B, 3, 112, 112]` in [-1, 1]."""
        maps = self.recogniser.stages(images)
        return [maps[stage] for stage in self.chosen], self.recogniser.head(maps[-1])
