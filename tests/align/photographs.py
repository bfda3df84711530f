"""Photographs of people who do not exist: rendered in a wide view, with the true place of their five points."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.faces.geometry import TEMPLATE, inverse, moved, similarity
from v2f_engine.rendered import make_person, picture, sensor
from v2f_engine.rendered.camera import Camera
from v2f_engine.rendered.raster import PLANE

SEED = 20_777
"""A world apart from that on which `finder.PLACES` was measured."""


@dataclass(frozen=True)
class Rendered:
    """A photograph, uint8 `[S, S, 3]`, and ArcFace's five points in it, float64 `[5, 2]`."""

    image: NDArray[np.uint8]
    points: NDArray[np.float64]
    yaw: float

    def through(self, matrix: NDArray[np.float64], image: NDArray[np.uint8]) -> Rendered:
        """The same as part of another picture."""
        return Rendered(image, moved(self.points, matrix), self.yaw)


@contextmanager
def _wide(side: int, face: float) -> Iterator[dict[str, Any]]:
    """The renderer with a larger raster, in which the aligned face takes a share of the width."""
    scale, seen = face * side / 112, {}
    align = Camera.align

    def placed(self: Camera, marks: NDArray[Any]) -> NDArray[np.float64]:
        whole = align(self, marks)
        shift = np.full(2, side / 2) - scale * np.array([55.5, 65.0])
        matrix = np.concatenate([scale * whole[:, :2], (scale * whole[:, 2] + shift)[:, None]], 1)
        flat, depth = self.project(marks)
        seen["points"] = moved(flat / depth[:, None], matrix)
        return matrix

    def level(image: NDArray[Any], canvas: NDArray[Any]) -> float:
        middle = slice(side - int(60 * scale), side + int(60 * scale))
        number = canvas[PLANE : PLANE + 4 * side * side].reshape(2 * side, 2 * side)
        return float(image[middle, middle][number[middle, middle] >= 0].mean())

    kept = (picture.SIDE, picture.IMAGE_SIZE, sensor.face_level)
    Camera.align, picture.SIDE, picture.IMAGE_SIZE, sensor.face_level = placed, 2 * side, side, level  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        Camera.align = align  # type: ignore[method-assign]
        picture.SIDE, picture.IMAGE_SIZE, sensor.face_level = kept


def photograph(identity: int, image: int = 0, side: int = 384, face: float = 0.4) -> Rendered:
    """A person with hair, neck and background: about 0.06 s."""
    person = make_person(SEED, identity, world=1)
    with _wide(side, face) as seen:
        pixels, attributes = picture.render_image(person, image)
    return Rendered(np.ascontiguousarray(pixels), seen["points"], float(attributes["yaw"]))


def facing(count: int, limit: float = 25.0, side: int = 384, face: float = 0.4) -> list[Rendered]:
    """People who look at most `limit` degrees aside, bareheaded or not, in order of their numbers."""
    found: list[Rendered] = []
    identity = 0
    while len(found) < count:
        one = photograph(identity, 0, side, face)
        if abs(one.yaw) <= limit:
            found.append(one)
        identity += 1
    return found


def miss(one: Rendered, matrix: NDArray[np.float64]) -> float:
    """Mean distance of the five true points from where the true alignment puts them, in pixels of the aligned face."""
    true = similarity(one.points, TEMPLATE)
    return float(np.linalg.norm(moved(one.points, matrix) - moved(one.points, true), axis=1).mean())


def turned(one: Rendered, degrees: float) -> Rendered:
    """The photograph turned clockwise about its middle, grey around it."""
    from PIL import Image

    side = len(one.image)
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[cos, -sin], [sin, cos]])
    middle = np.full(2, (side - 1) / 2)
    matrix = np.concatenate([turn, (middle - turn @ middle)[:, None]], 1)
    back = inverse(matrix)
    back[:, 2] += 0.5 - back[:, :2].sum(1) / 2
    drawn = Image.fromarray(one.image).transform(
        (side, side),
        Image.Transform.AFFINE,
        tuple(back.ravel()),
        Image.Resampling.BICUBIC,
        fillcolor=(128,) * 3,
    )
    return one.through(matrix, np.asarray(drawn))
