"""Random networks that are small enough to be made in a test."""

from __future__ import annotations

from dataclasses import replace

import torch

from v2f_engine.models.iresnet import IResNetConfig
from v2f_engine.models.pose import PoseModel
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig

SMALL = Vec2FaceConfig(
    width=48, encoder_blocks=1, encoder_heads=1, decoder_blocks=1, decoder_heads=1, z_channels=8,
    base_channels=8, multipliers=(1, 1, 1, 1, 1), residual_blocks=1, norm_groups=4, dropout=0.0,
)  # fmt: skip
SMALL_POSED = replace(SMALL, lora_rank=2)
TINY = IResNetConfig(layers=(1, 1, 1, 1), widths=(4, 4, 8, 8), stem_stride=2)


def generator(config: Vec2FaceConfig = SMALL) -> Vec2Face:
    """One whose images differ from each other to the eye; by torch's seed 0, which stays set for what is made next."""
    torch.manual_seed(0)
    network = Vec2Face(config)
    network.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.im_decoder.conv_out.weight.mul_(3.0)
    return network


def posed_generator() -> tuple[Vec2Face, PoseModel]:
    """One with LoRA, and a pose network that turns something."""
    network, pose = generator(SMALL_POSED), PoseModel(SMALL_POSED.width)
    with torch.no_grad():
        pose.linear.weight.normal_(0.0, 0.2)
    return network, pose
