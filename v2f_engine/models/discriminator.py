"""The published patch discriminator: 6.14 M parameters, one logit per 11x11 patch.

Stem of parallel 3/7/15 convolutions, three stages of stride-2 convolution, norm and residual block, a
4x4 head. Recorded outputs: tests/golden.
"""

from __future__ import annotations

import torch
from torch import nn

SLOPE = 0.1
GROUPS = 8


class MultiScaleStem(nn.Module):
    """Parallel same-size convolutions of kernel 3, 7 and 15, concatenated."""

    def __init__(self, widths: tuple[int, int, int]) -> None:
        super().__init__()
        kernels = (3, 7, 15)
        self.convs = nn.ModuleList(
            nn.Conv2d(3, width, kernel, padding=kernel // 2)
            for width, kernel in zip(widths, kernels, strict=True)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([conv(images) for conv in self.convs], dim=1)


class NormConv(nn.Module):
    """3x3 convolution of the activated group norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.groupnorm = nn.GroupNorm(GROUPS, channels)
        self.project = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.project(nn.functional.leaky_relu(self.groupnorm(x), SLOPE))
        return out


class Residual(nn.Module):
    """`x + block(x)`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = NormConv(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.block(x)
        return out


class PatchDiscriminator(nn.Module):
    """Real-or-generated logits for every patch.

    Args:
        width: channels of the stem; stages have 2, 4 and 8 times as many. 64 as published.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        stem = MultiScaleStem((width // 2, width // 4, width // 4))
        stages: list[nn.Module] = [nn.Sequential(stem, nn.LeakyReLU(SLOPE))]
        for factor in (1, 2, 4):
            channels = width * factor * 2
            stages.append(
                nn.Sequential(
                    nn.Conv2d(width * factor, channels, 4, 2, 1),
                    nn.LeakyReLU(SLOPE),
                    nn.GroupNorm(GROUPS, channels),
                    Residual(channels),
                )
            )
        self.layers = nn.ModuleList(stages)
        last = width * 8
        self.to_logits = nn.Sequential(nn.Conv2d(last, last, 1), nn.LeakyReLU(SLOPE), nn.Conv2d(last, 1, 4))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `[B,1,11,11]` of images `[B,3,112,112]` in [-1, 1]."""
        x = images
        for stage in self.layers:
            x = stage(x)
        logits: torch.Tensor = self.to_logits(x)
        return logits
