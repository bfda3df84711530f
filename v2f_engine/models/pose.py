"""The landmark condition of Vec2Face+: a 112x112 drawing of five points to one token."""

from __future__ import annotations

import torch
from torch import nn


class PoseModel(nn.Module):
    """Four stride-2 convolutions and a zero-initialised Linear; the published checkpoint is 768 wide.

    Args:
        width: D of the generator.
    """

    def __init__(self, width: int = 768) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, 2, 1)
        self.conv2 = nn.Conv2d(32, 64, 3, 2, 1)
        self.conv3 = nn.Conv2d(64, 128, 3, 2, 1)
        self.conv4 = nn.Conv2d(128, 256, 3, 2, 1)
        self.linear = nn.Linear(256 * 7 * 7, width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, landmarks: torch.Tensor) -> torch.Tensor:
        """Condition `[B, 1, D]` of drawings `[B, 3, 112, 112]`, RGB, `(x / 255 - 0.5) / 0.5`."""
        x = landmarks
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = conv(x).relu()
        condition: torch.Tensor = self.linear(x.flatten(1))[:, None]
        return condition
