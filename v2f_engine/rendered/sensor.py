"""Numba kernels of the camera's sensor: exposure, down-sampling, encoding, saturation, noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from v2f_engine.rendered.raster import PLANE, hash01, jit

f32, u64 = np.float32, np.uint64
_1, _2 = u64(1), u64(2)


@jit
def finish(image: Any, pixels: Any, exposure: Any, contrast: Any, out: Any) -> None:
    """Exposure of `pixels`, soft shoulder, 2x2 box down-sampling and sRGB encoding to float 0..255.

    `image` is used up. One thing at a time, which the compiler makes vector code of.
    """
    flat, w = image.reshape(-1), image.shape[1]
    for p in pixels:
        at = u64(p) * u64(3)
        flat[at] *= exposure
        flat[at + _1] *= exposure
        flat[at + _2] *= exposure
    for p in range(flat.size):
        q = flat[u64(p)]
        if q > f32(0.7):
            flat[u64(p)] = f32(0.7) + f32(0.4) * (f32(1) - np.exp(-(q - f32(0.7)) * f32(2.5)))
    to, wide = out.reshape(-1), u64(3 * w)
    for y in range(out.shape[0]):
        above, here = u64(2 * y) * wide, u64(y * out.shape[1] * 3)
        for x in range(out.shape[1]):
            for c in range(3):
                at = above + u64(6 * x + c)
                s = flat[at] + flat[at + u64(3)] + flat[at + wide] + flat[at + wide + u64(3)]
                s = max(f32(0), s * f32(0.25))
                to[here + u64(3 * x + c)] = min(s, f32(1.1))
    for p in range(to.size):
        s = to[u64(p)] ** f32(0.4545)
        s = f32(0.5) + (s - f32(0.5)) * contrast
        to[u64(p)] = s * f32(255)


@jit
def face_level(image: Any, canvas: Any) -> Any:
    """Mean linear level of the covered pixels in the middle of the picture, for the exposure."""
    s, n = f32(0), f32(1e-3)
    for y in range(70, 190, 2):
        for x in range(60, 164, 2):
            if canvas[PLANE + y * image.shape[1] + x] >= 0:
                s += image[y, x, 0] + image[y, x, 1] + image[y, x, 2]
                n += f32(3)
    return s / n


@jit
def add_noise(image: Any, saturation: Any, sigma: Any, seed: Any, out: Any) -> None:
    """Saturation, sensor noise (sum of four uniforms), rounding and clipping to uint8."""
    h, w = image.shape[0], image.shape[1]
    for y in range(h):
        for x in range(w):
            grey = (image[y, x, 0] + image[y, x, 1] + image[y, x, 2]) * f32(1 / 3)
            for c in range(3):
                n = hash01(x * 3 + c, y * 4, seed) + hash01(x * 3 + c, y * 4 + 1, seed)
                n += hash01(x * 3 + c, y * 4 + 2, seed) + hash01(x * 3 + c, y * 4 + 3, seed) - f32(2)
                s = grey + (image[y, x, c] - grey) * saturation + n * f32(1.732) * sigma
                out[y, x, c] = np.uint8(min(max(s + f32(0.5), f32(0)), f32(255)))
