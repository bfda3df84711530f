"""One image of a person: expression, worn things, camera, light, rasterising, shading, sensor."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from v2f_engine.batch import IMAGE_SIZE
from v2f_engine.randomness import Purpose
from v2f_engine.rendered import palette, sensor
from v2f_engine.rendered import raster as K
from v2f_engine.rendered.camera import SIDE, Camera, draw_distance, draw_pose, landmarks, rotation
from v2f_engine.rendered.clothing import bust, hat
from v2f_engine.rendered.draw import Draw, draws
from v2f_engine.rendered.expression import Expression, draw_expression
from v2f_engine.rendered.head import Array, F, add_target, head, light_matrix, normals_of
from v2f_engine.rendered.lighting import draw_background, draw_light
from v2f_engine.rendered.person import Person
from v2f_engine.rendered.shade import covered, shade

SHADOW_SIDE = 160
AMBIENT = {1: 1.0, 2: 0.58}
"""Factor on the ambient light by world: in world 2 all of it reaches the skin."""
_LATE = 600
"""World 2's own draws begin here in the image's stream; the others use fewer than 300."""
NECK = np.array([0, 6.2, 0.1])


def _flags(*kinds: int) -> Array:
    out = np.zeros(K.KINDS, np.bool_)
    out[list(kinds)] = True
    return out


CULLED = _flags(K.SKIN, K.EYE_L, K.EYE_R, K.TEETH_U, K.TEETH_L, K.TONGUE, K.SHELL, K.HAT)
"""Surfaces seen from outside only."""
SHADOWLESS = _flags(K.TEETH_U, K.TEETH_L, K.TONGUE, K.LASH, K.LENS)


@dataclass(frozen=True)
class _Mesh:
    """Everything to be drawn, in head space."""

    vertices: Array
    """float32 `[V, 16]`, columns as `raster` names them."""
    positions: Array
    """float32 `[V, 3]`, the same again: what follows multiplies it by matrices."""
    tris: Array
    kind: Array


class _Parts:
    """Meshes being collected."""

    def __init__(self) -> None:
        self.positions: list[Array] = []
        self.rows: list[Array] = []
        self.tris: list[Array] = []
        self.kinds: list[Array] = []
        self.count = 0

    def add(
        self,
        pos: Array,
        normals: Array,
        uv: Array,
        ao: Array | float,
        layer: Array | float,
        tris: Array,
        kind: Array | int,
    ) -> None:
        rows = np.zeros((len(pos), 16), F)
        rows[:, K.NORMAL : K.NORMAL + 3], rows[:, K.POSITION : K.POSITION + 3] = normals, pos
        rows[:, K.UV : K.UV + 2], rows[:, K.AO], rows[:, K.LAYER] = uv, ao, layer
        self.positions.append(pos)
        self.rows.append(rows)
        self.tris.append(tris + np.int32(self.count))
        self.kinds.append(np.full(len(tris), kind, np.int32) if isinstance(kind, int) else kind)
        self.count += len(pos)

    def join(self) -> _Mesh:
        columns = (self.rows, self.positions, self.tris, self.kinds)
        return _Mesh(*(np.concatenate(column) for column in columns))


def _assemble(
    p: Person,
    pos: Array,
    expression: Expression,
    hat_tone: float | None,
    glasses: bool,
    tinted: bool,
    cam: Camera,
) -> _Mesh:
    """Head, hair, hat, glasses and collar of one image. The rasteriser draws them in this order."""
    h, parts = head(), _Parts()
    normals = normals_of(pos, h.tris)
    shown = h.kind != K.LASH if expression.shows_teeth else (h.kind < K.TEETH_U) | (h.kind > K.LASH)
    if p.world > 1:
        shown = shown | h.upper_lashes
    parts.add(pos, normals, h.uv, h.ao[p.world], h.inside, h.tris[shown], h.kind[shown])
    if p.hair_mesh is not None:
        m = p.hair_mesh
        hanging = m.scalp[m.tris[:, 0]] < 0
        tris = m.tris if hat_tone is None else m.tris[hanging]
        if len(tris):
            moved = m.positions.copy()
            on = m.scalp >= 0
            moved[on] = pos[m.scalp[on]] + m.offset[on]
            loose = m.loose if hat_tone is None else m.loose[hanging]
            kind = np.where(loose, K.HAIR, K.SHELL).astype(np.int32)
            parts.add(moved, normals_of(moved, tris), m.uv, np.ones(len(moved), F), m.layer, tris, kind)
    if hat_tone is not None:
        worn, above = hat(pos, normals, hat_tone, over_hair=p.hair_mesh is not None)
        uv = h.uv[h.hat_vertices]
        ones = np.ones(len(worn), F)
        parts.add(worn, normals_of(worn, h.hat_tris), uv, ones, above, h.hat_tris, K.HAT)
    if glasses and p.glasses is not None:
        g = p.glasses
        shown = np.ones(len(g.kind), bool) if tinted else g.kind == K.FRAME
        tris, n = g.tris[shown], len(g.positions)
        flat = np.zeros((n, 2), F)
        normals = normals_of(g.positions, tris)
        parts.add(g.positions, normals, flat, np.ones(n, F), np.zeros(n, F), tris, g.kind[shown])
    body, tris = bust()
    body = ((body - NECK) @ rotation(cam.yaw * 0.45, cam.pitch * 0.2, cam.roll * 0.3).T) @ cam.turn + NECK
    body = body.astype(F)
    ones = np.ones(len(body), F)
    parts.add(body, normals_of(body, tris), body[:, :2] * F(40), ones, ones, tris, K.CLOTH)
    return parts.join()


def _draw_gaze(d: Draw, yaw: float, pitch: float, world: int) -> Array:
    """Unit gaze directions float32 `[2, 3]` in head space, drawn towards the camera."""
    across, up = d.n(0, 9), d.n(0, 5)
    follow = d.u(0, 0.45)
    if world == 1:
        across, up = -yaw * follow + across, up - 0.3 * pitch
    else:  # people look at the camera, or nearly
        across, up = -yaw * (0.3 + follow) + 0.4 * across, 0.6 * up + 0.4 * pitch
    out = []
    for inward in (-1.5, 1.5):
        a, b = np.deg2rad([np.clip(across + inward, -28, 28), np.clip(up, -14, 14)])
        out.append([np.sin(a) * np.cos(b), np.sin(b), np.cos(a) * np.cos(b)])
    return np.array(out, F)


def _draw_plain(late: Draw) -> float:
    """How plain the background is: nearly a wall in half of the images."""
    plain, strength = late.chance(0.5), late.u(0.75, 1.0)
    return strength if plain else 0.0


def _draw_cloth(d: Draw, colours: Array) -> Array:
    colours = colours.copy()
    cloth = d.take(3) * 200 + 15
    knit = d.take(3) * 190 + 15
    colours[palette.HAT] = palette.linear(*(knit * 0.6 + knit.mean() * 0.4))
    colours[palette.CLOTH] = palette.linear(*(cloth * 0.5 + cloth.mean() * 0.5))
    return colours


def _develop(d: Draw, p: Person, image: Array, canvas: Array, seen: Array) -> tuple[Array, float]:
    """Exposure, encoding, lens blur, saturation and noise: uint8 `[112, 112, 3]` and the blur's sigma."""
    level = float(sensor.face_level(image, canvas)) / p.albedo
    exposure = (0.97 if p.world == 1 else 0.88) / (level + 0.04) ** 0.8 * p.exposure * np.exp(d.n(0.0, 0.20))
    out: Array = np.empty((IMAGE_SIZE, IMAGE_SIZE, 3), F)
    sensor.finish(image, seen, F(exposure), F(d.u(0.85, 1.1) + (0.0 if p.world == 1 else 0.06)), out)
    blur = d.u(0.3, 1.3) if d.chance(0.3) else 0.0
    if blur > 0.35:
        out = cv2.GaussianBlur(out, (0, 0), blur)
    saturation = d.n(1.0, 0.12)
    if d.chance(0.02):
        saturation = 0.0
    final = np.empty((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    sensor.add_noise(
        out,
        F(saturation),
        F(abs(d.n(0, 2.5 if p.world == 1 else 1.5)) + 0.5),
        np.uint32(int(d.u() * 2**24)),
        final,
    )
    return final, blur


def render_image(p: Person, image: int) -> tuple[Array, dict[str, float]]:
    """Image number `image` of `p`: uint8 `[112, 112, 3]` RGB and its attributes."""
    h = head()
    stream = draws(p.seed, Purpose.RENDER_IMAGE, p.identity, image, 640)
    d, late = Draw(stream), Draw(stream[_LATE:])
    yaw, pitch, roll, tilt = draw_pose(d)
    expression = draw_expression(d, p.resting, p.world)
    pos = p.neutral.copy()
    for name, weight in expression.weights.items():
        add_target(pos, h.targets, name, weight)
    glasses = p.glasses is not None and d.chance(p.glasses_habit)
    tinted = d.chance(0.06)
    hat_tone = d.u(-0.06, 0.10) if d.chance(p.hat_habit) else None
    cam = Camera(yaw, pitch, roll, tilt, draw_distance(d))
    mesh = _assemble(p, pos, expression, hat_tone, glasses, tinted, cam)

    pixels, inverse = cam.pixels(mesh.positions, cam.align(landmarks(pos)))

    light = draw_light(d, cam.turn, AMBIENT[p.world])
    light_m = light_matrix(light.direction, SHADOW_SIDE)
    lit = (mesh.positions @ light_m[:, :3].T + light_m[:, 3]).astype(F)
    shadow = np.full((SHADOW_SIDE, SHADOW_SIDE), -1e9, F)
    K.depth_only(lit, mesh.tris, mesh.kind, SHADOWLESS, shadow)

    canvas = K.new_canvas(SIDE * SIDE)
    K.paint(pixels, inverse, mesh.tris, mesh.kind, CULLED, mesh.vertices, p.hair_maps, SIDE, SIDE, canvas)
    seen = covered(canvas, SIDE * SIDE)
    picture: Array = draw_background(d, SIDE, _draw_plain(late) if p.world > 1 else 0.0)
    gaze = _draw_gaze(d, yaw, pitch, p.world)
    colours = _draw_cloth(d, p.colours)
    eyes = np.stack([pos[h.joints[f"joint-{s}-eye"]].mean(0) for s in ("l", "r")]).astype(F)
    softness = F(0.7 + 3.0 * (1 - light.hardness))
    shade(
        seen, canvas, inverse, mesh.tris, mesh.kind, mesh.vertices, p.skin, p.hair_maps, colours, eyes, gaze,
        p.iris, light.direction, light.key, light.sky, light.ground, light.rim, cam.eye, shadow, light_m,
        softness, F(p.gloss * d.u(0.5, 1.4)), p.world, picture,
    )  # fmt: skip
    final, blur = _develop(d, p, picture, canvas, seen)
    return final, {
        "yaw": yaw,
        "pitch": pitch,
        "roll": tilt,
        "expression": expression.strength,
        "light_azimuth": light.azimuth,
        "light_elevation": light.elevation,
        "light_intensity": light.intensity,
        "ambient": light.ambient,
        "blur": blur,
        "glasses": float(glasses),
        "hat": float(hat_tone is not None),
        "age": p.age,
        "gender": p.gender,
    }
