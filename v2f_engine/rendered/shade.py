"""Numba kernel: deferred shading in head space.

Skin scatters light: its diffuse term wraps round the terminator, more in red than in blue. Everything else is
wrapped diffuse plus a Blinn lobe; the ambient dome is occluded per vertex, the key light by the depth map.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from v2f_engine.rendered.palette import CLOTH as CLOTH_ROW
from v2f_engine.rendered.palette import FRAME as FRAME_ROW
from v2f_engine.rendered.palette import HAT as HAT_ROW
from v2f_engine.rendered.palette import LASH as LASH_ROW
from v2f_engine.rendered.palette import LENS as LENS_ROW
from v2f_engine.rendered.palette import TEETH
from v2f_engine.rendered.raster import (
    CLOTH,
    EYE_L,
    EYE_R,
    FRAME,
    HAIR,
    HAT,
    LASH,
    LENS,
    SHELL,
    SKIN,
    TEETH_L,
    TEETH_U,
    TONGUE,
    bilinear,
    jit,
)
from v2f_engine.rendered.surfaces import (
    clamp01,
    eye_colour,
    fetch6,
    hair_colour,
    light_space,
    row,
    shadow_at,
    tooth_shade,
)

f32 = np.float32


@jit
def shade(
    tribuf: Any,
    bary: Any,
    iz: Any,
    tris: Any,
    kind: Any,
    pos: Any,
    nrm: Any,
    uv: Any,
    ao: Any,
    layer: Any,
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
    shadow: Any,
    light_m: Any,
    soft: Any,
    gloss: Any,
    world: Any,
    image: Any,
) -> None:
    """Deferred shading in head space, linear RGB; `image` holds the background where no triangle lies."""
    H, W = tribuf.shape
    one = f32(1)
    for y in range(H):
        for x in range(W):
            t = tribuf[y, x]
            if t < 0:
                continue
            a, b, c = tris[t, 0], tris[t, 1], tris[t, 2]
            wb, wc = bary[y, x, 0], bary[y, x, 1]
            pa, pb, pc = (one - wb - wc) * iz[a], wb * iz[b], wc * iz[c]
            s = one / (pa + pb + pc)
            pa *= s
            pb *= s
            pc *= s
            nx = pa * nrm[a, 0] + pb * nrm[b, 0] + pc * nrm[c, 0]
            ny = pa * nrm[a, 1] + pb * nrm[b, 1] + pc * nrm[c, 1]
            nz = pa * nrm[a, 2] + pb * nrm[b, 2] + pc * nrm[c, 2]
            X = pa * pos[a, 0] + pb * pos[b, 0] + pc * pos[c, 0]
            Y = pa * pos[a, 1] + pb * pos[b, 1] + pc * pos[c, 1]
            Z = pa * pos[a, 2] + pb * pos[b, 2] + pc * pos[c, 2]
            u = pa * uv[a, 0] + pb * uv[b, 0] + pc * uv[c, 0]
            v = pa * uv[a, 1] + pb * uv[b, 1] + pc * uv[c, 1]
            occ = pa * ao[a] + pb * ao[b] + pc * ao[c]
            k = kind[t]
            if k == SHELL:
                k = HAIR
            g = f32(0.3)
            wrap = f32(0.2)
            expo = f32(18)
            sss = f32(0)
            vx, vy, vz = eye_pos[0] - X, eye_pos[1] - Y, eye_pos[2] - Z
            r = one / np.sqrt(vx * vx + vy * vy + vz * vz)
            vx *= r
            vy *= r
            vz *= r
            if k == SKIN:
                cr, cg, cb, g, gu, gv = fetch6(skin, u, v)
                g *= gloss
                h = np.sqrt(X * X + (Z - f32(0.55)) * (Z - f32(0.55))) + f32(1e-6)
                nx -= gu * (Z - f32(0.55)) / h
                nz += gu * X / h
                ny -= gv
                sss = one
                wrap = f32(0.22)
                expo = f32(14)
                if world > 1:
                    g *= f32(0.55)
                    expo = f32(24)
                ly = layer[a] * pa + layer[b] * pb + layer[c] * pc
                if v > f32(276) + f32(5) * np.sin(u * f32(0.02)):
                    cr, cg, cb = row(colours, CLOTH_ROW, one)
                    g = f32(0.05)
                    sss = f32(0)
                if ly > 0:  # inside of the mouth
                    cr += (f32(0.30) - cr) * ly
                    cg += (f32(0.07) - cg) * ly
                    cb += (f32(0.06) - cb) * ly
                    occ *= one - f32(0.6) * ly
            elif k in (EYE_L, EYE_R):
                e = k - 1
                dx, dy, dz = X - eyes[e, 0], Y - eyes[e, 1], Z - eyes[e, 2]
                q = one / np.sqrt(dx * dx + dy * dy + dz * dz)
                dx *= q
                dy *= q
                dz *= q
                nx, ny, nz = dx, dy, dz
                cr, cg, cb = eye_colour(dx, dy, dz, gaze[e], iris, colours)
                g = f32(2.2)
                expo = f32(160)
                if world > 1:
                    g = f32(1.0)
                    expo = f32(420)
                occ = f32(0.35) + f32(0.5) * occ
                # upper lid and lashes shade the top of the eyeball
                occ *= one - f32(0.62) * clamp01(dy * f32(2.4) + f32(0.12))
            elif k == HAIR:
                n = bilinear(hair, u, v, 1)
                m = bilinear(hair, u, v, 2)
                ly = pa * layer[a] + pb * layer[b] + pc * layer[c]
                cr, cg, cb = hair_colour(m, ly, colours)
                ny += (m - f32(0.5)) * f32(0.9)
                nx += (n - f32(0.5)) * f32(0.5)
                g = f32(0.45) * m
                expo = f32(10)
                wrap = f32(0.35)
                occ = max(occ, f32(0.75))
            elif k in (TEETH_U, TEETH_L):
                cr, cg, cb = row(colours, TEETH, one)
                f = tooth_shade(X)
                cr *= f
                cg *= f
                cb *= f
                occ = f32(0.55)
                if world > 1:
                    occ = f32(1.7)
                g = f32(0.8)
                expo = f32(40)
            elif k == TONGUE:
                cr, cg, cb = f32(0.38), f32(0.12), f32(0.11)
                occ = f32(0.35)
            elif k == LASH:
                cr, cg, cb = row(colours, LASH_ROW, one)
                occ = f32(0.6)
                g = f32(0)
            elif k == HAT:
                ly = pa * layer[a] + pb * layer[b] + pc * layer[c]
                f = f32(0.86) + f32(0.14) * np.cos(u * f32(2.2))
                if ly < f32(0.16):
                    f *= f32(0.8)
                cr, cg, cb = row(colours, HAT_ROW, f)
                g = f32(0.04)
                occ = f32(0.9)
            elif k == CLOTH:
                cr, cg, cb = row(colours, CLOTH_ROW, one)
                f = f32(0.85) + f32(0.15) * np.cos(u * f32(1.9)) * np.cos(v * f32(1.3))
                cr *= f
                cg *= f
                cb *= f
                g = f32(0.05)
            else:
                cr, cg, cb = row(colours, FRAME_ROW, one)
                g = f32(1.0)
                expo = f32(50)
                if k == LENS:
                    cr, cg, cb = row(colours, LENS_ROW, one)
                    g = f32(0.6)
            r = one / (np.sqrt(nx * nx + ny * ny + nz * nz) + f32(1e-9))
            nx *= r
            ny *= r
            nz *= r
            if k in (HAIR, FRAME, LENS) and nx * vx + ny * vy + nz * vz < 0:
                nx, ny, nz = -nx, -ny, -nz
            ndl = nx * light[0] + ny * light[1] + nz * light[2]
            # shadow: offset along the normal against self-shadowing
            o = f32(0.035)
            if k == HAIR:
                o = f32(0.10)
            if k in (EYE_L, EYE_R):
                o = f32(0.09)
            sx, sy, sz = light_space(light_m, X + nx * o, Y + ny * o, Z + nz * o)
            lit = one
            if ndl > -wrap - f32(0.3):
                lit = f32(0.12) + f32(0.88) * shadow_at(shadow, sx, sy, sz + f32(0.03), soft)
            w0 = wrap + f32(0.20) * sss
            d0 = max(f32(0), (ndl + w0) / (one + w0))
            d1 = max(f32(0), (ndl + wrap) / (one + wrap))
            w2 = wrap - f32(0.06) * sss
            d2 = max(f32(0), (ndl + w2) / (one + w2))
            d0 = d0 * (f32(0.78) + f32(0.22) * d0)
            d1 = d1 * (f32(0.65) + f32(0.35) * d1)
            d2 = d2 * (f32(0.58) + f32(0.42) * d2)
            l0 = lit + f32(0.25) * sss * lit * (one - lit)
            l2 = lit - f32(0.08) * sss * lit * (one - lit)
            up = f32(0.5) + f32(0.5) * ny
            o0 = occ + f32(0.32) * sss * occ * (one - occ)
            a0 = (ground[0] + (sky[0] - ground[0]) * up) * o0
            a1 = (ground[1] + (sky[1] - ground[1]) * up) * occ
            a2 = (ground[2] + (sky[2] - ground[2]) * up) * occ
            rl = max(f32(0), nx * rim[3] + ny * rim[4] + nz * rim[5]) * occ
            hx, hy, hz = light[0] + vx, light[1] + vy, light[2] + vz
            r = one / (np.sqrt(hx * hx + hy * hy + hz * hz) + f32(1e-9))
            if world > 1 and k in (
                EYE_L,
                EYE_R,
            ):  # a catch light in sight, from the key's side or a lamp above
                hx, hy, hz = hx * f32(0.4) + vx, hy * f32(0.4) + vy + f32(0.30), hz * f32(0.4) + vz
                r = one / (np.sqrt(hx * hx + hy * hy + hz * hz) + f32(1e-9))
            ndh = max(f32(0), (nx * hx + ny * hy + nz * hz) * r)
            ndv = max(f32(0), nx * vx + ny * vy + nz * vz)
            q = (one - ndv) * (one - ndv)
            fr = f32(0.04) + f32(0.5) * q * q * (one - ndv)
            sp = g * lit * ndh**expo * (expo + f32(2)) * f32(0.12) * max(f32(0.04), f32(0.04) + fr * f32(0.3))
            if world > 1 and k in (EYE_L, EYE_R):
                sp = g * max(lit, f32(0.6)) * ndh**expo * occ * f32(2.0)
            elif ndl <= 0:
                sp = f32(0)
            if k == HAIR:
                sp *= f32(0.6)
                if world > 1:  # two lobes round the strand, which runs down the surface (Kajiya and Kay)
                    tx, ty, tz = ny * nx, ny * ny - one, ny * nz
                    r2 = one / (np.sqrt(tx * tx + ty * ty + tz * tz) + f32(1e-3))
                    th = (tx * hx + ty * hy + tz * hz) * r * r2 + (m - f32(0.5)) * f32(0.55)
                    s2 = max(f32(0), one - th * th)  # squared sine between strand and half vector
                    s4 = s2 * s2
                    s12 = s4 * s4 * s4
                    s48 = s12 * s12 * s12 * s12
                    lobe = lit * clamp01(ndl * f32(2) + f32(0.5)) * m
                    sp = lobe * f32(0.065) * s48 * s12
                    glow = one + lobe * f32(0.9) * s12
                    cr *= glow
                    cg *= glow
                    cb *= glow
            fres = g * fr * occ * f32(0.35)
            if world > 1 and k == SKIN:
                fres *= f32(0.5)
            image[y, x, 0] = cr * (key[0] * d0 * l0 + a0 + rim[0] * rl) + key[0] * sp + sky[0] * fres
            image[y, x, 1] = cg * (key[1] * d1 * lit + a1 + rim[1] * rl) + key[1] * sp + sky[1] * fres
            image[y, x, 2] = cb * (key[2] * d2 * l2 + a2 + rim[2] * rl) + key[2] * sp + sky[2] * fres
