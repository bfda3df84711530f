"""A frozen generator some of whose residual blocks multiply in e4m3, by `bench.candidates.conv3x3_fp8`."""

from __future__ import annotations

from collections.abc import Container

import torch
from torch import nn

from bench.candidates.conv3x3_fp8 import OP, quantise_weight
from v2f_engine.models.image_decoder import NORM_EPS, ResidualBlock
from v2f_engine.models.joined import Known
from v2f_engine.models.vec2face import Vec2Face

Shape = tuple[int, int, int]
"""Channels before and after a residual block, and its side in pixels."""


def shape_of(block: ResidualBlock) -> Shape:
    return block.conv1.in_channels, block.conv2.out_channels, block.side


class EightBitBlock(nn.Module):
    """A frozen `ResidualBlock` with both products in e4m3.

    Its convolutions sum what the norm behind them needs. A bias that an upsampling would leave to the block before it
    is not taken: the upsampling adds it.
    """

    def __init__(self, block: ResidualBlock, backend: str) -> None:
        super().__init__()
        if block.nin_shortcut is not None:
            raise ValueError("expected a frozen block, whose shortcut is folded into its second convolution")
        self.conv, self.keeps = OP.backend(backend), block.keeps_channels
        self.norms = [(norm.weight, norm.bias, block.groups, NORM_EPS) for norm in (block.norm1, block.norm2)]
        self.weights = [quantise_weight(conv.weight) for conv in (block.conv1, block.conv2)]

    def carry(self, known: Known, groups: int | None) -> Known:
        """As `ResidualBlock.carry`."""
        if known.shift is not None:
            raise ValueError("an 8-bit block was given an activation whose bias is not added yet")
        h, statistics = self.conv(
            known.x, *self.weights[0], self.norms[0], statistics=known.statistics, out_groups=self.norms[1][2]
        )
        made = self.conv(
            h, *self.weights[1], self.norms[1], residual=known.x if self.keeps else None, statistics=statistics,
            out_groups=groups,
        )  # fmt: skip
        return Known(made) if groups is None else Known(*made)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.carry(Known(x), None).x


def eight_bit(model: Vec2Face, backend: str, shapes: Container[Shape] | None = None) -> Vec2Face:
    """The frozen model, its residual blocks of these shapes replaced, all by default; the first and last convolution
    and the upsamplings stay as they are."""
    for parent in list(model.im_decoder.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ResidualBlock) and (shapes is None or shape_of(child) in shapes):
                setattr(parent, name, EightBitBlock(child, backend))
    return model
