"""Things worn: spectacles of a person, knitted hats and a plain collar."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from v2f_engine.rendered.draw import Draw
from v2f_engine.rendered.head import TEX_H, TEX_W, Y_SPAN, Y_TOP, Array, F, head
from v2f_engine.rendered.raster import FRAME, LASH, LENS

RING = 28
"""Corners of one rim."""


@dataclass(frozen=True)
class Glasses:
    """`positions` `[N, 3]`, `tris` int32 `[M, 3]`, `kind` `[M]` FRAME or LENS (shown only when tinted)."""

    positions: Array
    tris: Array
    kind: Array


@dataclass
class _Builder:
    positions: list[tuple[float, float, float]]
    tris: list[tuple[int, int, int]]
    kind: list[int]

    def add(self, kind: int, tris: list[tuple[int, int, int]]) -> None:
        self.tris += tris
        self.kind += [kind] * len(tris)


def draw_glasses(d: Draw, pos: Array) -> Glasses:
    """Frames that fit the neutral head `pos`: superelliptic rims, a bridge and temples to the ears."""
    h = head()
    eyes = [pos[h.joints[f"joint-{s}-eye"]].mean(0) for s in ("r", "l")]
    w, height = d.u(0.20, 0.26), d.u(0.13, 0.22)
    power = d.u(2.0, 4.5)
    bar = d.u(0.010, 0.032)
    drop = d.u(0.01, 0.05)
    z0 = float(pos[h.tris[h.kind == LASH]].reshape(-1, 3)[:, 2].max()) + 0.12
    a = np.arange(RING) * 2 * np.pi / RING
    ux = np.sign(np.cos(a)) * np.abs(np.cos(a)) ** (2 / power)
    uy = np.sign(np.sin(a)) * np.abs(np.sin(a)) ** (2 / power)
    b = _Builder([], [], [])
    ear_x = np.abs(pos[h.ears][:, 0]).max() - 0.06
    ear_y = float(np.percentile(pos[h.ears][:, 1], 85))
    for eye, sign in zip(eyes, (-1, 1), strict=True):
        cx, cy = eye[0] * 1.03, eye[1] - drop
        start = len(b.positions)
        for k in range(RING):
            for s, dz in ((1.0, 0.0), (1.0 + bar / w * 1.6, 0.0), (1.0 + bar / w * 1.6, -0.03)):
                x = cx + ux[k] * w * s
                y = cy + uy[k] * height * (1 + (s - 1) * w / height)
                b.positions.append((x, y, z0 + dz - 0.32 * max(0.0, abs(x) - 0.3) ** 1.5))
        for k in range(RING):
            p, q = start + 3 * k, start + 3 * ((k + 1) % RING)
            b.add(FRAME, [(p, q, p + 1), (q, q + 1, p + 1), (p + 1, q + 1, p + 2), (q + 1, q + 2, p + 2)])
        centre = len(b.positions)
        b.positions.append((cx, cy, z0 - 0.01))
        b.add(LENS, [(start + 3 * k, start + 3 * ((k + 1) % RING), centre) for k in range(RING)])
        hinge = cx + sign * (w + bar)
        t = len(b.positions)
        hinge_z = z0 - 0.32 * max(0.0, abs(hinge) - 0.3) ** 1.5
        for x, y, z in ((hinge, cy + height * 0.5, hinge_z), (sign * ear_x, ear_y, 0.45)):
            b.positions += [(x, y + bar, z), (x, y - bar, z), (x + sign * 0.02, y, z)]
        b.add(FRAME, [(t, t + 1, t + 3), (t + 1, t + 4, t + 3), (t, t + 2, t + 3), (t + 2, t + 5, t + 3)])
        b.add(FRAME, [(t + 1, t + 2, t + 4), (t + 2, t + 5, t + 4)])
    n = len(b.positions)
    inner = (eyes[0][0] * 1.03 + w, 0.0, eyes[1][0] * 1.03 - w)
    y = (eyes[0][1] + eyes[1][1]) / 2 - drop + height * 0.35
    for x in inner:
        up, out = (0.02, 0.01) if x == 0 else (0, 0)
        b.positions += [(x, y + bar + up, z0 + out), (x, y - bar + up, z0)]
    b.add(FRAME, [(n, n + 1, n + 2), (n + 1, n + 3, n + 2), (n + 2, n + 3, n + 4), (n + 3, n + 5, n + 4)])
    return Glasses(np.array(b.positions, F), np.array(b.tris, np.int32), np.array(b.kind, np.int32))


def hat(pos: Array, normals: Array, tone: float, over_hair: bool) -> tuple[Array, Array]:
    """A knitted hat on the head of this image: positions, and the height above its brim of every vertex."""
    h = head()
    used = h.hat_vertices
    out = pos[used] + normals[used] * F(0.11 if over_hair else 0.05)
    out[:, 1] += F(0.05) * np.clip((out[:, 1] - 7.9) / 0.4, 0, 1)
    theta = np.abs(h.uv[used, 0] / TEX_W - 0.5) * 360
    brim = F(7.74 + tone) - F(0.30) * np.clip((theta - 30) / 70, 0, 1)
    return out, ((Y_TOP - h.uv[used, 1] / TEX_H * Y_SPAN) - brim).astype(F)


@functools.cache
def bust() -> tuple[Array, Array]:
    """A plain collar and shoulders, rings widening from the neck: positions and triangles."""
    columns, rows = 28, 8
    t, a = np.linspace(0, 1, rows)[:, None], np.arange(columns)[None] * 2 * np.pi / columns
    y = 6.10 - 0.16 * (t > 0) - 1.0 * t**1.5 - 0.16 * np.maximum(np.cos(a), 0) * (1 - t)
    rx, rz = 0.56 + 0.04 * (t > 0) + 1.5 * t**1.3, 0.56 + 0.04 * (t > 0) + 0.55 * t
    pos = np.stack([rx * np.sin(a), y + 0 * a, 0.16 + rz * np.cos(a) - 0.2 * t], -1).reshape(-1, 3)
    q = (np.arange(rows - 1)[:, None] * columns + np.arange(columns)[None]).ravel()
    n = (np.arange(rows - 1)[:, None] * columns + (np.arange(columns)[None] + 1) % columns).ravel()
    tris = np.concatenate([np.stack([q, q + columns, n], 1), np.stack([n, q + columns, n + columns], 1)])
    return pos, tris.astype(np.int32)
