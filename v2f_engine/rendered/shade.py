"""Numba kernels: deferred shading in head space, exposure and encoding, sensor noise."""

from __future__ import annotations

from typing import Any

import numpy as np

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
    hash01,
    jit,
)


@jit
def _shadow(zbuf: Any, x: Any, y: Any, z: Any, soft: Any) -> Any:
    """Bilinear percentage-closer lookups on a five-point pattern `soft` pixels apart: 1 lit, 0 dark."""
    H, W = zbuf.shape
    s = np.float32(0)
    for dy in range(-1, 2):
        for dx in range(-1, 2):
            if (dx + dy) % 2 != 0:
                continue
            fx = x + soft * np.float32(dx) - np.float32(0.5)
            fy = y + soft * np.float32(dy) - np.float32(0.5)
            i, j = int(np.floor(fy)), int(np.floor(fx))
            if i < 0 or j < 0 or i >= H - 1 or j >= W - 1:
                s += np.float32(1)
                continue
            ty, tx = fy - np.float32(i), fx - np.float32(j)
            a = np.float32(1) if zbuf[i, j] <= z else np.float32(0)
            b = np.float32(1) if zbuf[i, j + 1] <= z else np.float32(0)
            c = np.float32(1) if zbuf[i + 1, j] <= z else np.float32(0)
            d = np.float32(1) if zbuf[i + 1, j + 1] <= z else np.float32(0)
            s += (a + (b - a) * tx) * (np.float32(1) - ty) + (c + (d - c) * tx) * ty
    return s * np.float32(0.2)


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
    image: Any,
) -> None:
    """Deferred shading in head space, linear RGB; `image` holds the background where no triangle lies."""
    H, W = tribuf.shape
    one = np.float32(1)
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
            g = np.float32(0.3)
            wrap = np.float32(0.2)
            expo = np.float32(18)
            sss = np.float32(0)
            vx, vy, vz = eye_pos[0] - X, eye_pos[1] - Y, eye_pos[2] - Z
            r = one / np.sqrt(vx * vx + vy * vy + vz * vz)
            vx *= r
            vy *= r
            vz *= r
            if k == SKIN:
                fx = min(max(u, np.float32(0)), np.float32(skin.shape[1]) - np.float32(1.001))
                fy = min(max(v, np.float32(0)), np.float32(skin.shape[0]) - np.float32(1.001))
                i, j = int(fy), int(fx)
                fy -= np.float32(i)
                fx -= np.float32(j)
                q11 = fx * fy
                q10 = fy - q11
                q01 = fx - q11
                q00 = one - fx - fy + q11
                cr = (
                    q00 * skin[i, j, 0]
                    + q01 * skin[i, j + 1, 0]
                    + q10 * skin[i + 1, j, 0]
                    + q11 * skin[i + 1, j + 1, 0]
                )
                cg = (
                    q00 * skin[i, j, 1]
                    + q01 * skin[i, j + 1, 1]
                    + q10 * skin[i + 1, j, 1]
                    + q11 * skin[i + 1, j + 1, 1]
                )
                cb = (
                    q00 * skin[i, j, 2]
                    + q01 * skin[i, j + 1, 2]
                    + q10 * skin[i + 1, j, 2]
                    + q11 * skin[i + 1, j + 1, 2]
                )
                g = (
                    q00 * skin[i, j, 3]
                    + q01 * skin[i, j + 1, 3]
                    + q10 * skin[i + 1, j, 3]
                    + q11 * skin[i + 1, j + 1, 3]
                )
                gu = (
                    q00 * skin[i, j, 4]
                    + q01 * skin[i, j + 1, 4]
                    + q10 * skin[i + 1, j, 4]
                    + q11 * skin[i + 1, j + 1, 4]
                )
                gv = (
                    q00 * skin[i, j, 5]
                    + q01 * skin[i, j + 1, 5]
                    + q10 * skin[i + 1, j, 5]
                    + q11 * skin[i + 1, j + 1, 5]
                )
                g *= gloss
                h = np.sqrt(X * X + (Z - np.float32(0.55)) * (Z - np.float32(0.55))) + np.float32(1e-6)
                nx -= gu * (Z - np.float32(0.55)) / h
                nz += gu * X / h
                ny -= gv
                sss = one
                wrap = np.float32(0.22)
                expo = np.float32(14)
                ly = layer[a] * pa + layer[b] * pb + layer[c] * pc
                if v > np.float32(276) + np.float32(5) * np.sin(u * np.float32(0.02)):
                    cr, cg, cb = colours[2, 0], colours[2, 1], colours[2, 2]
                    g = np.float32(0.05)
                    sss = np.float32(0)
                if ly > 0:  # inside of the mouth
                    cr += (np.float32(0.30) - cr) * ly
                    cg += (np.float32(0.07) - cg) * ly
                    cb += (np.float32(0.06) - cb) * ly
                    occ *= one - np.float32(0.6) * ly
            elif k == EYE_L or k == EYE_R:
                e = k - 1
                dx, dy, dz = X - eyes[e, 0], Y - eyes[e, 1], Z - eyes[e, 2]
                q = one / np.sqrt(dx * dx + dy * dy + dz * dz)
                dx *= q
                dy *= q
                dz *= q
                nx, ny, nz = dx, dy, dz
                gx, gy, gz = gaze[e, 0], gaze[e, 1], gaze[e, 2]
                co = dx * gx + dy * gy + dz * gz
                ex, ey, ez = dx - co * gx, dy - co * gy, dz - co * gz
                rad = np.sqrt(ex * ex + ey * ey + ez * ez)
                if co < 0:
                    rad = one
                cr, cg, cb = colours[3, 0], colours[3, 1], colours[3, 2]
                red = min(one, max(np.float32(0), (rad - np.float32(0.6)) * np.float32(2)))
                cg *= one - np.float32(0.35) * red
                cb *= one - np.float32(0.4) * red
                R = iris[6]
                if rad < R:
                    ang = np.arctan2(ey, ex)
                    f = rad / R
                    st = np.float32(0.8) + np.float32(0.25) * np.sin(ang * iris[8] + iris[9]) * np.sin(
                        ang * 17 + iris[9] * 3
                    )
                    inner = min(one, max(np.float32(0), (np.float32(0.75) - f) * np.float32(2.5)))
                    ir = (iris[0] + (iris[3] - iris[0]) * inner) * st
                    ig = (iris[1] + (iris[4] - iris[1]) * inner) * st
                    ib = (iris[2] + (iris[5] - iris[2]) * inner) * st
                    limb = min(one, max(np.float32(0), (one - f) * np.float32(5)))
                    ir *= np.float32(0.25) + np.float32(0.75) * limb
                    ig *= np.float32(0.25) + np.float32(0.75) * limb
                    ib *= np.float32(0.25) + np.float32(0.75) * limb
                    pu = min(one, max(np.float32(0), (f - iris[7]) * np.float32(9)))
                    edge = min(one, max(np.float32(0), (one - f) * np.float32(9)))
                    cr += (ir * pu - cr) * edge
                    cg += (ig * pu - cg) * edge
                    cb += (ib * pu - cb) * edge
                g = np.float32(2.2)
                expo = np.float32(160)
                occ = np.float32(0.35) + np.float32(0.5) * occ
                # upper lid and lashes shade the top of the eyeball
                occ *= one - np.float32(0.62) * min(
                    one, max(np.float32(0), dy * np.float32(2.4) + np.float32(0.12))
                )
            elif k == HAIR:
                n = bilinear(hair, u, v, 1)
                m = bilinear(hair, u, v, 2)
                ly = pa * layer[a] + pb * layer[b] + pc * layer[c]
                f = (np.float32(0.45) + np.float32(0.55) * ly) * (np.float32(0.55) + np.float32(0.8) * m)
                cr, cg, cb = colours[0, 0] * f, colours[0, 1] * f, colours[0, 2] * f
                tip = colours[1]
                mix = ly * m * np.float32(0.6)
                cr += (tip[0] * f - cr) * mix
                cg += (tip[1] * f - cg) * mix
                cb += (tip[2] * f - cb) * mix
                ny += (m - np.float32(0.5)) * np.float32(0.9)
                nx += (n - np.float32(0.5)) * np.float32(0.5)
                g = np.float32(0.45) * m
                expo = np.float32(10)
                wrap = np.float32(0.35)
                occ = max(occ, np.float32(0.75))
            elif k == TEETH_U or k == TEETH_L:
                cr, cg, cb = colours[4, 0], colours[4, 1], colours[4, 2]
                col = np.float32(0.5) + np.float32(0.5) * np.cos(X * np.float32(86))
                f = np.float32(0.72) + np.float32(0.28) * np.sqrt(col)
                f *= max(np.float32(0.25), one - np.float32(9) * X * X)
                cr *= f
                cg *= f
                cb *= f
                occ = np.float32(0.55)
                g = np.float32(0.8)
                expo = np.float32(40)
            elif k == TONGUE:
                cr, cg, cb = np.float32(0.38), np.float32(0.12), np.float32(0.11)
                occ = np.float32(0.35)
            elif k == LASH:
                cr, cg, cb = colours[5, 0], colours[5, 1], colours[5, 2]
                occ = np.float32(0.6)
                g = np.float32(0)
            elif k == HAT:
                ly = pa * layer[a] + pb * layer[b] + pc * layer[c]
                f = np.float32(0.86) + np.float32(0.14) * np.cos(u * np.float32(2.2))
                if ly < np.float32(0.16):
                    f *= np.float32(0.8)
                cr, cg, cb = colours[8, 0] * f, colours[8, 1] * f, colours[8, 2] * f
                g = np.float32(0.04)
                occ = np.float32(0.9)
            elif k == CLOTH:
                cr, cg, cb = colours[2, 0], colours[2, 1], colours[2, 2]
                f = np.float32(0.85) + np.float32(0.15) * np.cos(u * np.float32(1.9)) * np.cos(
                    v * np.float32(1.3)
                )
                cr *= f
                cg *= f
                cb *= f
                g = np.float32(0.05)
            else:
                cr, cg, cb = colours[6, 0], colours[6, 1], colours[6, 2]
                g = np.float32(1.0)
                expo = np.float32(50)
                if k == LENS:
                    cr, cg, cb = colours[7, 0], colours[7, 1], colours[7, 2]
                    g = np.float32(0.6)
            r = one / (np.sqrt(nx * nx + ny * ny + nz * nz) + np.float32(1e-9))
            nx *= r
            ny *= r
            nz *= r
            if (k == HAIR or k == FRAME or k == LENS) and nx * vx + ny * vy + nz * vz < 0:
                nx, ny, nz = -nx, -ny, -nz
            ndl = nx * light[0] + ny * light[1] + nz * light[2]
            # shadow: offset along the normal against self-shadowing
            o = np.float32(0.035)
            if k == HAIR:
                o = np.float32(0.10)
            if k == EYE_L or k == EYE_R:
                o = np.float32(0.09)
            sx = (
                light_m[0, 0] * (X + nx * o)
                + light_m[0, 1] * (Y + ny * o)
                + light_m[0, 2] * (Z + nz * o)
                + light_m[0, 3]
            )
            sy = (
                light_m[1, 0] * (X + nx * o)
                + light_m[1, 1] * (Y + ny * o)
                + light_m[1, 2] * (Z + nz * o)
                + light_m[1, 3]
            )
            sz = (
                light_m[2, 0] * (X + nx * o)
                + light_m[2, 1] * (Y + ny * o)
                + light_m[2, 2] * (Z + nz * o)
                + light_m[2, 3]
            )
            lit = one
            if ndl > -wrap - np.float32(0.3):
                lit = np.float32(0.12) + np.float32(0.88) * _shadow(
                    shadow, sx, sy, sz + np.float32(0.03), soft
                )
            w0 = wrap + np.float32(0.20) * sss
            d0 = max(np.float32(0), (ndl + w0) / (one + w0))
            d1 = max(np.float32(0), (ndl + wrap) / (one + wrap))
            w2 = wrap - np.float32(0.06) * sss
            d2 = max(np.float32(0), (ndl + w2) / (one + w2))
            d0 = d0 * (np.float32(0.78) + np.float32(0.22) * d0)
            d1 = d1 * (np.float32(0.65) + np.float32(0.35) * d1)
            d2 = d2 * (np.float32(0.58) + np.float32(0.42) * d2)
            l0 = lit + np.float32(0.25) * sss * lit * (one - lit)
            l2 = lit - np.float32(0.08) * sss * lit * (one - lit)
            up = np.float32(0.5) + np.float32(0.5) * ny
            o0 = occ + np.float32(0.32) * sss * occ * (one - occ)
            a0 = (ground[0] + (sky[0] - ground[0]) * up) * o0
            a1 = (ground[1] + (sky[1] - ground[1]) * up) * occ
            a2 = (ground[2] + (sky[2] - ground[2]) * up) * occ
            rl = max(np.float32(0), nx * rim[3] + ny * rim[4] + nz * rim[5]) * occ
            hx, hy, hz = light[0] + vx, light[1] + vy, light[2] + vz
            r = one / (np.sqrt(hx * hx + hy * hy + hz * hz) + np.float32(1e-9))
            ndh = max(np.float32(0), (nx * hx + ny * hy + nz * hz) * r)
            ndv = max(np.float32(0), nx * vx + ny * vy + nz * vz)
            q = (one - ndv) * (one - ndv)
            fr = np.float32(0.04) + np.float32(0.5) * q * q * (one - ndv)
            sp = (
                g
                * lit
                * ndh**expo
                * (expo + np.float32(2))
                * np.float32(0.12)
                * max(np.float32(0.04), np.float32(0.04) + fr * np.float32(0.3))
            )
            if ndl <= 0:
                sp = np.float32(0)
            if k == HAIR:
                sp *= np.float32(0.6)
            fres = g * fr * occ * np.float32(0.35)
            image[y, x, 0] = cr * (key[0] * d0 * l0 + a0 + rim[0] * rl) + key[0] * sp + sky[0] * fres
            image[y, x, 1] = cg * (key[1] * d1 * lit + a1 + rim[1] * rl) + key[1] * sp + sky[1] * fres
            image[y, x, 2] = cb * (key[2] * d2 * l2 + a2 + rim[2] * rl) + key[2] * sp + sky[2] * fres


@jit
def finish(image: Any, tribuf: Any, exposure: Any, contrast: Any, out: Any) -> None:
    """2x2 box down-sampling, exposure, soft shoulder and sRGB encoding to float 0..255."""
    h, w = out.shape[0], out.shape[1]
    for y in range(h):
        for x in range(w):
            for c in range(3):
                s = np.float32(0)
                for i in range(2):
                    for j in range(2):
                        q = image[2 * y + i, 2 * x + j, c]
                        if tribuf[2 * y + i, 2 * x + j] >= 0:
                            q *= exposure
                        if q > np.float32(0.7):
                            q = np.float32(0.7) + np.float32(0.4) * (
                                np.float32(1) - np.exp(-(q - np.float32(0.7)) * np.float32(2.5))
                            )
                        s += q
                s = max(np.float32(0), s * np.float32(0.25))
                s = min(s, np.float32(1.1)) ** np.float32(0.4545)
                s = np.float32(0.5) + (s - np.float32(0.5)) * contrast
                out[y, x, c] = s * np.float32(255)


@jit
def face_level(image: Any, tribuf: Any) -> Any:
    """Mean linear level of the covered pixels in the middle of the picture, for the exposure."""
    s, n = np.float32(0), np.float32(1e-3)
    for y in range(70, 190, 2):
        for x in range(60, 164, 2):
            if tribuf[y, x] >= 0:
                s += image[y, x, 0] + image[y, x, 1] + image[y, x, 2]
                n += np.float32(3)
    return s / n


@jit
def add_noise(image: Any, saturation: Any, sigma: Any, seed: Any, out: Any) -> None:
    """Saturation, sensor noise (sum of four uniforms), rounding and clipping to uint8."""
    h, w = image.shape[0], image.shape[1]
    for y in range(h):
        for x in range(w):
            grey = (image[y, x, 0] + image[y, x, 1] + image[y, x, 2]) * np.float32(1 / 3)
            for c in range(3):
                n = hash01(x * 3 + c, y * 4, seed) + hash01(x * 3 + c, y * 4 + 1, seed)
                n += hash01(x * 3 + c, y * 4 + 2, seed) + hash01(x * 3 + c, y * 4 + 3, seed) - np.float32(2)
                s = grey + (image[y, x, c] - grey) * saturation + n * np.float32(1.732) * sigma
                out[y, x, c] = np.uint8(min(max(s + np.float32(0.5), np.float32(0)), np.float32(255)))
