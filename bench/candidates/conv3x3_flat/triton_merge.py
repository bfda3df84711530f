# mypy: ignore-errors
"""Triton: moments of tiles of a bordered image -> mean and variance per image and group.

As `group_norm_silu.triton_moments.merge_moments_kernel`, but a tile counts positions, some of which are no pixels, so
that no two tiles need hold as many. A group's tiles are few (99 by 4 channels at 112x112): one read, all in registers.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def pixels_before(position, PITCH: tl.constexpr):
    """Pixels among the positions 0 .. position - 1 of an image, whose every PITCH-th position is a border."""
    return position - position // PITCH


@triton.jit
def merge_flat_kernel(
    partial_ptr,  # [B, TILES, 2, C] fp32: mean, M2
    statistics_ptr,  # [B, G, 2] fp32: mean, biased variance
    H: tl.constexpr,
    W: tl.constexpr,
    TILE: tl.constexpr,  # positions per tile
    TILES: tl.constexpr,
    C: tl.constexpr,
    CPG: tl.constexpr,  # channels per group
    BLOCK_T: tl.constexpr,  # power of two >= TILES
    BLOCK_G: tl.constexpr,  # power of two >= CPG
):
    """Grid (G, B)."""
    group = tl.program_id(0)
    image = tl.program_id(1).to(tl.int64)
    lane = tl.arange(0, BLOCK_G)
    tile = tl.arange(0, BLOCK_T)
    source = partial_ptr + image * (TILES * 2 * C) + group * CPG
    inside = (tile < TILES)[:, None] & (lane < CPG)[None, :]
    first = tl.minimum(tile * TILE, H * (W + 1))
    last = tl.minimum(tile * TILE + TILE, H * (W + 1))
    count = (pixels_before(last, W + 1) - pixels_before(first, W + 1)).to(tl.float32)[:, None]
    place = source + tile[:, None] * (2 * C) + lane[None, :]
    mean = tl.load(place, mask=inside, other=0.0)
    m2 = tl.load(place + C, mask=inside, other=0.0)
    # The first tile's mean: a weighted sum of differences from it rounds less than one of means.
    near = tl.load(source)
    centre = near + tl.sum(tl.sum(tl.where(inside, mean - near, 0.0) * count, 1), 0) / (H * W * CPG)
    away = tl.where(inside, mean - centre, 0.0)
    variance = tl.sum(tl.sum(m2 + away * away * count, 1), 0) / (H * W * CPG)
    target = statistics_ptr + (image * tl.num_programs(0) + group) * 2
    tl.store(target, centre)
    tl.store(target + 1, variance)
