"""Hair of the head as maps over the scalp: style, hairline, density, strands; and its paint on the skin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from v2f_engine.rendered.draw import Draw
from v2f_engine.rendered.facial_hair import FacialHair
from v2f_engine.rendered.head import TEX_H, TEX_W, Array, F, head, smooth
from v2f_engine.rendered.morph import Traits
from v2f_engine.rendered.palette import Tones
from v2f_engine.rendered.raster import jit
from v2f_engine.rendered.skin import Grain, Skin, coarse_noise, spot


@dataclass(frozen=True)
class Style:
    """One row of the table of hair styles; lengths in decimetres."""

    name: str
    men: float
    women: float
    thickness: float
    shells: int = 4
    curtain: float = 0.0
    """Height at which hanging hair ends; 0 for none, -1 for a drawn length."""
    wave: float = 0.0
    slants: bool = False
    stands: bool = False
    """The shells lean upwards."""
    may_recede: bool = False
    """May turn bald with age."""
    tapered: bool = False
    """Thinner at the sides."""


STYLES = (
    Style("shaved", 9, 1, 0.0, may_recede=True),
    Style("buzz", 16, 2, 0.035, shells=2, may_recede=True, tapered=True),
    Style("short", 30, 7, 0.13, slants=True, stands=True, may_recede=True, tapered=True),
    Style("part", 16, 5, 0.17, slants=True, stands=True, tapered=True),
    Style("bangs", 6, 6, 0.13, slants=True),
    Style("long", 3, 26, 0.13, curtain=5.6, wave=0.012),
    Style("wavy", 2, 20, 0.16, curtain=5.6, wave=0.05, slants=True),
    Style("curly", 9, 10, 0.34, shells=5),
    Style("back", 8, 13, 0.07, stands=True, may_recede=True, tapered=True),
    Style("bob", 1, 12, 0.15, curtain=-1.0, wave=0.01),
)
BY_NAME = {style.name: style for style in STYLES}


@dataclass(frozen=True)
class Hair:
    """`maps` float32 `[TEX_H, TEX_W, 3]`: density, alpha noise, tone; `line` `[TEX_W]`, the hairline."""

    style: Style
    maps: Array
    line: Array
    dense: bool


def _hairline(d: Draw, style: Style, t: Traits) -> Array:
    """Height of the hairline at the angle of every texel column."""
    th = np.abs(head().maps["theta"][0])
    top = d.n(7.93, 0.06)
    recede = max(0.0, d.n(0.05, 0.07) + (0.10 * t.gender * max(0, (t.age - 30) / 40)))
    corner = d.u(28, 42)
    widow = max(0.0, d.n(-0.01, 0.03))
    if style.name == "bangs":
        top, recede = d.u(7.60, 7.74), 0.0
    burn = d.u(6.95, 7.3) if t.gender > 0.5 else d.u(7.15, 7.45)
    temple = d.u(58, 68)
    front = top + recede * np.exp(-(((th - corner) / 13) ** 2)) - widow * np.exp(-((th / 7) ** 2))
    front = front - 0.18 * smooth((th - 30) / 40)
    side = burn + (front - burn) * smooth((temple + 9 - th) / 16)
    back = burn - (burn - 6.35) * smooth((th - 108) / 30)
    return np.asarray(np.where(th < 100, side, back), F)


def _strands(d: Draw, style: Style, g: Grain) -> tuple[Array, Array]:
    """Fine and coarse strand noise along the style's direction."""
    slant = d.n(0, 0.5) if style.slants else d.n(0, 0.15)
    if style.name == "curly":
        return 0.4 * g.fine + 0.9 * g.curl, g.curl
    if style.name in ("buzz", "shaved"):
        return 0.45 * g.fine, 0.4 * g.medium
    shear = np.array([[1, slant, -slant * 100], [0, 1, 0]], F)
    strand, tuft = (
        cv2.warpAffine(x, shear, (TEX_W, TEX_H), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        for x in (g.strand, g.tuft)
    )
    return strand, tuft


def draw_hair(d: Draw, t: Traits, g: Grain, world: int) -> Hair:
    """Choose a style and draw its maps."""
    m = head().maps
    style = STYLES[d.pick([s.men if t.male else s.women for s in STYLES])]
    if style.name == "long" and t.race[0] > 0.6 and d.chance(0.6):
        style = BY_NAME["curly"]
    line = _hairline(d, style, t)
    ragged = 0.05 * (coarse_noise(d, 4, 60) - 0.5) + 0.012 * g.strand
    feather = d.u(0.13, 0.24) if style.name != "bangs" else 0.10
    if world > 1:  # a softer hairline, strand by strand
        ragged = ragged + 0.02 * g.strand
        feather *= 1.3
    bald = t.male and style.may_recede and d.chance(0.12 + 0.35 * t.old)
    density = smooth((m["y"] + ragged - line[None]) / feather * 0.8 + 0.35)
    density = density * (1 - smooth((m["ears"] - 0.2) * 4))
    if bald:
        level = d.u(7.3, 7.6)
        front = smooth((78 - np.abs(m["theta"])) / 12) * (m["y"] > 7.3)
        density = density * (1 - np.maximum(smooth((m["y"] - level) / 0.2), front) * d.u(0.93, 1.0))
    thin = {"shaved": d.u(0.05, 0.4), "buzz": d.u(0.7, 0.95)}.get(style.name, 1.0)
    strand, tuft = _strands(d, style, g)
    maps = np.empty((TEX_H, TEX_W, 3), F)
    maps[..., 0] = density * thin
    maps[..., 1] = np.clip(0.5 + 0.16 * strand + 0.07 * g.fine + 0.03 * tuft, 0, 1)
    maps[..., 2] = np.clip(0.5 + 0.18 * strand + 0.13 * tuft + 0.05 * g.fine, 0, 1)
    if world > 1 and style.shells > 2:
        # gaps between the strands of the outer shells; the inner ones close them, darker
        rough = 0.14 if style.name == "curly" else 0.20
        maps[..., 1] = np.clip(0.60 + rough * strand + 0.7 * rough * tuft + 0.03 * g.fine, 0.05, 1.15)
        maps[..., 2] = np.clip(0.5 + 0.20 * strand + 0.17 * tuft + 0.06 * g.fine, 0, 1)
    return Hair(style, maps, line, thin > 0.5)


@jit
def _paint_over(
    texture: Any,
    colours: Any,
    root: Any,
    tone: Any,
    shaved: Any,
    beard: Any,
    brow: Any,
    lid: Any,
    lashes: Any,
) -> None:
    """Hair and make-up over the first three channels of a skin texture, by coverages `[H, W]`, in place.

    `colours` float64 `[5, 3]` of roots, shadow of a shave, brows, lids, lashes. One pass: array operations
    took 11 of a person's 59 ms. Each layer is mixed in float64 and kept in float32.
    """
    for y in range(texture.shape[0]):
        for x in range(texture.shape[1]):
            t = tone[y, x]
            rooted, bearded = F(0.6) + F(0.6) * t, F(0.62) + F(0.2) * t
            for c in range(3):
                s = texture[y, x, c]
                s = F(s + (colours[0, c] * rooted - s) * root[y, x])
                s = F(s + (colours[1, c] - s) * shaved[y, x])
                s = F(s + (colours[2, c] * bearded - s) * beard[y, x])
                s = F(s + (colours[2, c] - s) * brow[y, x])
                s = F(s + (colours[3, c] - s) * lid[y, x])
                texture[y, x, c] = F(s + (colours[4, c] - s) * lashes[y, x])


def paint(d: Draw, skin: Skin, hair: Hair, face: FacialHair, tones: Tones, old: float, world: int) -> Array:
    """Finish the skin texture in place: roots, beard, brows, lashes; then gloss (3) and slopes (4, 5)."""
    texture, g, tone = skin.colour, skin.grain, hair.maps[..., 2]
    root = np.clip(hair.maps[..., 0] * (0.55 + 0.5 * hair.maps[..., 1]), 0, 1) * (0.95 if hair.dense else 0.8)
    if world > 1:  # strand by strand where hair begins, not a tint
        root = np.clip((root - 0.42 * hair.maps[..., 1]) * 1.8, 0, 0.95)
    colours = np.stack([tones.hair * 0.8, tones.brow * 0.9, tones.brow, face.lid_colour, tones.brow * 0.35])
    shaved = np.clip(face.shaved, 0, 1)
    _paint_over(texture, colours, root, tone, shaved, face.beard, face.brow, face.lid, face.lashes)
    pore = d.u(0.5, 1.6)
    height = -0.8 * skin.creases + 0.006 * pore * g.fine + 0.02 * g.medium * (0.3 + old)
    height = np.clip(height + 0.25 * face.brow + 0.10 * face.beard * g.strand, -1.5, 1.5)
    oily = 0.75 + 0.5 * skin.nose + 0.35 * spot(0, 7.75, 30, 0.25) + 0.25 * (skin.gloss_noise - 0.5)
    oily = np.clip(oily + 0.4 * skin.lips * d.u(0.3, 1.6), 0.1, 2.5)
    if world > 1:  # shine breaks up pore by pore, and is weak on the cheeks
        oily = np.clip((oily - 0.1) * (0.8 + 0.35 * pore * (0.6 * g.fine + 0.5 * g.medium)), 0.03, 2.5)
    texture[..., 3] = oily * (1 - 0.7 * np.maximum(face.beard, np.clip(root, 0, 1)))
    slope_y, slope_x = (cv2.Sobel(height, cv2.CV_32F, i, 1 - i, ksize=3) for i in (0, 1))
    texture[..., 4] = np.clip(0.35 * slope_x, -0.5, 0.5)
    texture[..., 5] = np.clip(-0.35 * slope_y, -0.5, 0.5)
    return np.ascontiguousarray(texture)
