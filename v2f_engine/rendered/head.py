"""The head all people share: base mesh, morph targets, and maps over the canonical cylinder.

Canonical coordinates are decimetres: x to the person's left, y up, z forward. Textures lie on a cylinder
about the vertical line x = 0, z = `AXIS_Z`, unrolled to `[TEX_H, TEX_W]` with the face in the middle and the
seam at the back, so marks, brows and hairlines are drawn in angle and height and follow every morph.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from v2f_engine.rendered import raster as K

F = np.float32
Array = NDArray[Any]
TEX_H, TEX_W = 288, 640
Y_TOP, Y_SPAN = 8.45, 2.5
AXIS_Z = 0.55
RACES = ("african", "asian", "caucasian")

_OPPOSITES = (
    ("decr", "incr"),
    ("in", "out"),
    ("down", "up"),
    ("backward", "forward"),
    ("concave", "convex"),
    ("compress", "uncompress"),
)
_AO_BIAS = {1: -0.03, 2: 0.03}
"""Decimetres, by world. World 1's is wrong in sign: nearly every vertex hides itself, and skin gets about 0.12
of the ambient light, which the exposure makes up for. It stays, for models are trained on it."""
_UNUSED = ("trunk", "breast", "head-age-", "head-trans", "neck-trans")


@dataclass(frozen=True)
class Head:
    """Base mesh and everything derived from it once per process."""

    base: Array
    """float32 `[V, 3]`, the mesh without any target."""
    tris: Array
    """int32 `[T, 3]`."""
    kind: Array
    """int32 `[T]`, surface numbers of `raster`."""
    targets: dict[str, tuple[Array, Array]]
    """Morph target -> vertex numbers int64 `[n]` and displacements float32 `[n, 3]`."""
    uv: Array
    """float32 `[V, 2]`, texel coordinates in the canonical cylinder."""
    ao: dict[int, Array]
    """By world: float32 `[V]`, ambient occlusion of the canonical head, 1 open."""
    inside: Array
    """float32 `[V]`, 1 inside the mouth."""
    joints: dict[str, Array]
    """Joint marker -> its eight vertices."""
    maps: dict[str, Array]
    """`theta` (degrees), `y`, `lips`, `ears`, `eyelids`, `lash`, `lid line`: float32 `[TEX_H, TEX_W]`."""
    pairs: dict[str, tuple[str | None, str | None]]
    """Detail stem -> its (negative, positive) target."""
    shapes: list[str]
    """Detail targets without an opposite."""
    mouth: tuple[int, int]
    """Vertices of the person's right and left mouth corner."""
    nose: int
    """Vertex of the nose tip."""
    ears: Array
    """bool `[V]`."""
    hat_vertices: Array
    hat_tris: Array
    upper_lashes: Array
    """bool `[T]`."""


def add_target(positions: Array, targets: dict[str, tuple[Array, Array]], name: str, weight: float) -> None:
    """Add `weight` times a target in place; a name without displacements on the head does nothing."""
    entry = targets.get(name)
    if entry is not None and weight != 0.0:
        positions[entry[0]] += entry[1] * F(weight)


def smooth(x: Any) -> Any:
    """Smoothstep of `x` clipped to [0, 1]."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def normals_of(positions: Array, tris: Array) -> Array:
    """Area-weighted unit vertex normals float32 `[V, 3]`."""
    out = np.empty((len(positions), 3), F)
    K.vertex_normals(positions, tris, out)
    return out


def light_matrix(direction: Array, size: int) -> Array:
    """float32 `[3, 4]`: pixel x, pixel y (down) and height towards the light; 3.4 dm around the head."""
    up = np.array([0, 1, 0]) if abs(direction[1]) < 0.95 else np.array([0, 0, 1])
    right = np.cross(up, direction)
    right /= np.linalg.norm(right)
    true_up = np.cross(direction, right)
    s, c = size / 3.4, np.array([0, 7.2, 0.5])
    rows = np.stack([right * s, -true_up * s, direction])
    return np.concatenate([rows, (np.array([size / 2, size / 2, 0]) - rows @ c)[:, None]], 1).astype(F)


def _cylinder(positions: Array) -> Array:
    theta = np.arctan2(positions[:, 0], positions[:, 2] - AXIS_Z)
    return np.stack(
        [TEX_W * (0.5 + theta / (2 * np.pi)), (Y_TOP - positions[:, 1]) / Y_SPAN * TEX_H], 1
    ).astype(F)


def _ambient_occlusion(canon: Array, normals: Array, tris: Array, kind: Array) -> dict[int, Array]:
    """Cosine-weighted visibility from 64 directions of a Fibonacci sphere, by world."""
    seen = {world: np.zeros(len(canon), F) for world in _AO_BIAS}
    total = {world: np.full(len(canon), 1e-6, F) for world in _AO_BIAS}
    skip = np.zeros(K.KINDS, np.bool_)
    skip[K.LASH] = True
    for i in range(64):
        y = 1 - 2 * (i + 0.5) / 64
        r, a = np.sqrt(1 - y * y), i * 2.399963
        direction = np.array([r * np.cos(a), y, r * np.sin(a)], F)
        m = light_matrix(direction, 192)
        q = canon @ m[:, :3].T + m[:, 3]
        z = np.full((192, 192), -1e9, F)
        K.depth_only(q.astype(F), tris, kind, skip, z)
        for world, bias in _AO_BIAS.items():
            K.occlusion(canon, normals, q.astype(F), z, direction, F(bias), seen[world], total[world])
    return {
        world: np.asarray(0.12 + 0.88 * np.clip(seen[world] / total[world], 0, 1) ** 1.2).astype(F)
        for world in _AO_BIAS
    }


def _maps(
    canon: Array, uv: Array, tris: Array, kind: Array, ao: Array, masks: dict[str, Array]
) -> dict[str, Array]:
    """Vertex masks drawn into the cylinder, the lash line round the eye openings, and the axes."""
    radius = np.hypot(canon[:, 0], canon[:, 2] - AXIS_Z).astype(F)
    depth, number = np.full((TEX_H, TEX_W), -1e9, F), np.full((TEX_H, TEX_W), -1, np.int32)
    bary, no_hair = np.zeros((TEX_H, TEX_W, 2), F), np.zeros((2, 2, 3), F)
    K.raster(uv, radius, tris, kind, np.zeros(K.KINDS, np.bool_), uv, ao, no_hair, depth, number, bary)
    maps: dict[str, Array] = {}
    t = tris[np.maximum(number, 0)]
    wb, wc = bary[..., 0], bary[..., 1]
    for n in ("lips", "ears", "eyelids"):
        m = masks[n]
        value = (1 - wb - wc) * m[t[..., 0]] + wb * m[t[..., 1]] + wc * m[t[..., 2]]
        maps[n] = np.where(number >= 0, value, 0).astype(F)
    hole = ((number < 0) * 255).astype(np.uint8)
    hole[:, : TEX_W // 2 - 64] = 0
    hole[:, TEX_W // 2 + 64 :] = 0
    hole[:90], hole[150:] = 0, 0
    # In world 1 the socket behind the eye covers the opening, so this line is empty: lashes are not seen.
    away = np.minimum(cv2.distanceTransform(255 - hole, cv2.DIST_L2, 5).astype(F), 50)
    above = cv2.GaussianBlur(np.roll(hole, -3, 0).astype(F) / 255, (0, 0), 1.2)
    maps["lash"] = np.exp(-((away / 1.6) ** 2)) * (0.35 + 0.65 * np.clip(above * 2, 0, 1))
    v, u = np.mgrid[:TEX_H, :TEX_W].astype(F) + F(0.5)
    maps["theta"] = ((u / TEX_W - 0.5) * 360).astype(F)
    maps["y"] = (Y_TOP - v / TEX_H * Y_SPAN).astype(F)
    return maps


def _lid_line(canon: Array, uv: Array, tris: Array, kind: Array) -> Array:
    """Nearness to the rim of the eye openings, 1 on it, stronger at the upper lid: float32 `[TEX_H, TEX_W]`."""
    radius = np.hypot(canon[:, 0], canon[:, 2] - AXIS_Z).astype(F)
    depth, number = np.full((TEX_H, TEX_W), -1e9, F), np.full((TEX_H, TEX_W), -1, np.int32)
    bary, no_hair = np.zeros((TEX_H, TEX_W, 2), F), np.zeros((2, 2, 3), F)
    K.raster(uv, radius, tris, kind, np.zeros(K.KINDS, np.bool_), uv, radius, no_hair, depth, number, bary)
    eye = (number >= 0) & np.isin(kind[np.maximum(number, 0)], (K.EYE_L, K.EYE_R))
    away = np.minimum(cv2.distanceTransform(255 - eye.astype(np.uint8) * 255, cv2.DIST_L2, 5).astype(F), 50)
    above = cv2.GaussianBlur(np.roll(eye, -6, 0).astype(F), (0, 0), 1.2)
    return np.asarray(np.exp(-((away / 2.6) ** 2)) * (0.2 + 0.8 * np.clip(above * 2, 0, 1))).astype(F)


def _sign(name: str) -> tuple[str, int]:
    for negative, positive in _OPPOSITES:
        if name.endswith("-" + negative):
            return name[: -len(negative) - 1], -1
        if name.endswith("-" + positive):
            return name[: -len(positive) - 1], 1
    return name, 0


def _details(names: list[str]) -> tuple[dict[str, tuple[str | None, str | None]], list[str]]:
    """Detail targets sorted into opposite pairs and single shapes, in the order of the asset."""
    pairs: dict[str, tuple[str | None, str | None]] = {}
    shapes = []
    for n in names:
        if n.split("/")[0] in ("macrodetails", "unit") or any(part in n for part in _UNUSED):
            continue
        stem, sign = _sign(n)
        minus, plus = pairs.get(stem, (None, None))
        if sign == 0:
            shapes.append(n)
        else:
            pairs[stem] = (n, plus) if sign < 0 else (minus, n)
    return pairs, shapes


@functools.cache
def head() -> Head:
    """Load the asset and derive the shared head (about 0.4 s, once per process)."""
    with resources.files("v2f_engine").joinpath("assets/people/head.npz").open("rb") as stream:
        d = dict(np.load(stream))
    base = d["positions"].astype(F)
    tris, kind = d["triangles"].astype(np.int32), d["material"].astype(np.int32)
    names = [str(n) for n in d["target_names"]]
    targets = {}
    for i, n in enumerate(names):
        s = slice(d["target_starts"][i], d["target_starts"][i + 1])
        targets[n] = (d["target_indices"][s].astype(np.int64), d["target_deltas"][s].astype(F))
    canon = base.copy()
    for race in RACES:
        for gender in ("male", "female"):
            add_target(canon, targets, f"macrodetails/{race}-{gender}-young", 1 / 6)
    masks = {str(n): d["masks"][i].astype(F) / 255 for i, n in enumerate(d["mask_names"])}
    uv = _cylinder(canon)
    skin = np.zeros(len(base), bool)
    skin[tris[kind == K.SKIN]] = True
    ao = _ambient_occlusion(canon, normals_of(canon, tris), tris, kind)
    span = uv[tris][:, :, 0].max(1) - uv[tris][:, :, 0].min(1)
    unseamed = (kind == K.SKIN) & (span < TEX_W / 3)
    ok = unseamed & (masks["inside-mouth"][tris].max(1) < 0.5)
    maps = _maps(canon, uv, tris[ok], kind[ok], ao[1], masks)
    seen = ok | np.isin(kind, (K.EYE_L, K.EYE_R))
    maps["lid line"] = _lid_line(canon, uv, tris[seen], kind[seen])
    pairs, shapes = _details(names)
    lip = np.where((masks["lips"] > 0.5) & skin)[0]
    left, right = lip[canon[lip, 0].argmax()], lip[canon[lip, 0].argmin()]
    all_skin = np.where(skin)[0]
    corner = canon[tris]
    eye_height = canon[np.unique(tris[kind == K.EYE_L]), 1].mean()
    top = (corner[:, :, 1].max(1) > 7.56) | (corner[:, :, 2].max(1) < 0.9)
    over = unseamed & (corner[:, :, 1].max(1) > 7.2) & top & (masks["ears"][tris].max(1) < 0.3)
    hat_vertices, inverse = np.unique(tris[over], return_inverse=True)
    return Head(
        base=base,
        tris=tris,
        kind=kind,
        targets=targets,
        uv=uv,
        ao=ao,
        inside=(masks["inside-mouth"] * skin).astype(F),
        joints={str(n): d["joints"][i].astype(np.int64) for i, n in enumerate(d["joint_names"])},
        maps=maps,
        pairs=pairs,
        shapes=shapes,
        mouth=(int(right), int(left)),
        nose=int(all_skin[canon[all_skin, 2].argmax()]),
        ears=masks["ears"] > 0.3,
        hat_vertices=hat_vertices,
        hat_tris=inverse.reshape(-1, 3).astype(np.int32),
        upper_lashes=(kind == K.LASH) & (corner[:, :, 1].mean(1) > eye_height),
    )
