"""The camera's sensor for a batch: exposure, down-sampling, encoding, lens blur, saturation, noise.

As `rendered.sensor`, and the blur of OpenCV by its own kernel, one tap after another.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch.nn import functional

from v2f_engine.batch import IMAGE_SIZE
from v2f_engine.rendered.batched.lookup import hash01
from v2f_engine.rendered.picture import LEAST_BLUR
from v2f_engine.rendered.scene import Film

TAPS = 11
"""Of the widest blur: OpenCV takes 8 sigma + 1, made odd, and sigma stays under 1.3."""


def levels(image: torch.Tensor, covered: torch.Tensor) -> list[float]:
    """Mean linear level of the covered pixels in the middle of each picture.

    Args:
        image: `[B, 3, H, H]`, linear.
        covered: bool `[B, H, H]`.
    """
    middle = (slice(None), slice(70, 190, 2), slice(60, 164, 2))
    seen = covered[middle]
    total = (image.sum(1)[middle] * seen).sum((1, 2), dtype=torch.float64)
    return [float(x) for x in total / (3 * seen.sum((1, 2)) + 1e-3)]


def _kernels(films: Sequence[Film]) -> torch.Tensor:
    """float32 `[B, TAPS]`; a film that is not blurred has a single one."""
    out = np.zeros((len(films), TAPS), np.float32)
    for row, film in zip(out, films, strict=True):
        size = round(film.blur * 8 + 1) | 1 if film.blur > LEAST_BLUR else 1
        first = (TAPS - size) // 2
        row[first : first + size] = (
            cv2.getGaussianKernel(size, film.blur, cv2.CV_32F)[:, 0] if size > 1 else 1
        )
    return torch.from_numpy(out)


def _blurred(image: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """`[B, 3, S, S]` blurred along rows, then along columns; the picture is mirrored at its edge."""
    reach, size = TAPS // 2, image.shape[-1]
    for dim, border in ((3, (reach, reach, 0, 0)), (2, (0, 0, reach, reach))):
        wide = functional.pad(image, border, mode="reflect")
        image = torch.zeros_like(image)
        for tap in range(TAPS):
            image = image + wide.narrow(dim, tap, size) * kernels[:, tap, None, None, None]
    return image


def develop(image: torch.Tensor, covered: torch.Tensor, films: Sequence[Film]) -> torch.Tensor:
    """uint8 `[B, 112, 112, 3]` of linear pictures `[B, 3, 224, 224]`."""
    device = image.device

    def each(values: Sequence[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None, None]

    found = levels(image, covered)
    exposure = each([film.exposure(level) for film, level in zip(films, found, strict=True)])
    image = torch.where(covered[:, None], image * exposure, image)
    shoulder = 0.7 + 0.4 * (1 - (-(image - 0.7) * 2.5).exp())
    image = torch.where(image > 0.7, shoulder, image)
    upper, lower = image[:, :, 0::2], image[:, :, 1::2]
    image = upper[..., 0::2] + upper[..., 1::2] + lower[..., 0::2] + lower[..., 1::2]
    image = (image * 0.25).clamp(0, 1.1) ** 0.4545
    image = (0.5 + (image - 0.5) * each([film.contrast for film in films])) * 255
    if any(film.blur > LEAST_BLUR for film in films):
        image = _blurred(image, _kernels(films).to(device))
    grey = (image[:, 0] + image[:, 1] + image[:, 2])[:, None] * (1 / 3)
    image = grey + (image - grey) * each([film.saturation for film in films])
    image = image + _noise(films, device) * 1.732 * each([film.noise for film in films])
    return (image + 0.5).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _noise(films: Sequence[Film], device: torch.device) -> torch.Tensor:
    """Sum of four uniforms less two, float32 `[B, 3, 112, 112]`."""
    seed = torch.tensor([film.noise_seed for film in films], device=device)[:, None, None, None]
    rows = torch.arange(IMAGE_SIZE, device=device)
    x = 3 * rows[None, None, None, :] + torch.arange(3, device=device)[None, :, None, None]
    y = 4 * rows[None, None, :, None]
    a, b, c, d = (hash01(x, y + k, seed) for k in range(4))
    return a + b + (c + d - 2)
