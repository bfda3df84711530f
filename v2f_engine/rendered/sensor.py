"""Numba kernels of the camera's sensor: exposure, down-sampling, encoding, saturation, noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from v2f_engine.rendered.raster import hash01, jit

f32 = np.float32


@jit
def finish(image: Any, tribuf: Any, exposure: Any, contrast: Any, out: Any) -> None:
    """2x2 box down-sampling, exposure, soft shoulder and sRGB encoding to float 0..255."""
    h, w = out.shape[0], out.shape[1]
    for y in range(h):
        for x in range(w):
            for c in range(3):
                s = f32(0)
                for i in range(2):
                    for j in range(2):
                        q = image[2 * y + i, 2 * x + j, c]
                        if tribuf[2 * y + i, 2 * x + j] >= 0:
                            q *= exposure
                        if q > f32(0.7):
                            q = f32(0.7) + f32(0.4) * (f32(1) - np.exp(-(q - f32(0.7)) * f32(2.5)))
                        s += q
                s = max(f32(0), s * f32(0.25))
                s = min(s, f32(1.1)) ** f32(0.4545)
                s = f32(0.5) + (s - f32(0.5)) * contrast
                out[y, x, c] = s * f32(255)


@jit
def face_level(image: Any, tribuf: Any) -> Any:
    """Mean linear level of the covered pixels in the middle of the picture, for the exposure."""
    s, n = f32(0), f32(1e-3)
    for y in range(70, 190, 2):
        for x in range(60, 164, 2):
            if tribuf[y, x] >= 0:
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
