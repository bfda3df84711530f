"""Faces in a photograph: where, how turned, and the similarity that aligns each. dlib, extra `[align]`.

dlib's frontal detector looks first, at the picture as it is, then closer, then turned; its convolutional one is asked
where that finds nothing. The five points are those of the CC0 predictor that comes with it: the corners of both eyes
and the foot of the nose. They are not ArcFace's five (middles of the eyes, tip of the nose, corners of the mouth), so
they are brought to where they lie in an aligned face, `PLACES`, and not to ArcFace's points. The predictor of 68
points, which has them all, may not be used for everything: its training pictures are for research alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from v2f_kernels._extras import install

from v2f_engine.errors import MissingDependency
from v2f_engine.faces.geometry import inverse, moved, scale_of, similarity

PLACES = np.array([[33.3, 52.0], [46.5, 53.0], [65.5, 53.0], [78.7, 52.0], [56.0, 81.0]])
"""Outer and inner corner of the left eye, inner and outer of the right, foot of the nose; pixels of the aligned face.

Means over 358 rendered photographs of 200 people whose true alignment is known, both halves of the face made equal.
On 179 photographs of 100 others ArcFace's own five points then lie 2.5 pixels from where they should, in the mean
(2.0 within 20 degrees of yaw, 4.3 beyond 40); eyes and foot of the nose put on the template's eyes and tip: 5.4.
"""
ORDER = (2, 3, 1, 0, 4)
"""Places of those in dlib's own order, which begins with the outer corner at the right."""
LOOKS = (960, 1920)
"""Longest sides of the copies that are looked at, in pixels; the detector finds faces from 80 pixels on."""
ENLARGED = 4.0
"""Times that a small picture is enlarged for a look, at most: to half the first one's side, to all of the second's."""
TURNS = (-30.0, 30.0)
"""Degrees by which the copy is turned where upright no face is found; the detector allows for 15 more."""
CNN_SIDE = 480
"""Longest side for the convolutional detector, which takes 70 times as long for each pixel."""
CNN_LEAST = 40
"""Shortest side for it, half of the smallest face that it knows: below 12 dlib fails, and is unsafe to ask again."""
MISFIT = 8.0
"""Pixels of the aligned face, above which the five points are no face's: rms of their distances to `PLACES`.

The largest of 539 rendered faces is 5.8.
"""


@dataclass(frozen=True)
class Face:
    """A face in a picture.

    Args:
        matrix: float64 `[2, 3]`, picture to aligned face.
        box: left, top, right, bottom of what the detector framed, in pixels of the picture.
        detector: `hog` or `cnn`.
        misfit: how far the points are from a face's, see `MISFIT`.
    """

    matrix: NDArray[np.float64]
    box: tuple[int, int, int, int]
    detector: str
    misfit: float

    @property
    def side(self) -> float:
        """Pixels of the picture along a side of the aligned face."""
        return 112 / scale_of(self.matrix)

    @property
    def turn(self) -> float:
        """Degrees that the head is turned clockwise in the picture."""
        return -float(np.degrees(np.arctan2(self.matrix[1, 0], self.matrix[0, 0])))


@dataclass(frozen=True)
class Finder:
    """dlib's detectors and its predictor of five points; one for each thread, built with `Finder.load`."""

    hog: Any
    cnn: Any
    points: Any
    rectangle: Any

    @classmethod
    def load(cls) -> Finder:
        """Raises MissingDependency with the install line when dlib or its models are absent."""
        try:
            import dlib
            import face_recognition_models as models
        except ImportError as error:
            raise MissingDependency(
                f"Aligning needs {error.name}; install it with: {install('align')}"
            ) from error
        return cls(
            dlib.get_frontal_face_detector(),
            dlib.cnn_face_detection_model_v1(models.cnn_face_detector_model_location()),
            dlib.shape_predictor(models.pose_predictor_five_point_model_location()),
            dlib.rectangle,
        )

    def __call__(self, image: NDArray[np.uint8]) -> list[Face]:
        """All faces of uint8 `[H, W, 3]` RGB, the largest first; empty where none is found."""
        whole = Image.fromarray(image)
        for copy, matrix in _copies(whole):
            found = self._faces(copy, matrix, self.hog(copy, 0), "hog")
            if found:
                return found
        copy, matrix = _copy(whole, CNN_SIDE)
        if min(copy.shape[:2]) < CNN_LEAST:
            return []
        return self._faces(copy, matrix, [one.rect for one in self.cnn(copy, 0)], "cnn")

    def _faces(
        self, copy: NDArray[np.uint8], matrix: NDArray[np.float64], boxes: Any, detector: str
    ) -> list[Face]:
        """Faces in a copy, `matrix` from the picture to it."""
        back = inverse(matrix)
        found = []
        for box in boxes:
            seen = np.array([(part.x, part.y) for part in self.points(copy, box).parts()], np.float64)[
                list(ORDER)
            ]
            points = moved(seen, back)
            if not np.ptp(points, axis=0).any():
                continue
            to_face = similarity(points, PLACES)
            misfit = float(np.sqrt(((moved(points, to_face) - PLACES) ** 2).sum(1).mean()))
            if misfit > MISFIT:
                continue
            corners = np.array([[box.left(), box.top()], [box.right(), box.bottom()]], np.float64)
            corners = np.array([[x, y] for x in corners[:, 0] for y in corners[:, 1]])
            framed = moved(corners, back)
            low, high = np.rint(framed.min(0)).astype(int), np.rint(framed.max(0)).astype(int)
            found.append(Face(to_face, (*low.tolist(), *high.tolist()), detector, misfit))
        return sorted(found, key=lambda face: -face.side)


def _copies(whole: Image.Image) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float64]]]:
    """What the frontal detector looks at, one after the other, and the similarity from the picture to each."""
    upright, matrix = _copy(whole, LOOKS[0], enlarged=0.5)
    yield upright, matrix
    yield _copy(whole, LOOKS[1], enlarged=1.0)
    for turn in TURNS:
        yield _turned(upright, matrix, turn)


def _copy(
    whole: Image.Image, longest: int, enlarged: float = 0.5
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The picture with its longest side at most that many pixels, by area, and at least a share of them."""
    side = max(whole.size)
    scale = min(longest / side, ENLARGED, max(1.0, enlarged * longest / side))
    width, height = (max(1, round(length * scale)) for length in whole.size)
    if (width, height) == whole.size:
        return np.asarray(whole), np.array([[1.0, 0, 0], [0, 1.0, 0]])
    copy = whole.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(copy), np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2]])


def _turned(
    upright: NDArray[np.uint8], matrix: NDArray[np.float64], degrees: float
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A copy turned about its middle, on a canvas that holds all of it."""
    height, width = upright.shape[:2]
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[cos, -sin], [sin, cos]])
    size = np.ceil(np.abs(turn) @ (width, height)).astype(int)
    shift = (size - 1) / 2 - turn @ ((width - 1) / 2, (height - 1) / 2)
    back = inverse(np.concatenate([turn, shift[:, None]], 1))
    back[:, 2] += 0.5 - back[:, :2].sum(1) / 2  # Pillow's pixel 0 has its centre at 0.5
    drawn = Image.fromarray(upright).transform(
        tuple(size.tolist()), Image.Transform.AFFINE, tuple(back.ravel().tolist()), Image.Resampling.BILINEAR
    )
    to_copy = np.concatenate([turn @ matrix[:, :2], (turn @ matrix[:, 2] + shift)[:, None]], 1)
    return np.asarray(drawn), to_copy
