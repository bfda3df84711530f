"""Where the shading kernels keep what they know of a block of pixels: the numbers of planes of scratch memory.

A plane is `BLOCK` floats and starts `STRIDE` floats after the last one; constants, so that the compiler knows that
planes do not overlap. `STRIDE` is no multiple of 4 KiB: all planes would fall into the same lines of the cache.
"""

from __future__ import annotations

import numpy as np

BLOCK, STRIDE = 1024, 1040
"""1,024 pixels: 250 kB in all, within the second cache."""
MIXED = 16
"""Interpolated columns of the vertex table, a row per pixel."""

_NAMES = 22
(
    NX, NY, NZ, X, Y, Z, OCCLUSION, GLOSS, WRAP, EXPONENT, SCATTER, OFFSET, TURNS, WHAT, TONE,
    FACING, KEY, FRESNEL, SHEEN, POWER, LIT, SX,
) = (np.uint64(number * STRIDE) for number in range(_NAMES))  # fmt: skip
SY, SZ = np.uint64(_NAMES * STRIDE), np.uint64((_NAMES + 1) * STRIDE)
PLANES = _NAMES + 2
R_PLANE, G_PLANE, B_PLANE = (np.uint64(number * STRIDE) for number in range(3))
COLOUR_PLANES = 3
QUAD_A, QUAD_B, QUAD_C, QUAD_D, TAP_X, TAP_Y, OUTSIDE, SUM = (np.uint64(n * STRIDE) for n in range(8))
TAPS = 8

OTHER, SKINS, HAIRS, EYE = (np.float32(number) for number in range(4))
"""Values of the plane `WHAT`."""
