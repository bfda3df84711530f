"""Numba device functions of `shade`: what a surface is made of at one point.

All float32, but for the iris pattern, which is float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from v2f_engine.rendered.palette import HAIR, SCLERA, TIP
from v2f_engine.rendered.raster import jit

f32 = np.float32


@jit
def row(colours: Any, number: Any, f: Any) -> Any:
    """Row `number` of the colour table times `f`."""
    return colours[number, 0] * f, colours[number, 1] * f, colours[number, 2] * f


@jit
def light_space(m: Any, x: Any, y: Any, z: Any) -> Any:
    """Pixel and height of a head-space point in the depth map of matrix `m` `[3, 4]`."""
    return (
        m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3],
        m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3],
        m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3],
    )


@jit
def shadow_at(zbuf: Any, x: Any, y: Any, z: Any, soft: Any) -> Any:
    """Bilinear percentage-closer lookups on a five-point pattern `soft` pixels apart: 1 lit, 0 dark."""
    H, W = zbuf.shape
    s = f32(0)
    for dy in range(-1, 2):
        for dx in range(-1, 2):
            if (dx + dy) % 2 != 0:
                continue
            fx = x + soft * f32(dx) - f32(0.5)
            fy = y + soft * f32(dy) - f32(0.5)
            i, j = int(np.floor(fy)), int(np.floor(fx))
            if i < 0 or j < 0 or i >= H - 1 or j >= W - 1:
                s += f32(1)
                continue
            ty, tx = fy - f32(i), fx - f32(j)
            a = f32(1) if zbuf[i, j] <= z else f32(0)
            b = f32(1) if zbuf[i, j + 1] <= z else f32(0)
            c = f32(1) if zbuf[i + 1, j] <= z else f32(0)
            d = f32(1) if zbuf[i + 1, j + 1] <= z else f32(0)
            s += (a + (b - a) * tx) * (f32(1) - ty) + (c + (d - c) * tx) * ty
    return s * f32(0.2)


@jit
def fetch6(tex: Any, u: Any, v: Any) -> Any:
    """All six channels of the skin texture at texel (u, v), bilinear."""
    fx = min(max(u, f32(0)), f32(tex.shape[1]) - f32(1.001))
    fy = min(max(v, f32(0)), f32(tex.shape[0]) - f32(1.001))
    i, j = int(fy), int(fx)
    fy -= f32(i)
    fx -= f32(j)
    d = fx * fy
    c = fy - d
    b = fx - d
    a = f32(1) - fx - fy + d
    p, q, r, s = tex[i, j], tex[i, j + 1], tex[i + 1, j], tex[i + 1, j + 1]
    return (
        a * p[0] + b * q[0] + c * r[0] + d * s[0],
        a * p[1] + b * q[1] + c * r[1] + d * s[1],
        a * p[2] + b * q[2] + c * r[2] + d * s[2],
        a * p[3] + b * q[3] + c * r[3] + d * s[3],
        a * p[4] + b * q[4] + c * r[4] + d * s[4],
        a * p[5] + b * q[5] + c * r[5] + d * s[5],
    )


@jit
def clamp01(x: Any) -> Any:
    return min(f32(1), max(f32(0), x))


@jit
def eye_colour(dx: Any, dy: Any, dz: Any, gaze: Any, iris: Any, colours: Any) -> Any:
    """Linear RGB of an eyeball at unit direction (dx, dy, dz) from its centre, looking along `gaze`."""
    one = f32(1)
    along = dx * gaze[0] + dy * gaze[1] + dz * gaze[2]
    ex, ey, ez = dx - along * gaze[0], dy - along * gaze[1], dz - along * gaze[2]
    away = np.sqrt(ex * ex + ey * ey + ez * ez)
    if along < 0:
        away = one
    red = clamp01((away - f32(0.6)) * f32(2))
    cr = colours[SCLERA, 0]
    cg = colours[SCLERA, 1] * (one - f32(0.35) * red)
    cb = colours[SCLERA, 2] * (one - f32(0.4) * red)
    if away < iris[6]:
        angle = np.arctan2(ey, ex)
        f = away / iris[6]
        fibre = np.sin(angle * iris[8] + iris[9]) * np.sin(angle * 17 + iris[9] * 3)
        fibre = f32(0.8) + f32(0.25) * fibre
        inner = clamp01((f32(0.75) - f) * f32(2.5))
        limb = f32(0.25) + f32(0.75) * clamp01((one - f) * f32(5))
        pupil = clamp01((f - iris[7]) * f32(9))
        edge = clamp01((one - f) * f32(9))
        cr += ((iris[0] + (iris[3] - iris[0]) * inner) * fibre * limb * pupil - cr) * edge
        cg += ((iris[1] + (iris[4] - iris[1]) * inner) * fibre * limb * pupil - cg) * edge
        cb += ((iris[2] + (iris[5] - iris[2]) * inner) * fibre * limb * pupil - cb) * edge
    return cr, cg, cb


@jit
def hair_colour(tone: Any, layer: Any, colours: Any) -> Any:
    """Linear RGB of a strand: darker inside, lighter towards the tips."""
    f = (f32(0.45) + f32(0.55) * layer) * (f32(0.55) + f32(0.8) * tone)
    mix = layer * tone * f32(0.6)
    cr, cg, cb = colours[HAIR, 0] * f, colours[HAIR, 1] * f, colours[HAIR, 2] * f
    cr += (colours[TIP, 0] * f - cr) * mix
    cg += (colours[TIP, 1] * f - cg) * mix
    cb += (colours[TIP, 2] * f - cb) * mix
    return cr, cg, cb


@jit
def tooth_shade(x: Any) -> Any:
    """Dark gaps between teeth, and dark corners of the mouth."""
    gap = f32(0.5) + f32(0.5) * np.cos(x * f32(86))
    f = f32(0.72) + f32(0.28) * np.sqrt(gap)
    return f * max(f32(0.25), f32(1) - f32(9) * x * x)
