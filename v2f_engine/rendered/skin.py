"""The skin texture before hair: melanin and blood, creases, freckles, moles, blemishes, lips."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np

from v2f_engine.randomness import Purpose
from v2f_engine.rendered.draw import Draw, draws
from v2f_engine.rendered.head import TEX_H, TEX_W, Y_SPAN, Y_TOP, Array, F, head, smooth
from v2f_engine.rendered.morph import Traits
from v2f_engine.rendered.palette import Tones, linear

ABSORB_MELANIN = np.array([0.65, 1.0, 1.15])
ABSORB_BLOOD = np.array([0.08, 0.52, 0.46])
"""How much one unit of pigment darkens linear R, G, B."""


@dataclass(frozen=True)
class Grain:
    """Unit-variance fine noises float32 `[TEX_H, TEX_W]`, shifted to another place for every person."""

    fine: Array
    medium: Array
    strand: Array
    tuft: Array
    curl: Array


@functools.cache
def _grain() -> Grain:
    n = draws(0, Purpose.RENDER_PERSON, 2**32 - 1, 1, TEX_H * TEX_W * 2).reshape(2, TEX_H, TEX_W)

    def unit(x: Array) -> Array:
        return np.asarray((x - x.mean()) / x.std()).astype(F)

    return Grain(
        fine=unit(cv2.GaussianBlur(n[0], (0, 0), 0.7)),
        medium=unit(cv2.GaussianBlur(n[1], (0, 0), 1.8)),
        strand=unit(cv2.GaussianBlur(n[0], (0, 0), sigmaX=0.6, sigmaY=9)),
        tuft=unit(cv2.GaussianBlur(n[1], (0, 0), sigmaX=2.0, sigmaY=14)),
        curl=unit(cv2.GaussianBlur(n[1], (0, 0), 2.2)),
    )


def coarse_noise(d: Draw, rows: int, columns: int) -> Array:
    """Cubic noise around 0.5, float32 `[TEX_H, TEX_W]`, from a grid of uniforms."""
    grid = d.take(rows * columns).reshape(rows, columns)
    return np.asarray(cv2.resize(grid, (TEX_W, TEX_H), interpolation=cv2.INTER_CUBIC))


def _axes() -> tuple[Array, Array]:
    """`|theta|` as a row `[1, TEX_W]` and `y` as a column `[TEX_H, 1]`: what needs one of them is cheap."""
    maps = head().maps
    return np.abs(maps["theta"][:1]), maps["y"][:, :1]


def spot(angle: float, height: float, angle_width: float, height_width: float) -> Array:
    """A soft mirrored pair of spots at +-`angle` degrees."""
    th, y = _axes()
    away = ((th - angle) / angle_width) ** 2
    return np.asarray(np.exp(-away - ((y - height) / height_width) ** 2))


@dataclass(frozen=True)
class Skin:
    """Fields float32 `[TEX_H, TEX_W]` of the bare skin; `colour` `[TEX_H, TEX_W, 6]`, first three filled."""

    colour: Array
    grain: Grain
    creases: Array
    lips: Array
    gloss_noise: Array
    nose: Array


def _creases(d: Draw, old: float, low: Array, world: int) -> tuple[Array, Array]:
    """Shade about the eyes, and folds: beside the nose, on the forehead, crow's feet, between the brows."""
    th, y = _axes()
    bags = spot(21, 7.22, 9, 0.055) * d.u(0.0, 0.22) + spot(21, 7.44, 11, 0.07) * d.u(0.0, 0.14)
    fold_at = 14 + (7.02 - y) * d.u(14, 22)
    fold = np.exp(-(((th - fold_at) / 1.3) ** 2)) * smooth((7.05 - y) / 0.1) * smooth((y - 6.62) / 0.12)
    lines = np.zeros((TEX_H, TEX_W), F)
    for k in range(4):
        at = 7.66 + 0.07 * k + d.n(0, 0.012) + 0.00003 * head().maps["theta"][:1] ** 2 + 0.012 * (low - 0.5)
        lines += np.exp(-(((y - at) / 0.0085) ** 2)) * smooth((30 - th) / 14) * d.u(0.2, 1)
    feet = np.zeros((TEX_H, TEX_W), F)
    for k in range(3):
        at = 7.35 + (k - 1) * 0.05 * (th - 33) / 10
        feet += np.exp(-(((y - at) / 0.008) ** 2)) * smooth((th - 33) / 4) * smooth((47 - th) / 6)
    frown = np.exp(-(((th - 2.4) / 0.7) ** 2)) * smooth((y - 7.4) / 0.06) * smooth((7.62 - y) / 0.08)
    age = old * d.u(0.5, 1.3)
    if world > 1:  # wide enough to be seen in 112 pixels, of which one is two texels
        under = np.exp(-(((y - 7.225 + 0.00016 * (th - 21) ** 2) / 0.013) ** 2) - ((th - 21) / 11) ** 2)
        fine = np.asarray(cv2.GaussianBlur(0.65 * lines + 0.85 * feet + 0.18 * frown, (0, 0), 0.8))
        return bags * (0.6 + 0.7 * old), (0.06 + 0.6 * age) * fold + age * (fine + 0.45 * under)
    return bags, 0.30 * (0.15 + age) * fold + age * (0.25 * lines + 0.25 * feet + 0.2 * frown)


def _dots(
    canvas: Array,
    where: Array,
    width: float,
    top: float,
    span: float,
    size: tuple[int, int],
    depth: tuple[float, float],
) -> None:
    """Soft discs at random places `where` `[n, 3]` (angle, height, strength) over `width` degrees."""
    for a, b, c in where:
        x = TEX_W * (0.5 + (a - 0.5) * width / 360)
        y = (Y_TOP - top - span * b) / Y_SPAN * TEX_H
        centre, radius = (int(x * 16), int(y * 16)), int(size[0] + size[1] * c)
        cv2.circle(canvas, centre, radius, float(depth[0] + depth[1] * c), -1, cv2.LINE_AA, 4)


def _marks(d: Draw, dark: float) -> tuple[Array, Array]:
    """Freckles and moles (melanin), blemishes (blood)."""
    marks, red = np.zeros((TEX_H, TEX_W), F), np.zeros((TEX_H, TEX_W), F)
    freckles = max(0.0, d.n(-0.5, 0.6)) * (1 - dark)
    some = d.take(180 * 3).reshape(-1, 3)[: int(180 * min(1.0, freckles))] - np.array([0, 0.5, 0], F)
    _dots(marks, some, 76, 7.05, 0.3, (8, 12), (0.10, 0.16))
    moles = d.take(14 * 3).reshape(-1, 3)
    _dots(marks, moles[: d.pick([3, 3, 3, 2, 2, 1, 1, 1])], 120, 6.4, 1.35, (14, 26), (0.5, 0.4))
    blemishes = d.take(24 * 3).reshape(-1, 3)
    _dots(red, blemishes[: int(max(0, d.n(2, 5)))], 110, 6.35, 1.4, (12, 30), (0.25, 0.35))
    return cv2.GaussianBlur(marks, (0, 0), 0.7), cv2.GaussianBlur(red, (0, 0), 1.0)


def _paint_lips(d: Draw, skin: Array, traits: Traits, tones: Tones, medium: Array, world: int) -> Array:
    """Lips in the skin's own hue, with or without lipstick; returns their mask."""
    lips = smooth((cv2.GaussianBlur(head().maps["lips"], (0, 0), 0.9) - 0.25) / 0.5)
    lipstick = 0.0 if traits.male else max(0.0, d.n(-0.1, 0.5))
    strength = 0.85
    flesh = (0.80, 0.50, 0.50)
    if world > 1:  # as a lip is: the skin, redder, and rarely painted
        lipstick, strength, flesh = min(0.6 * lipstick, 0.45), 0.78, (0.82, 0.56, 0.55)
        lips = cv2.GaussianBlur(lips, (0, 0), 1.0)
    lip = tones.skin * np.array(flesh) * d.u(0.75, 1.05) * (1 + 0.15 * (1 - tones.dark))
    stick = linear(d.u(130, 205), d.u(30, 100), d.u(45, 110))
    lip = lip + (stick - lip) * min(0.85, lipstick)
    for c in range(3):
        skin[..., c] += (lip[c] * (0.92 + 0.1 * medium * 0.4) - skin[..., c]) * lips * strength
    return np.asarray(lips)


def bare_skin(d: Draw, traits: Traits, tones: Tones, world: int) -> Skin:
    """Draw the skin without hair, brows or beard."""
    maps, grain = head().maps, _grain()
    low, mid, high = coarse_noise(d, 7, 14), coarse_noise(d, 14, 28), coarse_noise(d, 28, 60)
    shift = (int(d.u(0, TEX_H)), int(d.u(0, TEX_W)))
    names = ("fine", "medium", "strand", "tuft", "curl")
    own = Grain(**{name: np.roll(getattr(grain, name), shift, (0, 1)) for name in names})
    blood = 0.10 * (low - 0.5) + 0.10 * (mid - 0.5)
    flush = d.u(0.0, 0.22)
    cheeks = spot(d.u(22, 34), d.u(6.9, 7.06), 13, 0.2)
    nose = spot(0, 7.02, 6, 0.12)
    blood = blood + flush * cheeks + d.u(0, 0.22) * nose + 0.05 * maps["ears"] + 0.06 * maps["eyelids"]
    melanin = 0.14 * (mid - 0.5) + 0.10 * (high - 0.5) + 0.016 * own.medium * d.u(0.4, 1.6) + 0.006 * own.fine
    bags, creases = _creases(d, traits.old, low, world)
    marks, red = _marks(d, tones.dark)
    shade = melanin + bags * (0.7 + 0.5 * tones.dark) + creases + marks
    skin = np.empty((TEX_H, TEX_W, 6), F)
    for c in range(3):
        pigment = -ABSORB_MELANIN[c] * shade - ABSORB_BLOOD[c] * (blood + red)
        skin[..., c] = tones.skin[c] * np.exp(pigment)
    lips = _paint_lips(d, skin, traits, tones, own.medium, world)
    return Skin(skin, own, creases, lips, high, nose)
