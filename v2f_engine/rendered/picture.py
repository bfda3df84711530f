"""One scene drawn by the numba kernels, the reference of every other renderer: rasterising, shading, sensor."""

from __future__ import annotations

import cv2
import numpy as np

from v2f_engine.batch import IMAGE_SIZE
from v2f_engine.rendered import raster as K
from v2f_engine.rendered import sensor
from v2f_engine.rendered.camera import SIDE
from v2f_engine.rendered.head import Array, F
from v2f_engine.rendered.lighting import enlarge
from v2f_engine.rendered.person import Person
from v2f_engine.rendered.scene import SHADOW_SIDE, Film, Scene, assemble
from v2f_engine.rendered.shade import covered, shade


def _flags(*kinds: int) -> Array:
    out = np.zeros(K.KINDS, np.bool_)
    out[list(kinds)] = True
    return out


CULLED = _flags(K.SKIN, K.EYE_L, K.EYE_R, K.TEETH_U, K.TEETH_L, K.TONGUE, K.SHELL, K.HAT)
"""Surfaces seen from outside only."""
SHADOWLESS = _flags(K.TEETH_U, K.TEETH_L, K.TONGUE, K.LASH, K.LENS)
LEAST_BLUR = 0.35
"""Sigma in pixels above which a lens blurs at all."""


def _develop(film: Film, image: Array, canvas: Array, seen: Array) -> Array:
    """Exposure, encoding, lens blur, saturation and noise: uint8 `[112, 112, 3]`."""
    exposure = film.exposure(float(sensor.face_level(image, canvas)))
    out: Array = np.empty((IMAGE_SIZE, IMAGE_SIZE, 3), F)
    sensor.finish(image, seen, F(exposure), F(film.contrast), out)
    if film.blur > LEAST_BLUR:
        out = cv2.GaussianBlur(out, (0, 0), film.blur)
    final = np.empty((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    sensor.add_noise(out, F(film.saturation), F(film.noise), np.uint32(film.noise_seed), final)
    return final


def draw(scene: Scene) -> Array:
    """The picture, uint8 `[112, 112, 3]` RGB."""
    s, light = scene, scene.light
    shadow = np.full((SHADOW_SIDE, SHADOW_SIDE), -1e9, F)
    K.depth_only(s.lit, s.tris, s.kind, SHADOWLESS, shadow)
    canvas = K.new_canvas(SIDE * SIDE)
    K.paint(s.pixels, s.inverse, s.tris, s.kind, CULLED, s.vertices, s.hair_maps, SIDE, SIDE, canvas)
    seen = covered(canvas, SIDE * SIDE)
    picture = enlarge(s.background, SIDE)
    shade(
        seen, canvas, s.inverse, s.tris, s.kind, s.vertices, s.skin, s.hair_maps, s.colours, s.eyes, s.gaze,
        s.iris, light.direction, light.key, light.sky, light.ground, light.rim, s.eye, shadow, s.light_m,
        s.softness, s.gloss, s.world, picture,
    )  # fmt: skip
    return _develop(s.film, picture, canvas, seen)


def render_image(p: Person, image: int) -> tuple[Array, dict[str, float]]:
    """Image number `image` of `p`: uint8 `[112, 112, 3]` RGB and its attributes."""
    scene = assemble(p, image)
    return draw(scene), scene.attributes
