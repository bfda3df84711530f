"""Numba kernels: vertex normals, z-buffer rasteriser, orthographic depth map, ambient occlusion.

Array types, here and in `shade`: triangles int32 `[T, 3]`, counter-clockwise seen from outside; `kind` int32
`[T]`, a surface number below; `vertices` float32 `[V, 16]`, columns `NORMAL` and so on below. No fastmath: a person
is the same on every run.

Small triangles cost mispredicted branches, 8 ns a tested pixel when each was tested alone. So a first pass without
branches lists the triangles that hold a pixel's centre (half of all; 5 ns each), and a row of a triangle is then done
`LANES` pixels at once without a branch. Indices are unsigned: signed ones are checked for being negative.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit

KINDS = 13
SKIN, EYE_L, EYE_R, TEETH_U, TEETH_L, TONGUE, LASH, HAIR, CLOTH, FRAME, LENS, SHELL, HAT = range(KINDS)

Function = TypeVar("Function", bound=Callable[..., Any])
F32, I32, U32, U64 = np.float32, np.int32, np.uint32, np.uint64
_0, _1, _2 = U64(0), U64(1), U64(2)

LANES = 16
"""Pixels of a row done at once: one AVX-512 register, two or four of others."""
NORMAL, POSITION, UV, AO, LAYER = 0, 3, 6, 8, 9
"""First columns of the vertex table."""
_U, _V, _LAYER = U64(UV), U64(UV + 1), U64(LAYER)
PLANE = 768 * 768 + 112
"""Floats between the planes of a canvas; a constant, so that the compiler knows that they do not overlap.

The largest canvas, 768 x 768, is that of the photographs that alignment is tested on; memory not written costs
nothing.
"""
_NUMBER, _B, _C, _SPARE = U64(PLANE), U64(2 * PLANE), U64(3 * PLANE), U64(4 * PLANE)


_SOURCES = hashlib.sha256(
    b"".join(f.read_bytes() for f in sorted(Path(__file__).parent.glob("*.py")))
).hexdigest()


def jit(function: Function) -> Function:
    """Compile once and cache on disk; no lock on the interpreter; division by zero gives inf.

    numba looks at the function's own file only, though constants and functions of other files are compiled into it:
    a changed `PLANE` gave wrong pictures from old machine code. So a cache is of all of this folder's text.
    """
    made: Any = njit(cache=True, nogil=True, error_model="numpy")(function)
    kept: Any = getattr(getattr(made, "_cache", None), "_cache_file", None)
    if hasattr(kept, "_source_stamp"):
        kept._source_stamp = (kept._source_stamp, _SOURCES)
    else:  # another numba, or one that compiles nothing: slower to start, never wrong
        made = njit(nogil=True, error_model="numpy")(function)
    return cast(Function, made)


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
        a, b, c = U32(tris[U64(t), _0]), U32(tris[U64(t), _1]), U32(tris[U64(t), _2])
        ux, uy, uz = pos[b, _0] - pos[a, _0], pos[b, _1] - pos[a, _1], pos[b, _2] - pos[a, _2]
        vx, vy, vz = pos[c, _0] - pos[a, _0], pos[c, _1] - pos[a, _1], pos[c, _2] - pos[a, _2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for i in (a, b, c):
            out[i, _0] += nx
            out[i, _1] += ny
            out[i, _2] += nz
    for k in range(out.shape[0]):
        i = U32(k)
        r = np.sqrt(out[i, _0] ** 2 + out[i, _1] ** 2 + out[i, _2] ** 2) + np.float32(1e-12)
        out[i, _0] /= r
        out[i, _1] /= r
        out[i, _2] /= r


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
def _span(a: Any, b: Any, c: Any, size: Any) -> Any:
    """First and last pixel, within 0 .. size - 1, whose centre may lie between the smallest and the largest."""
    first = max(I32(np.ceil(min(a, b, c) - F32(0.5))), I32(0))
    last = min(I32(np.floor(max(a, b, c) - F32(0.5))), I32(size - 1))
    return first, last


@jit
def _worth(xy: Any, tris: Any, kind: Any, one_sided: Any, skip: Any, H: Any, W: Any) -> Any:
    """Numbers of the triangles to draw, in order: not skipped, seen from the right side, holding a pixel's centre."""
    found = np.empty(tris.shape[0] + 1, I32)
    n = 0
    for t in range(tris.shape[0]):
        a, b, c = U32(tris[U64(t), _0]), U32(tris[U64(t), _1]), U32(tris[U64(t), _2])
        ax, ay, bx, by, cx, cy = xy[a, _0], xy[a, _1], xy[b, _0], xy[b, _1], xy[c, _0], xy[c, _1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        x0, x1 = _span(ax, bx, cx, W)
        y0, y1 = _span(ay, by, cy, H)
        k = U32(kind[U64(t)])
        out = (area == F32(0)) | (one_sided[k] & (area > F32(0))) | skip[k] | (x0 > x1) | (y0 > y1)
        found[U64(n)] = I32(t)
        n += int(not out)
    return found[:n]


def new_canvas(size: int) -> Any:
    """A canvas of `size` pixels with nothing on it: planes of 1/z, triangle number (-1: none) and barycentrics b, c.

    Raises:
        ValueError: more pixels than a plane has.
    """
    if size > PLANE - LANES:
        raise ValueError(f"size: expected at most {PLANE - LANES} pixels, found {size}; raise raster.PLANE")
    canvas = np.empty(4 * PLANE + 3 * LANES, F32)
    canvas[:size] = 0
    canvas[PLANE : PLANE + size] = -1
    return canvas


@jit
def paint(
    xy: Any, iz: Any, tris: Any, kind: Any, cull: Any, vertices: Any, hair: Any, H: Any, W: Any, canvas: Any
) -> None:
    """Draw triangles on the canvas of `H` times `W` pixels, `W` at least `LANES`; larger 1/z is nearer.

    `hair[..., 0]` is density and `hair[..., 1]` strand noise: a hair fragment of shell `layer` (0..1) stays
    where density exceeds the noise raised by the layer.
    """
    zero, half, one = F32(0), F32(0.5), F32(1)
    z_at, b_at, c_at = _SPARE, _SPARE + U64(LANES), _SPARE + U64(2 * LANES)
    for number in _worth(xy, tris, kind, cull, np.zeros(KINDS, np.bool_), H, W):
        t = U32(number)
        a, b, c = U32(tris[t, _0]), U32(tris[t, _1]), U32(tris[t, _2])
        ax, ay, bx, by, cx, cy = xy[a, _0], xy[a, _1], xy[b, _0], xy[b, _1], xy[c, _0], xy[c, _1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        x0, x1 = _span(ax, bx, cx, W)
        y0, y1 = _span(ay, by, cy, H)
        inv = one / area
        za, zb, zc = iz[a], iz[b], iz[c]
        k = kind[t]
        dbx, dby = (cy - ay) * inv, -(cx - ax) * inv
        dcx, dcy = -(by - ay) * inv, (bx - ax) * inv
        plain = k != HAT and k != HAIR and k != SHELL and k != LASH and k != LENS
        name = F32(number)
        for y in range(y0, y1 + 1):
            py = F32(y) + half - ay
            pb, pc = py * dby, py * dcy
            for x in range(x0, x1 + 1, LANES):
                left = I32(min(x, W - LANES))  # the last pixels of a row are done from its end
                begin, end = I32(x), I32(x1)
                row = U64(y * W + left)
                if plain:
                    for i in range(LANES):
                        at, here = row + U64(i), left + I32(i)
                        px = F32(here) + half - ax
                        wb = px * dbx + pb
                        wc = px * dcx + pc
                        wa = one - wb - wc
                        z = wa * za + wb * zb + wc * zc
                        old = canvas[at]
                        ok = (wa >= zero) & (wb >= zero) & (wc >= zero) & (here >= begin) & (here <= end)
                        ok &= z > old
                        canvas[at] = z if ok else old
                        canvas[_NUMBER + at] = name if ok else canvas[_NUMBER + at]
                        canvas[_B + at] = wb if ok else canvas[_B + at]
                        canvas[_C + at] = wc if ok else canvas[_C + at]
                    continue
                found = I32(0)
                for i in range(LANES):
                    at, here = row + U64(i), left + I32(i)
                    px = F32(here) + half - ax
                    wb = px * dbx + pb
                    wc = px * dcx + pc
                    wa = one - wb - wc
                    z = wa * za + wb * zb + wc * zc
                    ok = (wa >= zero) & (wb >= zero) & (wc >= zero) & (here >= begin) & (here <= end)
                    ok &= z > canvas[at]
                    canvas[z_at + U64(i)] = z if ok else zero
                    canvas[b_at + U64(i)] = wb
                    canvas[c_at + U64(i)] = wc
                    found += I32(ok)
                if found == I32(0):
                    continue
                for i in range(LANES):
                    z = canvas[z_at + U64(i)]
                    if z <= zero:
                        continue
                    wb, wc = canvas[b_at + U64(i)], canvas[c_at + U64(i)]
                    qa, qb, qc = (one - wb - wc) * za, wb * zb, wc * zc
                    if k == HAT:
                        ly = (
                            qa * vertices[a, _LAYER] + qb * vertices[b, _LAYER] + qc * vertices[c, _LAYER]
                        ) / z
                        if ly < zero:
                            continue
                    elif k in (HAIR, SHELL):
                        u = (qa * vertices[a, _U] + qb * vertices[b, _U] + qc * vertices[c, _U]) / z
                        v = (qa * vertices[a, _V] + qb * vertices[b, _V] + qc * vertices[c, _V]) / z
                        ly = (
                            qa * vertices[a, _LAYER] + qb * vertices[b, _LAYER] + qc * vertices[c, _LAYER]
                        ) / z
                        d = bilinear(hair, u, v, 0)
                        n = bilinear(hair, u, v, 1)
                        if d < n * (F32(0.28) + F32(0.74) * ly) + F32(0.11):
                            continue
                    elif k == LASH:
                        if hash01(left + i, y, 77) > F32(0.45):
                            continue
                    elif vertices[a, _LAYER] > zero and hash01(left + i, y, 99) < vertices[a, _LAYER]:  # LENS
                        continue
                    at = row + U64(i)
                    canvas[at] = z
                    canvas[_NUMBER + at] = name
                    canvas[_B + at] = wb
                    canvas[_C + at] = wc


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
    """`paint` for maps: into `zbuf` (1/z, larger is nearer), triangle numbers and screen barycentrics (b, c)."""
    (H, W), n = zbuf.shape, zbuf.size
    vertices = np.zeros((len(xy), 16), F32)
    vertices[:, UV : UV + 2], vertices[:, LAYER] = uv, layer
    canvas = new_canvas(n)
    canvas[:n] = zbuf.ravel()
    paint(xy, iz, tris, kind, cull, vertices, hair, H, W, canvas)
    drawn = canvas[PLANE : PLANE + n].reshape(H, W)
    zbuf[:], tribuf[:] = canvas[:n].reshape(H, W), drawn.astype(I32)
    for i in (0, 1):
        corner = canvas[(2 + i) * PLANE : (2 + i) * PLANE + n].reshape(H, W)
        bary[..., i] = np.where(drawn >= 0, corner, 0)


@jit
def depth_only(xyz: Any, tris: Any, kind: Any, skip: Any, zbuf: Any) -> None:
    """Orthographic depth map (larger z is nearer the light); x, y already in pixels; `LANES` wide at least."""
    H, W = zbuf.shape
    flat = zbuf.reshape(-1)
    zero, half, one = F32(0), F32(0.5), F32(1)
    for number in _worth(xyz, tris, kind, np.ones(KINDS, np.bool_), skip, H, W):
        t = U32(number)
        a, b, c = U32(tris[t, _0]), U32(tris[t, _1]), U32(tris[t, _2])
        ax, ay, bx, by, cx, cy = xyz[a, _0], xyz[a, _1], xyz[b, _0], xyz[b, _1], xyz[c, _0], xyz[c, _1]
        az, bz, cz = xyz[a, _2], xyz[b, _2], xyz[c, _2]
        ux, uy, vx, vy = bx - ax, by - ay, cx - ax, cy - ay
        inv = one / (ux * vy - uy * vx)
        x0, x1 = _span(ax, bx, cx, W)
        y0, y1 = _span(ay, by, cy, H)
        for y in range(y0, y1 + 1):
            py = F32(y) + half - ay
            pb, pc = py * vx, ux * py
            for x in range(x0, x1 + 1, LANES):
                left = I32(min(x, W - LANES))
                begin, end = I32(x), I32(x1)
                row = U64(y * W + left)
                for i in range(LANES):
                    at, here = row + U64(i), left + I32(i)
                    px = F32(here) + half - ax
                    wb = (px * vy - pb) * inv
                    wc = (pc - uy * px) * inv
                    wa = one - wb - wc
                    z = wa * az + wb * bz + wc * cz
                    ok = (wa >= zero) & (wb >= zero) & (wc >= zero) & (here >= begin) & (here <= end)
                    ok &= z > flat[at]
                    flat[at] = z if ok else flat[at]


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
