"""Numbers from places: hashed uniforms, and textures read between their texels."""

from __future__ import annotations

import numpy as np
import torch

from v2f_engine.rendered.head import TEX_H, TEX_W

_WORD = 0xFFFFFFFF
_RIGHT, _BOTTOM = (float(np.float32(n) - np.float32(1.001)) for n in (TEX_W, TEX_H))


def hash01(x: torch.Tensor, y: torch.Tensor, seed: torch.Tensor | int) -> torch.Tensor:
    """float32 uniforms in [0, 1) of int64 places, the bits of `raster.hash01` (which starts with more than 32)."""
    h = (x * 374761393 + y * 668265263) ^ seed
    h = ((h ^ (h >> 13)) & _WORD) * 1274126177
    h = (((h ^ (h >> 16)) & _WORD) * 2246822519) & _WORD
    h = h ^ (h >> 15)
    return (h >> 8).float() * 5.9604645e-08


def corners(u: torch.Tensor, v: torch.Tensor, first: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Row of the upper left texel, and fractions across and down, of places (u, v) clamped to the edge."""
    x, y = u.clamp(0, _RIGHT), v.clamp(0, _BOTTOM)
    j, i = x.int(), y.int()
    return first + i * TEX_W + j, x - j, y - i


def bilinear(
    texels: torch.Tensor, u: torch.Tensor, v: torch.Tensor, first: torch.Tensor, channels: slice
) -> list[torch.Tensor]:
    """Channels of the textures `[n, C]` at (u, v), a tensor each; `first` is the first texel of the texture meant."""
    at, across, down = corners(u, v, first)
    across, down = across[:, None], down[:, None]
    a, b, c, d = (texels[at + step][:, channels] for step in (0, 1, TEX_W, TEX_W + 1))
    upper = a + (b - a) * across
    lower = c + (d - c) * across
    return list((upper + (lower - upper) * down).unbind(1))
