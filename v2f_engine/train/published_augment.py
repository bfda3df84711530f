"""Augmentation of the published recogniser recipe, each choice keyed by (seed, step, place in the batch).

AdaFace's three, each for 30 % of the images (crop on black, low resolution, photometric; Kim et al. 2022), then
mirroring for half, then RandomErasing for half (Zhong et al. 2020), without which a published training set
scores two points lower (HaiyuWu/Vec2Face issue 1).
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from v2f_engine.randomness import Purpose, uniforms

SHARE = 0.3
"""Of images for each of AdaFace's augmentations."""
ERASED = 0.5
"""Of images for RandomErasing."""
TRIES = 10
"""Rectangles that are drawn until one fits, as torchvision has it."""
DRAWS = 14 + 8 * TRIES
MODES: tuple[tuple[str, bool], ...] = (
    ("nearest", False),
    ("bilinear", False),
    ("area", False),
    ("bicubic", False),
    ("bicubic", True),
)
"""(mode, antialiased) that images shrink and grow by; OpenCV's Lanczos is the antialiased cubic here."""
LUMA = (0.299, 0.587, 0.114)


def augment_published(
    images: NDArray[np.uint8],
    seed: int,
    step: int,
    places: NDArray[np.int64],
    share: float = SHARE,
    erased: float = ERASED,
) -> torch.Tensor:
    """Network input float32 `[B, 3, H, W]` in [-1, 1]; erased rectangles are 0.

    Args:
        images: uint8 `[B, H, W, 3]`, RGB.
        seed, step: of the training.
        places: of each image in the batch of all ranks.
        share: of images for each of AdaFace's three.
        erased: share of images with an erased rectangle.
    """
    chance = uniforms(seed, Purpose.AUGMENT, np.full(len(images), step), places, DRAWS)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    for index, row in enumerate(chance.astype(np.float64)):
        one = x[index]
        if row[0] < share:
            one = _crop(one, row[12 : 12 + 4 * TRIES])
        if row[1] < share:
            one = _low_resolution(one, *row[2:5])
        if row[5] < share:
            one = _photometric(one, row[6:9], row[9:12])
        x[index] = one
    mirrored = torch.from_numpy(chance[:, -1] < 0.5)
    x[mirrored] = x[mirrored].flip(3)
    x = x.div_(127.5).sub_(1.0)
    for index, row in enumerate(chance.astype(np.float64)):
        if row[-2] < erased:
            _erase(x[index], row[12 + 4 * TRIES : -2])
    return x


def _rectangle(
    chance: NDArray[np.float64],
    area: tuple[float, float],
    aspect: tuple[float, float],
    side: int,
    strict: bool,
) -> tuple[int, int, int, int] | None:
    """(top, left, height, width) of the first drawn rectangle that fits; None where none of the tries does."""
    low, high = math.log(aspect[0]), math.log(aspect[1])
    for scale, shape, y, x in chance[: len(chance) // 4 * 4].reshape(-1, 4):
        pixels = side * side * (area[0] + scale * (area[1] - area[0]))
        ratio = math.exp(low + shape * (high - low))
        width, height = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if strict:
            width, height = height, width  # RandomErasing's ratio is height to width
        limit = side - 1 if strict else side
        if 0 < width <= limit and 0 < height <= limit:
            return int(y * (side - height + 1)), int(x * (side - width + 1)), height, width
    return None


def _crop(image: torch.Tensor, chance: NDArray[np.float64]) -> torch.Tensor:
    """Black outside a rectangle of 20 to 100 % of the area."""
    found = _rectangle(chance, (0.2, 1.0), (3 / 4, 4 / 3), image.shape[1], False)
    if found is None:
        return image
    top, left, height, width = found
    kept = torch.zeros_like(image)
    kept[:, top : top + height, left : left + width] = image[:, top : top + height, left : left + width]
    return kept


def _low_resolution(image: torch.Tensor, side: float, shrink: float, grow: float) -> torch.Tensor:
    """Down to 20 to 100 % of the side and back, each by a method drawn."""
    full = image.shape[1]
    small = max(1, int((0.2 + 0.8 * side) * full))
    for size, drawn in ((small, shrink), (full, grow)):
        mode, antialias = MODES[int(drawn * len(MODES))]
        settings = {"antialias": True} if antialias else {}
        image = (
            F.interpolate(image[None], size=(size, size), mode=mode, **settings)[0].round_().clamp_(0, 255)
        )
    return image


def _photometric(
    image: torch.Tensor, order: NDArray[np.float64], amounts: NDArray[np.float64]
) -> torch.Tensor:
    """Brightness, contrast and saturation times 0.5 to 1.5, in an order drawn."""
    for kind in np.argsort(order).tolist():
        factor = 0.5 + float(amounts[kind])
        grey = (image * torch.tensor(LUMA)[:, None, None]).sum(0, keepdim=True)
        other = (torch.zeros(1), grey.mean().round(), grey)[kind]
        image = (factor * image + (1.0 - factor) * other).clamp_(0, 255).floor_()
    return image


def _erase(image: torch.Tensor, chance: NDArray[np.float64]) -> None:
    """0, the middle grey, inside a rectangle of 2 to 33 % of the area."""
    found = _rectangle(chance, (0.02, 0.33), (0.3, 3.3), image.shape[1], True)
    if found is not None:
        top, left, height, width = found
        image[:, top : top + height, left : left + width] = 0.0
