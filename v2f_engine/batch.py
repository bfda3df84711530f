"""The one currency between rooms: a batch of finished images and what is known about each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

IMAGE_SIZE = 112
"""Height and width in pixels of every aligned face in the field (ArcFace five-point template)."""


@dataclass(frozen=True)
class ImageBatch:
    """Finished images, in order of (identity, image).

    Args:
        images: uint8 `[B, 112, 112, 3]`, RGB.
        identity: int64 `[B]`, index of the identity in its table.
        image: int64 `[B]`, index of the image within its identity.
        attributes: name -> float32 `[B]`, e.g. `"yaw"` in degrees, `"sigma"`, `"cosine_to_centre"`.
    """

    images: NDArray[np.uint8]
    identity: NDArray[np.int64]
    image: NDArray[np.int64]
    attributes: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)
