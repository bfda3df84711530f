"""How a camera held the picture: the orientation that EXIF states, read without trusting it, and applied.

OpenCV's `imread` and `imdecode`, DALI and mxnet apply it, Pillow and torchvision's ImageFolder do not; here it is
always applied, so that a picture is never read lying on its side.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

EXIF = b"Exif\0\0"
TAG = 0x0112
"""TIFF's Orientation, a SHORT in the first directory (Exif 2.32, 4.6.4)."""

_TURNS: Mapping[int, Callable[[Pixels], Pixels]] = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: image.swapaxes(0, 1)[:, ::-1],
    7: lambda image: image.swapaxes(0, 1)[::-1, ::-1],
    8: lambda image: image.swapaxes(0, 1)[::-1],
}
"""Orientation -> the upright picture; 1, and numbers that the standard does not know, leave it as it is."""
TURNED = frozenset(_TURNS)
"""Orientations that ask for a turn."""


def upright(image: Pixels, orientation: int) -> Pixels:
    """`[H, W, 3]` as it is meant to be seen, contiguous."""
    turn = _TURNS.get(orientation)
    return image if turn is None else np.ascontiguousarray(turn(image))


def turns_sides(orientation: int) -> bool:
    """Whether height and width change places."""
    return orientation in (5, 6, 7, 8)


def of_tiff(data: bytes) -> int:
    """The orientation in a TIFF header (with or without `Exif` before it); 1 where it states none."""
    data = data.removeprefix(EXIF)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None or len(data) < 8:
        return 1
    (at,) = struct.unpack_from(order + "I", data, 4)
    if at + 2 > len(data):
        return 1
    (count,) = struct.unpack_from(order + "H", data, at)
    for entry in range(at + 2, min(at + 2 + 12 * count, len(data) - 11), 12):
        tag, _, _, value = struct.unpack_from(order + "HHIH", data, entry)
        if tag == TAG:
            return int(value)
    return 1


def of_jpeg(data: bytes) -> int:
    """The orientation in the first EXIF segment before a JPEG's pixels; 1 where there is none."""
    if EXIF not in data:  # 0.3 us for the usual picture, a tenth of the walk
        return 1
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill bytes may stand before a marker
            at += 1
            continue
        if marker == 0xDA:  # start of scan: pixels from here on
            break
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xE1 and data[at + 4 : at + 10] == EXIF:
            return of_tiff(data[at + 4 : at + 2 + size])
        at += 2 + size
    return 1
