"""Numba kernel `material` and its device functions: what a surface is made of at one point.

All float32, but for the iris pattern and with it every colour, which are float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from v2f_engine.rendered.lanes import CHANNELS, mix_texels
from v2f_engine.rendered.palette import CLOTH as CLOTH_ROW
from v2f_engine.rendered.palette import FRAME as FRAME_ROW
from v2f_engine.rendered.palette import HAIR as HAIR_ROW
from v2f_engine.rendered.palette import HAT as HAT_ROW
from v2f_engine.rendered.palette import LASH as LASH_ROW
from v2f_engine.rendered.palette import LENS as LENS_ROW
from v2f_engine.rendered.palette import SCLERA, TEETH, TIP
from v2f_engine.rendered.planes import (
    B_PLANE,
    EXPONENT,
    EYE,
    G_PLANE,
    GLOSS,
    HAIRS,
    MIXED,
    NX,
    NY,
    NZ,
    OCCLUSION,
    OFFSET,
    OTHER,
    R_PLANE,
    SCATTER,
    SKINS,
    TONE,
    TURNS,
    WHAT,
    WRAP,
    X,
    Y,
    Z,
)
from v2f_engine.rendered.raster import (
    AO,
    CLOTH,
    EYE_L,
    EYE_R,
    HAIR,
    HAT,
    LASH,
    LAYER,
    LENS,
    NORMAL,
    PLANE,
    POSITION,
    SHELL,
    SKIN,
    TEETH_L,
    TEETH_U,
    TONGUE,
    UV,
    bilinear,
    jit,
)

f32, u32, u64 = np.float32, np.uint32, np.uint64


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
    cr, cg, cb = colours[HAIR_ROW, 0] * f, colours[HAIR_ROW, 1] * f, colours[HAIR_ROW, 2] * f
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


@jit
def _skin_texel(skin: Any, texels: Any, u: Any, v: Any) -> Any:
    """All six channels of the skin texture at texel (u, v), bilinear."""
    fx = min(max(u, f32(0)), f32(skin.shape[1]) - f32(1.001))
    fy = min(max(v, f32(0)), f32(skin.shape[0]) - f32(1.001))
    i, j = u32(fy), u32(fx)
    fy -= f32(i)
    fx -= f32(j)
    d = fx * fy
    wide = u64(skin.shape[1])
    upper = (u64(i) * wide + u64(j)) * u64(CHANNELS)
    return mix_texels(texels, upper, upper + wide * u64(CHANNELS), f32(1) - fx - fy + d, fx - d, fy - d, d)


@jit
def material(
    n: Any,
    part: Any,
    canvas: Any,
    kind: Any,
    skin: Any,
    hair: Any,
    colours: Any,
    eyes: Any,
    gaze: Any,
    iris: Any,
    gloss: Any,
    world: Any,
    mixed: Any,
    S: Any,
    C: Any,
) -> None:
    """Colour, normal and shine of `n` pixels from their interpolated attributes `mixed`, into planes of S and C."""
    one = f32(1)
    texels = skin.reshape(-1)
    for q in range(n):
        p = u64(q)
        o = p * u64(MIXED)
        nx, ny, nz = mixed[o + u64(NORMAL)], mixed[o + u64(NORMAL + 1)], mixed[o + u64(NORMAL + 2)]
        x, y, z = mixed[o + u64(POSITION)], mixed[o + u64(POSITION + 1)], mixed[o + u64(POSITION + 2)]
        u, v, occ, ly = mixed[o + u64(UV)], mixed[o + u64(UV + 1)], mixed[o + u64(AO)], mixed[o + u64(LAYER)]
        k = kind[u32(canvas[u64(PLANE) + u64(part[p])])]
        g, wrap, expo, sss = f32(0.3), f32(0.2), f32(18), f32(0)
        off, turns, what, m = f32(0.035), f32(0), OTHER, f32(0)
        if k == SKIN:
            cr, cg, cb, g, gu, gv = _skin_texel(skin, texels, u, v)
            g *= gloss
            h = np.sqrt(x * x + (z - f32(0.55)) * (z - f32(0.55))) + f32(1e-6)
            nx -= gu * (z - f32(0.55)) / h
            nz += gu * x / h
            ny -= gv
            what, sss, wrap, expo = SKINS, one, f32(0.22), f32(14)
            if world > 1:
                g *= f32(0.55)
                expo = f32(24)
            # the collar's edge, a sine within five texels of row 276
            if v > f32(281) or (v >= f32(271) and v > f32(276) + f32(5) * np.sin(u * f32(0.02))):
                cr, cg, cb = row(colours, CLOTH_ROW, one)
                g = f32(0.05)
                sss = f32(0)
            if ly > 0:  # inside of the mouth
                cr += (f32(0.30) - cr) * ly
                cg += (f32(0.07) - cg) * ly
                cb += (f32(0.06) - cb) * ly
                occ *= one - f32(0.6) * ly
        elif k in (HAIR, SHELL):
            a = bilinear(hair, u, v, 1)
            m = bilinear(hair, u, v, 2)
            cr, cg, cb = hair_colour(m, ly, colours)
            ny += (m - f32(0.5)) * f32(0.9)
            nx += (a - f32(0.5)) * f32(0.5)
            g = f32(0.45) * m
            expo, wrap, what, off, turns = f32(10), f32(0.35), HAIRS, f32(0.10), one
            occ = max(occ, f32(0.75))
        elif k in (EYE_L, EYE_R):
            e = k - 1
            dx, dy, dz = x - eyes[e, 0], y - eyes[e, 1], z - eyes[e, 2]
            r = one / np.sqrt(dx * dx + dy * dy + dz * dz)
            dx *= r
            dy *= r
            dz *= r
            nx, ny, nz = dx, dy, dz
            cr, cg, cb = eye_colour(dx, dy, dz, gaze[e], iris, colours)
            g, expo, what, off = f32(2.2), f32(160), EYE, f32(0.09)
            if world > 1:
                g, expo = f32(1.0), f32(420)
            occ = f32(0.35) + f32(0.5) * occ
            # upper lid and lashes shade the top of the eyeball
            occ *= one - f32(0.62) * clamp01(dy * f32(2.4) + f32(0.12))
        elif k in (TEETH_U, TEETH_L):
            cr, cg, cb = row(colours, TEETH, one)
            f = tooth_shade(x)
            cr *= f
            cg *= f
            cb *= f
            occ = f32(0.55) if world == 1 else f32(1.7)
            g, expo = f32(0.8), f32(40)
        elif k == TONGUE:
            cr, cg, cb = f32(0.38), f32(0.12), f32(0.11)
            occ = f32(0.35)
        elif k == LASH:
            cr, cg, cb = row(colours, LASH_ROW, one)
            occ, g = f32(0.6), f32(0)
        elif k == HAT:
            f = f32(0.86) + f32(0.14) * np.cos(u * f32(2.2))
            if ly < f32(0.16):
                f *= f32(0.8)
            cr, cg, cb = row(colours, HAT_ROW, f)
            g, occ = f32(0.04), f32(0.9)
        elif k == CLOTH:
            cr, cg, cb = row(colours, CLOTH_ROW, one)
            f = f32(0.85) + f32(0.15) * np.cos(u * f32(1.9)) * np.cos(v * f32(1.3))
            cr *= f
            cg *= f
            cb *= f
            g = f32(0.05)
        else:
            cr, cg, cb = row(colours, FRAME_ROW, one)
            g, expo, turns = f32(1.0), f32(50), one
            if k == LENS:
                cr, cg, cb = row(colours, LENS_ROW, one)
                g = f32(0.6)
        S[NX + p], S[NY + p], S[NZ + p] = nx, ny, nz
        S[X + p], S[Y + p], S[Z + p] = x, y, z
        S[OCCLUSION + p], S[GLOSS + p], S[WRAP + p], S[EXPONENT + p] = occ, g, wrap, expo
        S[SCATTER + p], S[OFFSET + p], S[TURNS + p], S[WHAT + p], S[TONE + p] = sss, off, turns, what, m
        C[R_PLANE + p], C[G_PLANE + p], C[B_PLANE + p] = cr, cg, cb
