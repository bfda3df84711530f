"""Numba kernels: deferred shading in head space.

Skin scatters light: its diffuse term wraps round the terminator, more in red than in blue. Everything else is
wrapped diffuse plus a Blinn lobe; the ambient dome is occluded per vertex, the key light by the depth map.

The covered pixels are done `BLOCK` at a time, step by step over planes that stay in the cache: what is alike for
every surface (`_directions`, `_light`, the shadow) becomes vector code, what differs (`surfaces.material`) does not.
4.7 ms an image when one loop did all of a pixel, 2.35 so, the same bits. Colours are float64 as the iris is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from v2f_engine.rendered.lanes import mix_vertices
from v2f_engine.rendered.planes import (
    B_PLANE,
    BLOCK,
    COLOUR_PLANES,
    EXPONENT,
    EYE,
    FACING,
    FRESNEL,
    G_PLANE,
    GLOSS,
    HAIRS,
    KEY,
    LIT,
    MIXED,
    NX,
    NY,
    NZ,
    OCCLUSION,
    OFFSET,
    PLANES,
    POWER,
    R_PLANE,
    SCATTER,
    SHEEN,
    SKINS,
    STRIDE,
    SX,
    SY,
    SZ,
    TAPS,
    TONE,
    TURNS,
    WHAT,
    WRAP,
    X,
    Y,
    Z,
)
from v2f_engine.rendered.raster import PLANE, jit
from v2f_engine.rendered.shadow import shadow
from v2f_engine.rendered.surfaces import clamp01, light_space, material

f32, i32, u32, u64 = np.float32, np.int32, np.uint32, np.uint64
_1, _2 = u64(1), u64(2)


@jit
def covered(canvas: Any, size: Any) -> Any:
    """Numbers int32 of the pixels on which a triangle lies, of a canvas of `size` pixels."""
    found = np.empty(size + 1, i32)
    n = 0
    for p in range(size):
        found[u64(n)] = i32(p)
        n += int(canvas[u64(PLANE) + u64(p)] >= f32(0))
    return found[:n]


@jit
def _interpolate(n: Any, part: Any, canvas: Any, iz: Any, tris: Any, vertices: Any, mixed: Any) -> None:
    """Attributes of every pixel, right in perspective."""
    one = f32(1)
    for i in range(n):
        at = u64(part[u64(i)])
        t = u32(canvas[u64(PLANE) + at])
        a, b, c = u64(tris[t, u64(0)]), u64(tris[t, _1]), u64(tris[t, _2])
        wb, wc = canvas[u64(2 * PLANE) + at], canvas[u64(3 * PLANE) + at]
        pa, pb, pc = (one - wb - wc) * iz[a], wb * iz[b], wc * iz[c]
        s = one / (pa + pb + pc)
        row = u64(MIXED)
        mix_vertices(mixed, u64(i) * row, vertices, a * row, b * row, c * row, pa * s, pb * s, pc * s)


@jit
def _directions(n: Any, S: Any, eye: Any, light: Any, light_m: Any, world: Any) -> None:
    """Unit normal towards the camera, cosines, mirror terms, and the place in the depth map."""
    one, late = f32(1), world > 1
    e0, e1, e2 = eye[0], eye[1], eye[2]
    l0, l1, l2 = light[0], light[1], light[2]
    for q in range(n):
        p = u64(q)
        x, y, z = S[X + p], S[Y + p], S[Z + p]
        vx, vy, vz = e0 - x, e1 - y, e2 - z
        r = one / np.sqrt(vx * vx + vy * vy + vz * vz)
        vx *= r
        vy *= r
        vz *= r
        nx, ny, nz = S[NX + p], S[NY + p], S[NZ + p]
        r = one / (np.sqrt(nx * nx + ny * ny + nz * nz) + f32(1e-9))
        nx *= r
        ny *= r
        nz *= r
        back = (S[TURNS + p] > f32(0)) & (nx * vx + ny * vy + nz * vz < f32(0))
        nx = -nx if back else nx
        ny = -ny if back else ny
        nz = -nz if back else nz
        S[NX + p], S[NY + p], S[NZ + p] = nx, ny, nz
        S[FACING + p] = nx * l0 + ny * l1 + nz * l2
        # shadow: offset along the normal against self-shadowing
        o = S[OFFSET + p]
        sx, sy, sz = light_space(light_m, x + nx * o, y + ny * o, z + nz * o)
        S[SX + p], S[SY + p], S[SZ + p] = sx, sy, sz + f32(0.03)
        hx, hy, hz = l0 + vx, l1 + vy, l2 + vz
        if late:  # a catch light in sight, from the key's side or a lamp above
            eyes = S[WHAT + p] == EYE
            hx = hx * f32(0.4) + vx if eyes else hx
            hy = hy * f32(0.4) + vy + f32(0.30) if eyes else hy
            hz = hz * f32(0.4) + vz if eyes else hz
        r = one / (np.sqrt(hx * hx + hy * hy + hz * hz) + f32(1e-9))
        S[KEY + p] = max(f32(0), (nx * hx + ny * hy + nz * hz) * r)
        if late:  # two lobes round the strand, which runs down the surface (Kajiya and Kay)
            tx, ty, tz = ny * nx, ny * ny - one, ny * nz
            r2 = one / (np.sqrt(tx * tx + ty * ty + tz * tz) + f32(1e-3))
            th = (tx * hx + ty * hy + tz * hz) * r * r2 + (S[TONE + p] - f32(0.5)) * f32(0.55)
            s2 = max(f32(0), one - th * th)  # squared sine between strand and half vector
            s4 = s2 * s2
            S[SHEEN + p] = s4 * s4 * s4
        ndv = max(f32(0), nx * vx + ny * vy + nz * vz)
        w = (one - ndv) * (one - ndv)
        S[FRESNEL + p] = f32(0.04) + f32(0.5) * w * w * (one - ndv)


@jit
def _powers(n: Any, S: Any, world: Any) -> None:
    """The mirror term of every pixel, where it is used: the one step that calls the C library."""
    for q in range(n):
        p = u64(q)
        if S[FACING + p] > f32(0) or (world > 1 and S[WHAT + p] == EYE):
            S[POWER + p] = S[KEY + p] ** S[EXPONENT + p]
        else:
            S[POWER + p] = f32(0)


@jit
def _light(n: Any, S: Any, C: Any, key: Any, sky: Any, ground: Any, rim: Any, world: Any) -> None:
    """Linear RGB of every pixel, into the planes that held the place in the depth map."""
    one, late = f32(1), world > 1
    k0, k1, k2 = key[0], key[1], key[2]
    s0, s1, s2 = sky[0], sky[1], sky[2]
    g0, g1, g2 = ground[0], ground[1], ground[2]
    r0, r1, r2, r3, r4, r5 = rim[0], rim[1], rim[2], rim[3], rim[4], rim[5]
    for q in range(n):
        p = u64(q)
        what, ndl, wrap, sss = S[WHAT + p], S[FACING + p], S[WRAP + p], S[SCATTER + p]
        lit, occ, g, expo, fr = S[LIT + p], S[OCCLUSION + p], S[GLOSS + p], S[EXPONENT + p], S[FRESNEL + p]
        nx, ny, nz = S[NX + p], S[NY + p], S[NZ + p]
        w0 = wrap + f32(0.20) * sss
        d0 = max(f32(0), (ndl + w0) / (one + w0))
        d1 = max(f32(0), (ndl + wrap) / (one + wrap))
        w2 = wrap - f32(0.06) * sss
        d2 = max(f32(0), (ndl + w2) / (one + w2))
        d0 = d0 * (f32(0.78) + f32(0.22) * d0)
        d1 = d1 * (f32(0.65) + f32(0.35) * d1)
        d2 = d2 * (f32(0.58) + f32(0.42) * d2)
        b0 = lit + f32(0.25) * sss * lit * (one - lit)
        b2 = lit - f32(0.08) * sss * lit * (one - lit)
        up = f32(0.5) + f32(0.5) * ny
        o0 = occ + f32(0.32) * sss * occ * (one - occ)
        a0 = (g0 + (s0 - g0) * up) * o0
        a1 = (g1 + (s1 - g1) * up) * occ
        a2 = (g2 + (s2 - g2) * up) * occ
        rl = max(f32(0), nx * r3 + ny * r4 + nz * r5) * occ
        power = S[POWER + p]
        sp = g * lit * power * (expo + f32(2)) * f32(0.12) * max(f32(0.04), f32(0.04) + fr * f32(0.3))
        sp = f32(0) if ndl <= f32(0) else sp
        hairs = what == HAIRS
        sp = sp * f32(0.6) if hairs else sp
        cr, cg, cb = C[R_PLANE + p], C[G_PLANE + p], C[B_PLANE + p]
        fres = g * fr * occ * f32(0.35)
        if late:
            sp = g * max(lit, f32(0.6)) * power * occ * f32(2.0) if what == EYE else sp
            s12 = S[SHEEN + p]
            lobe = lit * clamp01(ndl * f32(2) + f32(0.5)) * S[TONE + p]
            s48 = s12 * s12 * s12 * s12
            sp = lobe * f32(0.065) * s48 * s12 if hairs else sp
            glow = one + lobe * f32(0.9) * s12 if hairs else one
            cr *= glow
            cg *= glow
            cb *= glow
            fres = fres * f32(0.5) if what == SKINS else fres
        S[SX + p] = f32(cr * (k0 * d0 * b0 + a0 + r0 * rl) + k0 * sp + s0 * fres)
        S[SY + p] = f32(cg * (k1 * d1 * lit + a1 + r1 * rl) + k1 * sp + s1 * fres)
        S[SZ + p] = f32(cb * (k2 * d2 * b2 + a2 + r2 * rl) + k2 * sp + s2 * fres)


@jit
def shade(
    pixels: Any,
    canvas: Any,
    iz: Any,
    tris: Any,
    kind: Any,
    vertices: Any,
    skin: Any,
    hair: Any,
    colours: Any,
    eyes: Any,
    gaze: Any,
    iris: Any,
    light: Any,
    key: Any,
    sky: Any,
    ground: Any,
    rim: Any,
    eye_pos: Any,
    depth: Any,
    light_m: Any,
    soft: Any,
    gloss: Any,
    world: Any,
    image: Any,
) -> None:
    """Deferred shading of `pixels`, from `covered`, in linear RGB; `image` keeps its background elsewhere."""
    table, flat, map_ = vertices.reshape(-1), image.reshape(-1), depth.reshape(-1)
    mixed, S = np.empty(MIXED * STRIDE, f32), np.empty(PLANES * STRIDE, f32)
    C, R, at = (
        np.empty(COLOUR_PLANES * STRIDE, np.float64),
        np.empty(TAPS * STRIDE, f32),
        np.empty(STRIDE, i32),
    )
    S[:] = f32(0)
    for start in range(0, len(pixels), BLOCK):
        n = min(BLOCK, len(pixels) - start)
        part = pixels[start : start + n]
        _interpolate(n, part, canvas, iz, tris, table, mixed)
        material(n, part, canvas, kind, skin, hair, colours, eyes, gaze, iris, gloss, world, mixed, S, C)
        _directions(n, S, eye_pos, light, light_m, world)
        shadow(n, S, R, at, map_, depth.shape[0], depth.shape[1], soft)
        _powers(n, S, world)
        _light(n, S, C, key, sky, ground, rim, world)
        for q in range(n):
            p = u64(q)
            here = u64(part[p]) * u64(3)
            flat[here], flat[here + _1], flat[here + _2] = S[SX + p], S[SY + p], S[SZ + p]
