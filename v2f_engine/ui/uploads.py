"""An uploaded picture to an aligned face: looked at in memory, never written, never trusted.

112x112 is taken as it is. In a picture of another size the face is found and aligned as `v2f align` does, where the
extra for that is installed; else, or where no face is found, a square one is taken for aligned and resized, as `v2f
generate --references` does. The page is told which.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from v2f_engine.batch import IMAGE_SIZE
from v2f_engine.data.gate.decode import decode
from v2f_engine.data.gate.resize import MIN_SIDE, resized
from v2f_engine.errors import DatasetError, MissingDependency
from v2f_engine.faces.align import align_picture
from v2f_engine.faces.finder import Finder
from v2f_engine.faces.outcomes import ALIGNED, NO_FACE, SEVERAL, TOO_SMALL

MOST = 8 << 20
"""Bytes of a picture: a JPEG of 4096 pixels a side has about so many."""
NAME = "your picture"
CURES = {
    NO_FACE: "no face was found in it; cut it closer around one",
    SEVERAL: "several faces were found in it; cut it around one of them",
    TOO_SMALL: "its face is too small; take a larger picture",
}
"""What is said of a picture without a face that can be aligned."""


@dataclass(frozen=True)
class Face:
    """A face as the recogniser takes it.

    Args:
        image: uint8 `[112, 112, 3]`, RGB.
        told: what was done to it; empty where it was aligned already.
    """

    image: NDArray[np.uint8]
    told: str = ""


def face_of(data: bytes) -> Face:
    """The face in an uploaded picture.

    Raises:
        DatasetError: no picture, damaged, or no face that can be aligned; the message says what to do.
    """
    if not data:
        raise DatasetError(f"{NAME}: empty; choose a JPEG or PNG picture of one face.")
    image = decode(data, NAME)
    height, width = image.shape[:2]
    if height == width == IMAGE_SIZE:
        return Face(np.ascontiguousarray(image))
    size = f"{NAME} has {width}x{height} pixels"
    if min(height, width) < MIN_SIDE:
        raise DatasetError(f"{size}; expected at least {MIN_SIDE} a side.")
    try:
        outcome, found = align_picture(image, _finder())
        why = CURES.get(outcome, outcome)
    except MissingDependency as error:
        outcome, found, why = NO_FACE, [], f"finding its face needs more. {error}"
    if outcome == ALIGNED:
        return Face(np.ascontiguousarray(found[0][1]), f"{size}: its face was found and aligned.")
    if height != width or outcome == SEVERAL:
        raise DatasetError(f"{size}, expected an aligned face of {IMAGE_SIZE}x{IMAGE_SIZE}: {why}.")
    return Face(
        np.ascontiguousarray(resized(image)),
        f"{size}: taken for an aligned face and resized to {IMAGE_SIZE}x{IMAGE_SIZE} ({why}).",
    )


@functools.cache
def _finder() -> Finder:
    """What finds faces; asked from the one thread that computes."""
    return Finder.load()
