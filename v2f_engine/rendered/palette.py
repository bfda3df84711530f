"""Colours of skin, hair and eyes: tables in sRGB, and the draw of one person's tones in linear light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from v2f_engine.rendered.draw import Draw
from v2f_engine.rendered.head import Array, F
from v2f_engine.rendered.morph import Traits

RGB = tuple[float, float, float]

SKINS = np.array(
    [[248, 216, 196], [236, 192, 164], [208, 158, 124], [158, 108, 78], [104, 70, 52], [66, 44, 36]]
)
"""Light to dark."""
DARKNESS = np.array([0.72, 0.33, 0.2])
"""Mean place on the scale of SKINS, by race."""

HAIRS: dict[str, tuple[RGB, RGB, RGB]] = {  # strand, tip, weights by race
    "black": ((22, 18, 17), (44, 38, 36), (70, 70, 8)),
    "dark brown": ((48, 32, 24), (84, 58, 42), (20, 22, 26)),
    "brown": ((84, 56, 38), (128, 92, 62), (5, 5, 26)),
    "light brown": ((122, 90, 60), (168, 132, 94), (1, 1, 16)),
    "blond": ((176, 140, 92), (222, 192, 142), (1, 1, 16)),
    "red": ((126, 60, 30), (182, 100, 54), (0.5, 0.5, 6)),
    "dyed": ((96, 30, 52), (150, 60, 90), (2, 2, 2)),
}
IRISES: dict[str, tuple[RGB, RGB, RGB]] = {  # outer, inner, weights by race
    "dark": ((46, 28, 18), (66, 40, 24), (80, 75, 10)),
    "brown": ((84, 52, 28), (124, 80, 44), (18, 22, 28)),
    "hazel": ((92, 84, 46), (140, 98, 50), (1, 2, 16)),
    "green": ((74, 98, 68), (128, 118, 66), (0.5, 0.5, 12)),
    "blue": ((70, 108, 148), (128, 160, 184), (0.5, 0.5, 26)),
    "grey": ((96, 112, 124), (140, 150, 156), (0.2, 0.2, 10)),
}
FRAMES: tuple[tuple[RGB, float], ...] = (
    ((20, 20, 22), 5),
    ((70, 45, 28), 3),
    ((150, 120, 60), 1),
    ((120, 122, 126), 2),
    ((110, 25, 30), 1),
    ((30, 45, 90), 1),
)
"""Spectacle frames and their weights."""

HAIR, TIP, CLOTH, SCLERA, TEETH, LASH, FRAME, LENS, HAT = range(9)
"""Rows of the colour table float32 `[9, 3]` that the shading kernel reads."""


def linear(*srgb: float) -> Array:
    """sRGB 0..255 to linear light, float64 `[3]`."""
    return np.asarray((np.array(srgb, np.float64) / 255) ** 2.2)


@dataclass(frozen=True)
class Tones:
    """Linear RGB float64 `[3]` each; `dark` 0..1 along SKINS; `grey` 0..1."""

    skin: Array
    dark: float
    hair: Array
    tip: Array
    brow: Array
    grey: float
    iris: Array
    """float32 `[10]`: outer RGB, inner RGB, radius (sine), pupil share, two pattern numbers."""


def _pick(d: Draw, table: dict[str, tuple[RGB, RGB, RGB]], race: Array) -> tuple[RGB, RGB, RGB]:
    return list(table.values())[d.pick([float(np.dot(entry[2], race)) for entry in table.values()])]


def draw_tones(d: Draw, t: Traits, late: Draw | None) -> Tones:
    """One person's colours; hair greys with age. `late` are world 2's own draws: many women dye it; None in world 1."""
    last = len(SKINS) - 1
    tone = float(np.clip(t.race @ DARKNESS + d.n(0, 0.09), 0.0, 1.0)) * last
    i = min(int(tone), last - 1)
    rgb = SKINS[i] + (SKINS[i + 1] - SKINS[i]) * (tone - i)
    yellow = np.array([0.0, 0.015, -0.05]) * d.n(0.25)
    rgb = rgb * (1 + yellow * (1.0 if late is None else 0.6) + np.array([0.02, -0.012, -0.008]) * d.n())
    if late is not None:
        rgb = rgb + (rgb.mean() - rgb) * 0.09
    strand, tip, _ = _pick(d, HAIRS, t.race)
    jitter = 1 + 0.18 * d.n()
    hair_rgb, tip_rgb = np.array(strand) * jitter, np.array(tip) * jitter
    grey = float(np.clip(d.n((t.age - 52) / 18, 0.35), 0, 1)) if t.age > 38 else 0.0
    if late is not None and late.chance(0.6) and not t.male:
        grey *= 0.2
    g = np.array([172, 170, 168]) * d.u(0.75, 1.12)
    hair = linear(*np.clip(hair_rgb + (g - hair_rgb) * grey, 12, 240))
    tips = linear(*np.clip(tip_rgb + (g * 1.1 - tip_rgb) * grey, 12, 245))
    brow = np.array(strand) * d.u(0.6, 1.0) * (1 - 0.1) + (g * 0.7 - np.array(strand)) * grey * 0.5
    outer, inner, _ = _pick(d, IRISES, t.race)
    f = 1 + 0.15 * d.n()
    iris = [*linear(*np.clip(np.array(outer) * f, 8, 220)), *linear(*np.clip(np.array(inner) * f, 8, 220))]
    iris += [d.u(0.43, 0.49), d.u(0.32, 0.46), d.u(9, 23), d.u(0, 6)]
    return Tones(
        skin=linear(*np.clip(rgb, 20, 252)),
        dark=tone / last,
        hair=hair,
        tip=tips,
        brow=linear(*np.clip(brow, 10, 180)),
        grey=grey,
        iris=np.array(iris, F),
    )


def colour_table(d: Draw, tones: Tones, male: bool, world: int) -> Array:
    """The person's rows of the kernel's colour table; CLOTH and HAT are drawn per image."""
    table = np.zeros((9, 3), F)
    table[HAIR], table[TIP] = tones.hair, tones.tip
    table[SCLERA] = linear(d.u(222, 238), d.u(214, 228), d.u(204, 222)) * 0.66
    table[TEETH] = linear(d.u(205, 238), d.u(195, 228), d.u(165, 215)) * 0.8
    table[LASH] = tones.brow * 0.5
    table[FRAME] = linear(*FRAMES[d.pick([weight for _, weight in FRAMES])][0])
    table[LENS] = linear(18, 18, 20)
    if world > 1:
        table[SCLERA] *= 0.86 * (1 - 0.45 * tones.dark)
        teeth = table[TEETH]
        teeth[1] = min(teeth[1], 0.94 * teeth[0])  # never green
        teeth[2] = np.clip(teeth[2], 0.70 * teeth[1], 0.94 * teeth[1])
        veil = 0.65 if male else 0.25  # lashes are thinner than a pixel
        table[LASH] = tones.brow * 0.25 * (1 - veil) + tones.skin * 0.8 * veil
    return table
