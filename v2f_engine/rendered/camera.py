"""Pose, perspective and the exact alignment to the ArcFace five-point template."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from v2f_engine.batch import IMAGE_SIZE
from v2f_engine.rendered.draw import Draw
from v2f_engine.rendered.head import Array, F, head

TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Image-left and image-right eye, nose tip, image-left and image-right mouth corner; crop pixels."""
PIVOT = np.array([0, 7.15, 0.75])
SUPERSAMPLING = 2
SIDE = IMAGE_SIZE * SUPERSAMPLING


def rotation(yaw: float, pitch: float, roll: float) -> Array:
    """Head to camera, float64 `[3, 3]`; degrees. Yaw > 0 turns to image right, pitch > 0 looks down."""
    y, p, r = np.deg2rad([yaw, pitch, roll])
    ry = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    rx = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    rz = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return np.asarray(rz @ rx @ ry)


def similarity(source: Array, target: Array) -> Array:
    """Least-squares similarity `[2, 3]` (scale, rotation, shift, no mirror) from `source` to `target`."""
    ms, mt = source.mean(0), target.mean(0)
    a, b = source - ms, target - mt
    s = (a * a).sum()
    c, e = (a * b).sum() / s, (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / s
    m = np.array([[c, -e], [e, c]])
    return np.concatenate([m, (mt - m @ ms)[:, None]], 1)


def landmarks(pos: Array) -> Array:
    """The five points on a head, `[5, 3]`, in the template's order."""
    h = head()
    eyes = [pos[h.joints[f"joint-{s}-eye"]].mean(0) + np.array([0, 0, 0.14]) for s in ("r", "l")]
    return np.stack([*eyes, pos[h.nose], pos[h.mouth[0]], pos[h.mouth[1]]])


@dataclass(frozen=True)
class Camera:
    """Pose, and in-plane tilt left after alignment, in degrees; distance from the pivot in decimetres."""

    yaw: float
    pitch: float
    roll: float
    tilt: float
    distance: float

    @property
    def turn(self) -> Array:
        """Head to camera."""
        return rotation(self.yaw, self.pitch, self.roll)

    @property
    def eye(self) -> Array:
        """The camera's place in head coordinates, float32 `[3]`."""
        return np.asarray((PIVOT + self.turn.T @ np.array([0, 0, self.distance])).astype(F))

    def project(self, points: Array) -> tuple[Array, Array]:
        """Camera-space (x, -y) `[n, 2]` and depth `[n]` of head-space points; their quotient is seen."""
        cam = (points - PIVOT) @ self.turn.T
        return np.stack([cam[:, 0], -cam[:, 1]], 1), self.distance - cam[:, 2]

    def align(self, marks: Array) -> Array:
        """The similarity `[2, 3]` from `project` to pixels of the 112 crop for landmarks `marks` `[5, 3]`."""
        flat, depth = self.project(marks)
        m = similarity(flat / depth[:, None], TEMPLATE)
        c, s = np.cos(np.deg2rad(self.tilt)), np.sin(np.deg2rad(self.tilt))
        turn, centre = np.array([[c, -s], [s, c]]), TEMPLATE.mean(0)
        return np.concatenate([turn @ m[:, :2], (turn @ (m[:, 2] - centre) + centre)[:, None]], 1)

    def pixels(self, points: Array, alignment: Array) -> tuple[Array, Array]:
        """Super-sampled raster coordinates `[n, 2]` (pixel centres at +0.5) and 1/depth `[n]`, float32."""
        flat, depth = self.project(points)
        inverse = (1.0 / depth).astype(F)
        aligned = (flat * inverse[:, None]) @ alignment[:, :2].T + alignment[:, 2]
        return ((aligned + 0.5) * SUPERSAMPLING).astype(F), inverse


def draw_pose(d: Draw) -> tuple[float, float, float, float]:
    """Yaw N(0, 26) within 60, pitch N(0, 10) within 30, roll before and tilt after alignment."""
    yaw = float(np.clip(d.n(0, 26), -60, 60))
    pitch = float(np.clip(d.n(0, 10), -30, 30))
    return yaw, pitch, d.n(0, 6), d.n(0, 1.6)


def draw_distance(d: Draw) -> float:
    """4 to 22 dm, mostly 7 to 9: from a telephone at arm's length to a portrait lens."""
    return float(np.clip(1.6 + np.exp(d.n(1.6, 0.45)) + 1.0, 4.0, 22.0))
