"""Light and background of one image; neither depends on the identity."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from v2f_engine.rendered.draw import Draw
from v2f_engine.rendered.head import Array, F
from v2f_engine.rendered.palette import linear


@dataclass(frozen=True)
class Light:
    """Directions are unit vectors in head space, float32; colours linear RGB float32 `[3]`."""

    azimuth: float
    elevation: float
    intensity: float
    ambient: float
    hardness: float
    direction: Array
    key: Array
    sky: Array
    ground: Array
    rim: Array
    """float32 `[6]`: colour and direction."""


def draw_light(d: Draw, turn: Array, share: float = 1.0) -> Light:
    """A key light, an ambient dome of two colours, sometimes a rim light, placed about the camera.

    `share` is a factor on the dome, not on the recorded attribute.
    """
    azimuth, elevation = d.n(0, 34, 1.9), d.n(26, 17, 2.0)
    hardness = d.u()
    intensity = d.u(0.45, 1.25)
    ambient = d.u(0.34, 0.75)
    warm = d.n(0.02, 0.07)
    key = np.array([1 + warm, 1.0, 1 - warm]) * intensity
    sky = np.array([1 - 0.5 * warm, 1.0, 1 + 0.5 * warm]) * ambient * d.u(0.9, 1.3) * share
    sky = sky * (1 + 0.14 * (d.take(3) - 0.5))
    ground = sky * d.u(0.25, 0.8) * (1 + 0.3 * (d.take(3) - 0.5))
    a, b = np.deg2rad(azimuth), np.deg2rad(elevation)
    towards = np.array([np.sin(a) * np.cos(b), np.sin(b), np.cos(a) * np.cos(b)])
    behind = np.deg2rad(d.u(100, 165)) * (1 if d.chance(0.5) else -1)
    rim = d.u(0, 0.7) if d.chance(0.35) else 0.0
    rim_direction = turn.T @ np.array([np.sin(behind), 0.25, np.cos(behind)])
    return Light(
        azimuth,
        elevation,
        intensity,
        ambient,
        hardness,
        direction=(turn.T @ towards).astype(F),
        key=key.astype(F),
        sky=sky.astype(F),
        ground=ground.astype(F),
        rim=np.array([rim, rim, rim, *rim_direction], F),
    )


def draw_background(d: Draw, plain: float = 0.0) -> Array:
    """Linear RGB float32 `[28, 28, 3]`, to be enlarged: gradient, soft blobs or blurred blocks.

    `plain` 0..1 draws it towards a soft grey wall: world 2 wants it in half of its images.
    """
    small = 28
    kind = d.pick([3, 4, 2, 2])  # gradient, large blobs, small blobs, blocks
    c0, c1 = linear(*(d.take(3) * 235 + 10)), linear(*(d.take(3) * 235 + 10))
    grey = 0.45 + 0.55 * d.u()
    c0, c1 = c0 * (1 - grey) + c0.mean() * grey, c1 * (1 - grey) + c1.mean() * grey
    grid = d.take(8 * 8 * 3).reshape(8, 8, 3)
    mix = cv2.resize(d.take(4).reshape(2, 2), (small, small), interpolation=cv2.INTER_LINEAR)[..., None]
    out: Array = (c0 + (c1 - c0) * mix).astype(F)
    soft = d.u(0.5, 2.0)
    if kind >= 1:
        n = 3 if kind == 1 else 8
        g: Array = grid[:n, :n]
        m = g.mean(2, keepdims=True)
        g = np.ascontiguousarray(m + (g - m) * F(0.5 * (1 - grey) + 0.1))
        how = cv2.INTER_CUBIC if kind < 3 else cv2.INTER_NEAREST
        g = cv2.resize(g, (small, small), interpolation=how)
        if kind == 3:
            g = cv2.GaussianBlur(g, (0, 0), soft)
        out = np.clip(out * (F(0.35) + F(1.3) * g), 0, 1.2)
    if plain > 0:
        wall = cv2.GaussianBlur(out, (0, 0), 6).mean(2, keepdims=True) if kind else out.mean(2, keepdims=True)
        tint = out.mean((0, 1)) / max(float(out.mean()), 1e-3)
        wall = (0.35 * out.mean() + 0.65 * wall) * (1 + 0.4 * (tint - 1))
        out = (out + (wall - out) * F(plain)).astype(F)
    return out


def enlarge(background: Array, size: int) -> Array:
    """float32 `[size, size, 3]`, bicubic."""
    return np.ascontiguousarray(cv2.resize(background, (size, size), interpolation=cv2.INTER_CUBIC), F)
