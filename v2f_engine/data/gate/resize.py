"""Pictures of another size than 112x112, as the published loaders bring them there, and the count of them.

The rule: a square picture is resized to 112x112 bilinearly between pixel centres, without a filter: `cv2.resize` of
SOTA-FR's, DCFace's and CVLface's loaders, through which Hadrian and Eclipse (160x160) get their published figures.
(insightface's loader asks mxnet for interpolation 2, which is bicubic; torchvision's Resize filters.) A picture that is
not square is no aligned face and is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.batch import IMAGE_SIZE
from v2f_engine.errors import DatasetError

MIN_SIDE = 16
"""Below it a picture shows no face: TinyFace's, the smallest that are published, have about 20 pixels."""
RULE = "square pictures, bilinear between pixel centres, as cv2.resize"


def check_square(height: int, width: int, where: str) -> None:
    """Raises DatasetError where a picture of this size cannot become a 112x112 face."""
    if height != width or height < MIN_SIDE:
        raise DatasetError(
            f"{where}: {height}x{width} pixels; expected aligned faces of {IMAGE_SIZE}x{IMAGE_SIZE}, or square "
            f"pictures from {MIN_SIDE}x{MIN_SIDE} on, which are resized. Align or crop it first."
        )


def resized(image: NDArray[np.uint8], side: int = IMAGE_SIZE) -> NDArray[np.uint8]:
    """`[S, S, 3]` to `[side, side, 3]` by the rule; within one grey level of `cv2.resize`."""
    size = len(image)
    at = (np.arange(side) + 0.5) * (size / side) - 0.5
    low = np.clip(np.floor(at).astype(np.int64), 0, size - 1)
    high = np.minimum(low + 1, size - 1)
    share = np.clip(at - low, 0, 1).astype(np.float32)
    rows = image[low] + share[:, None, None] * (image[high].astype(np.float32) - image[low])
    right = rows[:, high] - rows[:, low]
    return np.asarray(np.rint(rows[:, low] + share[None, :, None] * right), np.uint8)


class Resized:
    """Which pictures were resized, and from what; each counts once however often it is read. Safe in threads.

    Args:
        pictures: how many there are in all.
    """

    def __init__(self, pictures: int) -> None:
        self._sides = np.zeros(pictures, np.uint16)  # pages that nobody touches take no memory
        self._before: dict[str, int] = {}

    def face(self, image: NDArray[np.uint8], index: int, where: str) -> NDArray[np.uint8]:
        """Picture `index` at 112x112: itself where it is so already.

        Raises:
            DatasetError: it is not square, or too small.
        """
        height, width = image.shape[:2]
        if height == width == IMAGE_SIZE:
            return image
        check_square(height, width, where)
        self._sides[index] = height
        return resized(image)

    @property
    def counts(self) -> dict[str, int]:
        """`{"160x160": 12000}`, ascending by size; empty where all were 112x112."""
        return self.counts_of(slice(None))

    def counts_of(self, pictures: NDArray[np.int64] | slice) -> dict[str, int]:
        """The same of some pictures."""
        found = dict(self._before)
        some = self._sides[pictures]
        for side, count in zip(*np.unique(some[some > 0], return_counts=True), strict=True):
            found[f"{side}x{side}"] = found.get(f"{side}x{side}", 0) + int(count)
        return found

    def restore(self, counts: Mapping[str, int]) -> None:
        """Adds what an interrupted run has counted of pictures that are not read again."""
        self._before = dict(counts)

    def line(self) -> str:
        """For people: what was resized; empty where nothing was."""
        return line_of(self.counts)

    def record(self) -> dict[str, Any]:
        """For results: nothing, or `{"resized": counts, "resized_by": rule}`."""
        return record_of(self.counts)


def record_of(counts: Mapping[str, int]) -> dict[str, Any]:
    """What `Resized.record` gives of these counts."""
    return {"resized": dict(counts), "resized_by": RULE} if counts else {}


def line_of(counts: Mapping[str, int]) -> str:
    """`"resized to 112x112: 12,000 pictures of 160x160"`; empty for no counts."""
    if not counts:
        return ""
    each = ", ".join(f"{count:,} picture{'s' * (count > 1)} of {size}" for size, count in counts.items())
    return f"resized to {IMAGE_SIZE}x{IMAGE_SIZE}: {each}"
