"""The picture that conditions Vec2Face+: five discs, where the landmarks of a head of that pose fall.

As published: 112x112, black, discs of radius 3; eyes red, nose green, mouth corners blue. Where the discs lie for
a yaw and a pitch follows from the mean head of rendered people (15 numbers below), seen in perspective and aligned
to the ArcFace template as every face is. What alignment cannot remove is the pose: a turned head's nose leaves the
middle, and eyes and mouth corners draw together.

At which heights they lie is a property of the weights (`HEIGHTS`): a pose network knows the pictures that it was
trained on. Those of rendered people keep the mean head's at every yaw; those that Vec2Face+ publishes do not.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from v2f_engine.batch import IMAGE_SIZE
from v2f_engine.config import one_of
from v2f_engine.errors import ConfigError

TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""ArcFace: image-left eye, image-right eye, nose, image-left and image-right mouth corner; pixels."""
HEAD = np.array(
    [
        [-0.284, 0.205, 0.570],
        [0.284, 0.205, 0.570],
        [0.0, -0.188, 0.886],
        [-0.2325, -0.472, 0.6135],
        [0.2325, -0.472, 0.6135],
    ]
)
"""The same five on the mean of 40 rendered heads, made symmetric: right, up and forward of the pivot in
decimetres (`rendered.camera.landmarks`)."""
DISTANCE = 8.0
"""Decimetres from camera to pivot: the middle of what rendered people are seen from."""
HEIGHTS = {
    "rendered": "mean head of rendered people",
    "published": "mean head of rendered people, at the heights of the published pictures",
}
"""Where the discs lie from top to bottom -> what manifests call it."""
PUBLISHED_HEIGHTS = np.array([48.5, 48.5, 65.0, 82.5, 82.5])
"""Pixels from the top, of the profile that HaiyuWu/Vec2Face_plus 7aea100 has in landmarks/images: centres of its
discs, 2758_0.jpg and 2758_1.jpg (one face and its mirror image); the mean head's are 51.9, 75.2 and 90.4 there."""
PUBLISHED_YAW = 75.0
"""Degrees that stand for that profile: its eyes lie 4 pixels apart and its nose 14 beside them, the mean head's at 75
degrees 6 and 17. No other picture is published, so what lies between the front and it is a choice of ours."""
RADIUS = 3.0
COLOURS = np.array([[255, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 255]], np.uint8)


def project(
    yaw: NDArray[np.float32],
    pitch: NDArray[np.float32],
    roll: NDArray[np.float32] | float = 0.0,
    *,
    heights: str = "rendered",
) -> NDArray[np.float32]:
    """Five landmarks float32 `[B, 5, 2]` in pixels of the aligned crop.

    Args:
        yaw, pitch: degrees `[B]`; yaw > 0 turns to image right, pitch > 0 looks down.
        roll: tilt left after alignment, degrees `[B]`.
        heights: in `HEIGHTS`. `published` moves each landmark up on its way from the front, whose heights are the
            ArcFace template's in both, to the published profile, by a share of `(1 - cos yaw) / (1 - cos 75)`.

    Raises:
        ConfigError: heights that do not exist.
    """
    one_of("landmark heights", heights, HEIGHTS)
    yaw, pitch = np.atleast_1d(yaw).astype(np.float64), np.atleast_1d(pitch).astype(np.float64)
    tilt = np.broadcast_to(np.asarray(roll, np.float64), yaw.shape)
    points = np.stack([_one(*angles) for angles in zip(yaw, pitch, tilt, strict=True)])
    if heights == "published":
        profile = math.radians(PUBLISHED_YAW)
        share = (1 - np.cos(np.radians(yaw))) / (1 - math.cos(profile))
        turned = np.where(yaw < 0, -1.0, 1.0)
        ends = {side: PUBLISHED_HEIGHTS - _one(side * PUBLISHED_YAW, 0.0, 0.0)[:, 1] for side in (-1.0, 1.0)}
        points[:, :, 1] += np.minimum(share, 1.0)[:, None] * np.stack([ends[side] for side in turned])
    return points.astype(np.float32)


def draw(points: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Landmark pictures uint8 `[B, 112, 112, 3]`, RGB, of points `[B, 5, 2]` in pixels.

    Raises:
        ConfigError: points of another shape, or not finite.
    """
    if points.ndim != 3 or points.shape[1:] != (5, 2) or not np.isfinite(points).all():
        raise ConfigError(f"landmarks: expected finite points [B, 5, 2], found {list(points.shape)}.")
    axis = np.arange(IMAGE_SIZE, dtype=np.float32)
    away = np.hypot(
        axis[None, None, None, :] - points[:, :, 0, None, None],
        axis[None, None, :, None] - points[:, :, 1, None, None],
    )
    pictures = np.zeros((len(points), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    for number, colour in enumerate(COLOURS):
        pictures[away[:, number] <= RADIUS] = colour
    return pictures


def _one(yaw: float, pitch: float, tilt: float) -> NDArray[np.float64]:
    y, p, t = (math.radians(angle) for angle in (yaw, pitch, tilt))
    about_y = np.array([[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), 0, math.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, math.cos(p), -math.sin(p)], [0, math.sin(p), math.cos(p)]])
    seen = HEAD @ (about_x @ about_y).T
    flat = np.stack([seen[:, 0], -seen[:, 1]], 1) / (DISTANCE - seen[:, 2])[:, None]
    # Least-squares similarity onto the template: as complex numbers, target = a * source + b.
    source, target = flat @ [1, 1j], TEMPLATE @ [1, 1j]
    centred = source - source.mean()
    turn = (centred.conj() @ (target - target.mean())) / (centred.conj() @ centred).real
    placed = turn * centred * np.exp(1j * t) + target.mean()
    return np.stack([placed.real, placed.imag], 1)
