"""An uploaded picture to an aligned face: looked at in memory, never written, never trusted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.gate.decode import decode
from v2f_engine.data.gate.resize import Resized
from v2f_engine.errors import DatasetError

MOST = 8 << 20
"""Bytes of a picture: a JPEG of 4096 pixels a side has about so many."""
NAME = "your picture"


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
        DatasetError: no picture, damaged, or not square; the message says what to do.
    """
    if not data:
        raise DatasetError(f"{NAME}: empty; choose a JPEG or PNG picture of one aligned face.")
    resized = Resized(1)
    image = resized.face(decode(data, NAME), 0, NAME)
    return Face(np.ascontiguousarray(image), f"{NAME} was {resized.line()}" if resized.line() else "")
