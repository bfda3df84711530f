"""Brows, beards and moustaches, lashes and eye make-up: coverage maps over the skin."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np

from v2f_engine.rendered.draw import Draw
from v2f_engine.rendered.head import TEX_H, TEX_W, Y_SPAN, Y_TOP, Array, F, head, smooth
from v2f_engine.rendered.morph import Traits
from v2f_engine.rendered.palette import linear
from v2f_engine.rendered.skin import Skin, spot

BEARDS: tuple[tuple[str, float, float, float], ...] = (  # zone, weight, least and most coverage
    ("none", 44, 0.0, 0.0),
    ("stubble", 22, 0.2, 0.5),
    ("moustache", 8, 0.6, 0.9),
    ("goatee", 6, 0.6, 0.9),
    ("short", 8, 0.55, 0.8),
    ("full", 12, 0.85, 1.0),
)


@dataclass(frozen=True)
class FacialHair:
    """Coverages float32 `[TEX_H, TEX_W]` in 0..1, the eye shadow's linear colour, and the name of the beard's kind."""

    beard: Array
    shaved: Array
    brow: Array
    lid: Array
    lashes: Array
    lid_colour: Array
    kind: str


def _brows(d: Draw, gender: float) -> Array:
    """Short strokes along an arch on both sides, drawn at three times the texture's scale."""
    up = 3
    x0, x1, y0, y1 = 250, 390, 84, 126
    canvas = np.zeros(((y1 - y0) * up, (x1 - x0) * up), np.uint8)
    thick = max(0.04, d.n(0.054 + 0.042 * gender, 0.016))
    arch, tilt, lift = d.n(0.045, 0.02), d.n(-0.015, 0.022), d.n(0.015, 0.028)
    inner, outer = max(3.0, d.n(7.5, 1.8)), d.n(37, 3.0)
    peak = d.u(0.5, 0.72)
    count = int(max(90, d.n(260, 70)))
    strokes = d.take(count * 5).reshape(count, 5)
    taper = d.u(0.3, 0.8)
    for side in (-1, 1):
        for along, across, long, turn, tone in strokes:
            s = float(along)
            theta = inner + (outer - inner) * s
            bend = (s - peak) / (peak if s < peak else 1 - peak)
            y = 7.545 + lift + arch * (1 - bend**2) + tilt * (s - 0.5)
            width = thick * (1 - taper * s**2) * (0.75 + 0.25 * min(1, s * 5))
            y += (float(across) - 0.5) * width
            length = 3.0 + 3.0 * float(long)
            angle = np.deg2rad(75 * (1 - s) ** 1.5 - 22 * s + 26 * (float(turn) - 0.5))
            if across > 0.6:  # the upper row lies flatter
                angle -= 0.45
            cx, cy = TEX_W * (0.5 + side * theta / 360), (Y_TOP - y) / Y_SPAN * TEX_H
            ax, ay = (cx - x0) * up, (cy - y0) * up
            bx, by = ax + side * np.cos(angle) * length * up, ay - np.sin(angle) * length * up
            start, end = (int(ax * 16), int(ay * 16)), (int(bx * 16), int(by * 16))
            cv2.line(canvas, start, end, int(120 + 110 * tone), 2, cv2.LINE_AA, 4)
    small = cv2.resize(canvas, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA).astype(F) / 255
    out = np.zeros((TEX_H, TEX_W), F)
    out[y0:y1, x0:x1] = np.maximum(small, 0.75 * cv2.GaussianBlur(small, (0, 0), 1.2))
    return out


@functools.cache
def _beard_zones(world: int) -> tuple[dict[str, Array], Array]:
    """Where each kind of beard grows, and the whole beard's area; the same for everybody, not to be written to."""
    th, y = np.abs(head().maps["theta"]), head().maps["y"]
    chin = smooth((6.60 - y) / 0.12) * smooth((th + 0) / 1 + 1)
    jaw = smooth((th - 30) / 10) * smooth((7.12 - y - (70 - th) * 0.006) / 0.12) * smooth((84 - th) / 8)
    moustache = smooth((6.955 - 0.0042 * th - y) / 0.05) * smooth((y - 6.60) / 0.06) * smooth((17 - th) / 5)
    if world > 1:  # as wide as the mouth, thinner to its corners
        moustache = (
            smooth((6.955 - 0.0065 * th - y) / 0.06) * smooth((y - 6.64) / 0.08) * smooth((23 - th) / 10)
        )
    below = smooth((6.74 - y + 0.009 * np.maximum(th - 16, 0)) / 0.14) * smooth((75 - th) / 10)
    under_lip = np.exp(-((th / 9) ** 2) - ((y - 6.59) / 0.03) ** 2) * 0.5
    full = np.maximum(np.maximum(moustache, below), jaw) * (1 - under_lip)
    goatee = np.maximum(moustache * smooth((15 - th) / 3), chin * smooth((15 - th) / 4))
    zones = {"none": full * 0.0, "moustache": moustache, "goatee": goatee}
    return {kind: zones.get(kind, full) for kind, *_ in BEARDS}, full


def draw_facial_hair(
    d: Draw, traits: Traits, grey: float, skin: Skin, world: int, beard_kind: str | None = None
) -> FacialHair:
    """All short hair of the face and what is painted about the eyes; a man's beard may be prescribed."""
    g, bare = skin.grain, 1 - skin.lips
    number = d.pick([weight for _, weight, *_ in BEARDS]) if traits.male else 0
    if beard_kind is not None and traits.male:
        number = [kind for kind, *_ in BEARDS].index(beard_kind)
    zones, full = _beard_zones(world)
    amounts = [0.0] + [d.u(least, most) for _, _, least, most in BEARDS[1:]]
    neck = smooth((head().maps["y"] - 6.15) / 0.12)
    beard = zones[BEARDS[number][0]] * neck * bare * amounts[number]
    shaved = full * neck * bare * d.u(0.0, 0.13) * (1 - grey) if traits.male else np.zeros_like(full)
    texture = np.clip(0.72 + 0.18 * g.fine + 0.16 * g.strand * (number > 1), 0, 1.2)
    ragged = 0.11 * (g.fine * 0.5 + g.medium * 0.5) * (beard > 0.02)
    cover = np.clip(np.clip(beard * 1.25 + ragged, 0, 1) * (0.62 + 0.42 * texture), 0, 0.96)
    brow = np.clip(_brows(d, traits.gender) * d.u(0.85, 1.15), 0, 0.95)
    liner = 0.0 if traits.male else max(0.0, d.n(0.1, 0.4))
    lid_colour = linear(d.u(40, 150), d.u(30, 100), d.u(40, 130))
    eyeshadow = 0.0 if traits.male else max(0.0, d.n(-0.25, 0.35))
    lid = np.clip(spot(21, 7.43, 11, 0.07), 0, 1) * min(0.6, eyeshadow)
    lashes = np.clip(
        head().maps["lash" if world == 1 else "lid line"] * ((0.55 if traits.male else 0.8) + liner), 0, 0.97
    )
    return FacialHair(cover, shaved, brow, lid, lashes, lid_colour, BEARDS[number][0])
