"""What one image of a person shows: expression, worn things, camera, light, background, film. Nothing is drawn yet.

A `Scene` is the seam between drawing lots and drawing pixels: `assemble` takes every number of an image's stream, and
`picture.draw` (numba, one scene) or `batched.draw` (torch, many at a time) take none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from v2f_engine.randomness import Purpose
from v2f_engine.rendered import palette
from v2f_engine.rendered import raster as K
from v2f_engine.rendered.camera import Camera, draw_distance, draw_pose, landmarks, rotation
from v2f_engine.rendered.clothing import bust, hat
from v2f_engine.rendered.draw import Draw, draws
from v2f_engine.rendered.expression import Expression, draw_expression
from v2f_engine.rendered.head import Array, F, add_target, head, light_matrix, normals_of
from v2f_engine.rendered.lighting import Light, draw_background, draw_light
from v2f_engine.rendered.person import Person

SHADOW_SIDE = 160
"""Pixels of the depth map's side."""
SCENES_AT_ONCE = 16
"""So many are assembled, a megabyte each, and drawn together by a renderer that can."""
AMBIENT = {1: 1.0, 2: 0.58}
"""Factor on the ambient light by world: in world 2 all of it reaches the skin."""
_LATE = 600
"""World 2's own draws begin here in the image's stream; the others use fewer than 300."""
NECK = np.array([0, 6.2, 0.1])


@dataclass(frozen=True)
class Film:
    """How the camera develops: `exposure(level)` for the level measured, then contrast, blur, saturation, noise."""

    albedo: float
    brightness: float
    skin: float
    jitter: float
    contrast: float
    blur: float
    """Sigma in pixels; up to 0.35 nothing is blurred."""
    saturation: float
    noise: float
    """Standard deviation in grey levels."""
    noise_seed: int

    def exposure(self, level: float) -> float:
        """Factor on linear light where the middle of the picture has the mean `level`."""
        darker: float = (level / self.albedo + 0.04) ** 0.8
        return self.brightness / darker * self.skin * self.jitter


@dataclass(frozen=True)
class Scene:
    """One image before it is drawn; arrays of the person are shared, not copied."""

    world: int
    vertices: Array
    """float32 `[V, 16]`, columns as `raster` names them, head space."""
    tris: Array
    """int32 `[T, 3]`; the first of two equally near triangles is seen."""
    kind: Array
    """int32 `[T]`."""
    pixels: Array
    """float32 `[V, 2]`: super-sampled raster coordinates, pixel centres at +0.5."""
    inverse: Array
    """float32 `[V]`: 1/depth."""
    lit: Array
    """float32 `[V, 3]`: pixel and height in the depth map of the light, `SHADOW_SIDE` wide."""
    light_m: Array
    """float32 `[3, 4]`: head space to that."""
    light: Light
    softness: np.float32
    """How far apart the shadow is looked up, in its pixels."""
    eye: Array
    """float32 `[3]`: the camera's place."""
    skin: Array
    hair_maps: Array
    colours: Array
    iris: Array
    """As of `Person`; `colours` with this image's cloth."""
    eyes: Array
    gaze: Array
    """float32 `[2, 3]`: centres of the eyeballs and where they look."""
    gloss: np.float32
    """Factor on the skin's shine."""
    background: Array
    """float32 `[28, 28, 3]`, linear; `lighting.enlarge` makes it a picture."""
    film: Film
    attributes: dict[str, float]


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


def _draw_film(d: Draw, p: Person) -> Film:
    jitter = float(np.exp(d.n(0.0, 0.20)))
    contrast = d.u(0.85, 1.1) + (0.0 if p.world == 1 else 0.06)
    blur = d.u(0.3, 1.3) if d.chance(0.3) else 0.0
    saturation = d.n(1.0, 0.12)
    if d.chance(0.02):
        saturation = 0.0
    return Film(
        albedo=p.albedo,
        brightness=0.97 if p.world == 1 else 0.88,
        skin=p.exposure,
        jitter=jitter,
        contrast=contrast,
        blur=blur,
        saturation=saturation,
        noise=abs(d.n(0, 2.5 if p.world == 1 else 1.5)) + 0.5,
        noise_seed=int(d.u() * 2**24),
    )


def _draw_cloth(d: Draw, colours: Array) -> Array:
    colours = colours.copy()
    cloth = d.take(3) * 200 + 15
    knit = d.take(3) * 190 + 15
    colours[palette.HAT] = palette.linear(*(knit * 0.6 + knit.mean() * 0.4))
    colours[palette.CLOTH] = palette.linear(*(cloth * 0.5 + cloth.mean() * 0.5))
    return colours


def assemble(p: Person, image: int) -> Scene:
    """Image number `image` of `p`: all lots drawn, nothing else."""
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
    background = draw_background(d, _draw_plain(late) if p.world > 1 else 0.0)
    gaze = _draw_gaze(d, yaw, pitch, p.world)
    colours = _draw_cloth(d, p.colours)
    gloss = F(p.gloss * d.u(0.5, 1.4))
    film = _draw_film(d, p)
    return Scene(
        world=p.world,
        vertices=mesh.vertices,
        tris=mesh.tris,
        kind=mesh.kind,
        pixels=pixels,
        inverse=inverse,
        lit=(mesh.positions @ light_m[:, :3].T + light_m[:, 3]).astype(F),
        light_m=light_m,
        light=light,
        softness=F(0.7 + 3.0 * (1 - light.hardness)),
        eye=cam.eye,
        skin=p.skin,
        hair_maps=p.hair_maps,
        colours=colours,
        iris=p.iris,
        eyes=np.stack([pos[h.joints[f"joint-{s}-eye"]].mean(0) for s in ("l", "r")]).astype(F),
        gaze=gaze,
        gloss=gloss,
        background=background,
        film=film,
        attributes={
            "yaw": yaw,
            "pitch": pitch,
            "roll": tilt,
            "expression": expression.strength,
            "light_azimuth": light.azimuth,
            "light_elevation": light.elevation,
            "light_intensity": light.intensity,
            "ambient": light.ambient,
            "blur": film.blur,
            "glasses": float(glasses),
            "hat": float(hat_tone is not None),
            "age": p.age,
            "gender": p.gender,
        },
    )
