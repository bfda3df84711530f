"""Numba kernels: how much of the key light reaches a block of pixels.

Bilinear percentage-closer lookups on a five-point pattern `soft` pixels apart: 1 lit, 0 dark. Places and sums are
vector code, only the four loads of a point are not: 0.35 ms an image instead of 0.8.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from v2f_engine.rendered.planes import (
    FACING,
    LIT,
    OUTSIDE,
    QUAD_A,
    QUAD_B,
    QUAD_C,
    QUAD_D,
    SUM,
    SX,
    SY,
    SZ,
    TAP_X,
    TAP_Y,
    WRAP,
)
from v2f_engine.rendered.raster import jit

f32, i32, u64 = np.float32, np.int32, np.uint64
_1 = u64(1)


@jit
def _places(n: Any, S: Any, R: Any, at: Any, dx: Any, dy: Any, H: Any, W: Any) -> None:
    """Texel and fractions of every pixel moved by (dx, dy); what lies outside the map is marked."""
    high, wide, row = i32(H - 2), i32(W - 2), i32(W)
    for q in range(n):
        p = u64(q)
        fx = S[SX + p] + dx - f32(0.5)
        fy = S[SY + p] + dy - f32(0.5)
        i, j = i32(np.floor(fy)), i32(np.floor(fx))
        out = (i < i32(0)) | (j < i32(0)) | (i > high) | (j > wide)
        i, j = min(max(i, i32(0)), high), min(max(j, i32(0)), wide)
        R[TAP_X + p], R[TAP_Y + p] = fx - f32(j), fy - f32(i)
        R[OUTSIDE + p] = f32(1) if out else f32(0)
        at[p] = i * row + j


@jit
def _loads(n: Any, depth: Any, R: Any, at: Any, W: Any) -> None:
    for q in range(n):
        p = u64(q)
        here = u64(at[p])
        R[QUAD_A + p], R[QUAD_B + p] = depth[here], depth[here + _1]
        here += u64(W)
        R[QUAD_C + p], R[QUAD_D + p] = depth[here], depth[here + _1]


@jit
def _add(n: Any, S: Any, R: Any) -> None:
    one, zero = f32(1), f32(0)
    for q in range(n):
        p = u64(q)
        z = S[SZ + p]
        a = one if R[QUAD_A + p] <= z else zero
        b = one if R[QUAD_B + p] <= z else zero
        c = one if R[QUAD_C + p] <= z else zero
        d = one if R[QUAD_D + p] <= z else zero
        tx, ty = R[TAP_X + p], R[TAP_Y + p]
        v = (a + (b - a) * tx) * (one - ty) + (c + (d - c) * tx) * ty
        R[SUM + p] += one if R[OUTSIDE + p] > zero else v


@jit
def shadow(n: Any, S: Any, R: Any, at: Any, depth: Any, H: Any, W: Any, soft: Any) -> None:
    """Fill plane `LIT` of `n` pixels from the flat depth map of `H` times `W`; `R`, `at` are scratch."""
    one = f32(1)
    for q in range(n):
        R[SUM + u64(q)] = f32(0)
    for dy in range(-1, 2):
        for dx in range(-1, 2):
            if (dx + dy) % 2 == 0:
                _places(n, S, R, at, soft * f32(dx), soft * f32(dy), H, W)
                _loads(n, depth, R, at, W)
                _add(n, S, R)
    for q in range(n):
        p = u64(q)
        lit = f32(0.12) + f32(0.88) * (R[SUM + p] * f32(0.2))
        S[LIT + p] = lit if S[FACING + p] > -S[WRAP + p] - f32(0.3) else one
