"""Numba kernels: vertex normals, z-buffer rasteriser, orthographic depth map, ambient occlusion.

Array types, here and in `shade`: positions, normals float32 `[V, 3]`; triangles int32 `[T, 3]`,
counter-clockwise seen from outside; `kind` int32 `[T]`, a surface number below. No fastmath: a person is the
same on every run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit

KINDS = 13
SKIN, EYE_L, EYE_R, TEETH_U, TEETH_L, TONGUE, LASH, HAIR, CLOTH, FRAME, LENS, SHELL, HAT = range(KINDS)

Function = TypeVar("Function", bound=Callable[..., Any])


def jit(function: Function) -> Function:
    """Compile once and cache on disk; no lock on the interpreter; division by zero gives inf."""
    return cast(Function, njit(cache=True, nogil=True, error_model="numpy")(function))


@jit
def hash01(x: Any, y: Any, s: Any) -> Any:
    """A uniform in [0, 1) from two integers and a seed."""
    h = (np.uint32(x) * np.uint32(374761393) + np.uint32(y) * np.uint32(668265263)) ^ np.uint32(s)
    h = np.uint32(h ^ (h >> np.uint32(13))) * np.uint32(1274126177)
    h = np.uint32(h ^ (h >> np.uint32(16)))
    h = np.uint32(h * np.uint32(2246822519))
    h = np.uint32(h ^ (h >> np.uint32(15)))
    return np.float32(h >> np.uint32(8)) * np.float32(5.9604645e-08)


@jit
def vertex_normals(pos: Any, tris: Any, out: Any) -> None:
    """Area-weighted unit normals into `out` `[V, 3]`."""
    out[:] = 0.0
    for t in range(tris.shape[0]):
        a, b, c = tris[t, 0], tris[t, 1], tris[t, 2]
        ux, uy, uz = pos[b, 0] - pos[a, 0], pos[b, 1] - pos[a, 1], pos[b, 2] - pos[a, 2]
        vx, vy, vz = pos[c, 0] - pos[a, 0], pos[c, 1] - pos[a, 1], pos[c, 2] - pos[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for i in (a, b, c):
            out[i, 0] += nx
            out[i, 1] += ny
            out[i, 2] += nz
    for i in range(out.shape[0]):
        r = np.sqrt(out[i, 0] ** 2 + out[i, 1] ** 2 + out[i, 2] ** 2) + np.float32(1e-12)
        out[i, 0] /= r
        out[i, 1] /= r
        out[i, 2] /= r


@jit
def bilinear(tex: Any, u: Any, v: Any, c: Any) -> Any:
    """Channel `c` of `tex` at texel (u, v), clamped to the edge."""
    h, w = tex.shape[0], tex.shape[1]
    x = min(max(u, np.float32(0)), np.float32(w) - np.float32(1.001))
    y = min(max(v, np.float32(0)), np.float32(h) - np.float32(1.001))
    i, j = int(y), int(x)
    fy, fx = y - np.float32(i), x - np.float32(j)
    a = tex[i, j, c] + (tex[i, j + 1, c] - tex[i, j, c]) * fx
    b = tex[i + 1, j, c] + (tex[i + 1, j + 1, c] - tex[i + 1, j, c]) * fx
    return a + (b - a) * fy


@jit
def raster(
    xy: Any,
    iz: Any,
    tris: Any,
    kind: Any,
    cull: Any,
    uv: Any,
    layer: Any,
    hair: Any,
    zbuf: Any,
    tribuf: Any,
    bary: Any,
) -> None:
    """Fill `zbuf` (1/z, larger is nearer), triangle numbers and screen barycentrics (b, c).

    `hair[..., 0]` is density and `hair[..., 1]` strand noise: a hair fragment of shell `layer` (0..1) stays
    where density exceeds the noise raised by the layer.
    """
    H, W = zbuf.shape
    zero = np.float32(0)
    for t in range(tris.shape[0]):
        a, b, c = tris[t, 0], tris[t, 1], tris[t, 2]
        ax, ay, bx, by, cx, cy = xy[a, 0], xy[a, 1], xy[b, 0], xy[b, 1], xy[c, 0], xy[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == zero or (cull[kind[t]] and area > zero):
            continue
        x0 = max(int(np.ceil(min(ax, bx, cx) - np.float32(0.5))), 0)
        x1 = min(int(np.floor(max(ax, bx, cx) - np.float32(0.5))), W - 1)
        y0 = max(int(np.ceil(min(ay, by, cy) - np.float32(0.5))), 0)
        y1 = min(int(np.floor(max(ay, by, cy) - np.float32(0.5))), H - 1)
        if x0 > x1 or y0 > y1:
            continue
        inv = np.float32(1) / area
        za, zb, zc = iz[a], iz[b], iz[c]
        k = kind[t]
        dbx, dby = (cy - ay) * inv, -(cx - ax) * inv
        dcx, dcy = -(by - ay) * inv, (bx - ax) * inv
        for y in range(y0, y1 + 1):
            py = np.float32(y) + np.float32(0.5) - ay
            for x in range(x0, x1 + 1):
                px = np.float32(x) + np.float32(0.5) - ax
                wb = px * dbx + py * dby
                if wb < zero:
                    continue
                wc = px * dcx + py * dcy
                wa = np.float32(1) - wb - wc
                if wa < zero or wc < zero:
                    continue
                z = wa * za + wb * zb + wc * zc
                if z <= zbuf[y, x]:
                    continue
                if k == HAT:
                    ly = (wa * za * layer[a] + wb * zb * layer[b] + wc * zc * layer[c]) / z
                    if ly < zero:
                        continue
                elif k in (HAIR, SHELL):
                    u = (wa * za * uv[a, 0] + wb * zb * uv[b, 0] + wc * zc * uv[c, 0]) / z
                    v = (wa * za * uv[a, 1] + wb * zb * uv[b, 1] + wc * zc * uv[c, 1]) / z
                    ly = (wa * za * layer[a] + wb * zb * layer[b] + wc * zc * layer[c]) / z
                    d = bilinear(hair, u, v, 0)
                    n = bilinear(hair, u, v, 1)
                    if d < n * (np.float32(0.28) + np.float32(0.74) * ly) + np.float32(0.11):
                        continue
                elif k == LASH:
                    if hash01(x, y, 77) > np.float32(0.45):
                        continue
                elif k == LENS and layer[a] > zero and hash01(x, y, 99) < layer[a]:
                    continue
                zbuf[y, x] = z
                tribuf[y, x] = t
                bary[y, x, 0] = wb
                bary[y, x, 1] = wc


@jit
def depth_only(xyz: Any, tris: Any, kind: Any, skip: Any, zbuf: Any) -> None:
    """Orthographic depth map (larger z is nearer the light); x, y already in pixels."""
    H, W = zbuf.shape
    zero = np.float32(0)
    for t in range(tris.shape[0]):
        if skip[kind[t]]:
            continue
        a, b, c = tris[t, 0], tris[t, 1], tris[t, 2]
        ax, ay, bx, by, cx, cy = xyz[a, 0], xyz[a, 1], xyz[b, 0], xyz[b, 1], xyz[c, 0], xyz[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area >= zero:
            continue
        x0 = max(int(np.ceil(min(ax, bx, cx) - np.float32(0.5))), 0)
        x1 = min(int(np.floor(max(ax, bx, cx) - np.float32(0.5))), W - 1)
        y0 = max(int(np.ceil(min(ay, by, cy) - np.float32(0.5))), 0)
        y1 = min(int(np.floor(max(ay, by, cy) - np.float32(0.5))), H - 1)
        inv = np.float32(1) / area
        for y in range(y0, y1 + 1):
            py = np.float32(y) + np.float32(0.5)
            for x in range(x0, x1 + 1):
                px = np.float32(x) + np.float32(0.5)
                wb = ((px - ax) * (cy - ay) - (py - ay) * (cx - ax)) * inv
                wc = ((bx - ax) * (py - ay) - (by - ay) * (px - ax)) * inv
                wa = np.float32(1) - wb - wc
                if wa >= zero and wb >= zero and wc >= zero:
                    z = wa * xyz[a, 2] + wb * xyz[b, 2] + wc * xyz[c, 2]
                    if z > zbuf[y, x]:
                        zbuf[y, x] = z


@jit
def occlusion(pos: Any, nrm: Any, xyz: Any, zbuf: Any, light: Any, bias: Any, seen: Any, total: Any) -> None:
    """Add this direction's cosine to `total`, and to `seen` where the depth map does not hide the vertex."""
    H, W = zbuf.shape
    for i in range(pos.shape[0]):
        c = nrm[i, 0] * light[0] + nrm[i, 1] * light[1] + nrm[i, 2] * light[2]
        if c <= 0:
            continue
        total[i] += c
        x, y = int(xyz[i, 0]), int(xyz[i, 1])
        if x < 0 or y < 0 or x >= W or y >= H or zbuf[y, x] < xyz[i, 2] + bias:
            seen[i] += c
