"""Hair of the head as geometry: shells over the scalp and, for long styles, curtains round face and neck."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from v2f_engine.rendered.draw import Draw
from v2f_engine.rendered.hair import Hair, Style
from v2f_engine.rendered.head import AXIS_Z, TEX_H, TEX_W, Y_SPAN, Y_TOP, Array, F, head, normals_of, smooth
from v2f_engine.rendered.raster import SKIN

COLUMNS, ROWS, LAYERS = 40, 16, 3
"""Grid of one curtain, and how many hang behind one another."""


@dataclass(frozen=True)
class HairMesh:
    """`positions` `[N, 3]`, `uv` `[N, 2]`, `layer` `[N]` (0 inner .. 1 outer shell), `tris` int32 `[M, 3]`.

    `scalp` int64 `[N]` is the scalp vertex a shell vertex follows with `offset` `[N, 3]`, or -1 in a curtain.
    """

    positions: Array
    uv: Array
    layer: Array
    tris: Array
    scalp: Array
    offset: Array
    loose: Array
    """bool `[M]`: seen from both sides."""


@dataclass(frozen=True)
class _Cut:
    """How this person wears the style."""

    thickness: float
    volume: Array
    part: float
    end: float
    edge: float
    flare: float
    waves: float


def _draw_cut(d: Draw, style: Style) -> _Cut:
    thickness = style.thickness * max(0.5, d.n(1.0, 0.25))
    volume = d.take(6 * 10).reshape(6, 10)
    part = d.n(0, 22)
    drawn = d.u(6.1, 6.6)
    edge, flare, waves = d.u(54, 72), d.n(0.04, 0.05), d.u(2.5, 6.0)
    edge += 38 * (d.u() < 0.25)  # worn behind the ears
    return _Cut(thickness, volume, part, drawn if style.curtain < 0 else style.curtain, edge, flare, waves)


def _shells(pos: Array, hair: Hair, cut: _Cut, flush: bool) -> HairMesh:
    h, style = head(), hair.style
    uv = h.uv
    texel = np.clip(uv.astype(int), 0, [TEX_W - 1, TEX_H - 1])
    wide = cv2.dilate(np.ascontiguousarray(hair.maps[..., 0]), np.ones((9, 9), np.uint8))
    at = wide[texel[:, 1], texel[:, 0]] * (uv[:, 1] < TEX_H) * ~h.ears * (h.inside < 0.3)
    span = uv[h.tris][:, :, 0].max(1) - uv[h.tris][:, :, 0].min(1)
    covered = (h.kind == SKIN) & (at[h.tris].max(1) > 0.05) & (span < TEX_W / 3)
    used, inverse = np.unique(h.tris[covered], return_inverse=True)
    tris = inverse.reshape(-1, 3).astype(np.int32)
    theta = np.arctan2(h.base[used, 0], h.base[used, 2] - AXIS_Z) * 180 / np.pi
    y = Y_TOP - uv[used, 1] / TEX_H * Y_SPAN
    least = 0.08 if flush else 0.25  # at the hairline
    lift = smooth((y - hair.line[texel[used, 0]] + 0.06) / 0.35) * (1 - least) + least
    grid = cv2.resize(cut.volume, (64, 32), interpolation=cv2.INTER_CUBIC)
    grid_x, grid_y = (uv[used, 0] / TEX_W * 63).astype(F), (uv[used, 1] / TEX_H * 31).astype(F)
    volume = cv2.remap(grid, grid_x, grid_y, cv2.INTER_LINEAR)[:, 0]
    thick = cut.thickness * lift * (0.7 + 0.6 * volume)
    if style.name == "part":
        furrow = 1 - 0.75 * np.exp(-(((theta - cut.part) / 7) ** 2)) * smooth((y - 7.7) / 0.2)
        thick = thick * furrow * (1 + 0.25 * np.sign(cut.part) * np.tanh((theta - cut.part) / 20) * -1)
    if style.tapered:
        thick = thick * (1 - 0.55 * smooth((np.abs(theta) - 45) / 25) * smooth((7.75 - y) / 0.3))
    direction = normals_of(pos, h.tris)[used].copy()
    if style.stands:
        direction[:, 1] += 0.35
    if style.name == "bangs":
        direction[:, 1] -= 0.5 * smooth((7.95 - y) / 0.2)
        direction[:, 2] += 0.3 * smooth((60 - np.abs(theta)) / 20)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    share = [(style.shells + 1 - k) / style.shells for k in range(1, style.shells + 1)]  # outermost first
    offset = [direction * (thick * f)[:, None] for f in share]
    n = len(used)
    return HairMesh(
        positions=np.concatenate([pos[used] + o for o in offset]).astype(F),
        uv=np.concatenate([uv[used]] * style.shells).astype(F),
        layer=np.repeat(share, n).astype(F),
        tris=np.concatenate([tris + k * n for k in range(style.shells)]).astype(np.int32),
        scalp=np.concatenate([used] * style.shells).astype(np.int64),
        offset=np.concatenate(offset).astype(F),
        loose=np.zeros(len(tris) * style.shells, bool),
    )


def _curtain(pos: Array, style: Style, cut: _Cut, layer: int, side: int) -> HairMesh:
    """One hanging sheet from the parting's height to the cut's end, from beside the face to the back."""
    f = layer / (LAYERS - 1)
    a, r = np.meshgrid(np.linspace(cut.edge + 4 * f, 180, COLUMNS), np.linspace(0, 1, ROWS))
    radius = 0.80 + 0.16 * np.sin(np.deg2rad(np.clip(a, 0, 180))) + 0.05
    radius = radius + 0.10 * smooth((a - 90) / 90) + (0.10 * f - 0.06) + cut.thickness * 0.45 * smooth(r * 6)
    radius = radius * (0.86 + 0.14 * smooth(r * 4 + 0.1)) + cut.flare * r
    radius = radius + style.wave * np.sin(r * cut.waves * 6.28 + a * 0.08 + layer)
    radius = radius - 0.17 * (1 - smooth((a - cut.edge) / 30)) * (cut.edge < 80)
    x = side * radius * np.sin(np.deg2rad(a)) * (0.95 + 0.02 * f)
    x = x + side * style.wave * 0.7 * np.cos(r * cut.waves * 6.28 + a * 0.05)
    z = 0.42 + radius * np.cos(np.deg2rad(a)) * 1.0
    y = 7.95 + (cut.end - 7.95) * r
    scale = float(np.ptp(pos[:, 0])) / 1.66
    u = TEX_W * (0.5 + side * (128 + (a - cut.edge) * 0.4) / 360)
    fringe = smooth((a - cut.edge) / 10)
    q = np.arange((ROWS - 1) * COLUMNS).reshape(ROWS - 1, COLUMNS)[:, :-1].ravel()
    one = np.stack([q, q + COLUMNS, q + 1], 1)
    other = np.stack([q + 1, q + COLUMNS, q + COLUMNS + 1], 1)
    n = ROWS * COLUMNS
    return HairMesh(
        positions=np.stack([x.ravel() * scale, y.ravel(), z.ravel()], 1).astype(F),
        uv=np.stack([u.ravel(), (40 + r * 78).ravel()], 1).astype(F),
        layer=(0.25 + 0.75 * (0.35 + 0.4 * f) * (2 - fringe)).ravel().clip(0, 1.2).astype(F),
        tris=np.stack([one, other], 1).reshape(-1, 3).astype(np.int32),
        scalp=np.full(n, -1, np.int64),
        offset=np.zeros((n, 3), F),
        loose=np.ones(2 * len(q), bool),
    )


@dataclass(frozen=True)
class _Tuft:
    """How loose strands lie: shares of downwards, outwards, random sideways and upwards; lengths in decimetres."""

    down: float
    out: float
    aside: float
    up: float
    shortest: float
    longest: float


_TUFTS = {
    "short": _Tuft(0.35, 0.15, 0.50, 0.25, 0.08, 0.20),
    "part": _Tuft(0.35, 0.10, 0.35, 0.10, 0.12, 0.28),
    "bangs": _Tuft(1.0, 0.05, 0.22, 0.0, 0.10, 0.24),
    "long": _Tuft(1.0, 0.04, 0.35, 0.0, 0.16, 0.34),
    "wavy": _Tuft(1.0, 0.08, 0.45, 0.0, 0.16, 0.32),
    "curly": _Tuft(0.3, 0.35, 0.80, 0.1, 0.08, 0.18),
    "back": _Tuft(-0.5, 0.06, 0.20, 0.1, 0.10, 0.22),
    "bob": _Tuft(1.0, 0.04, 0.35, 0.0, 0.16, 0.34),
}
_TUFT_COUNT = 240


def _unit(x: Array) -> Array:
    return np.asarray(x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-9))


def _tufts(late: Draw, pos: Array, hair: Hair, cut: _Cut, shells: HairMesh) -> HairMesh:
    """Loose strands on the outermost shell: tapering ribbons that break its outline and its lower edge."""
    n = len(shells.positions) // hair.style.shells
    texel = np.clip(shells.uv[:n].astype(int), 0, [TEX_W - 1, TEX_H - 1])
    own = hair.maps[texel[:, 1], texel[:, 0]]
    able = np.where((own[:, 0] > 0.8) & (own[:, 1] < 0.72))[0]
    lie = _TUFTS[hair.style.name]
    u = late.take(8 * _TUFT_COUNT).reshape(8, _TUFT_COUNT)
    if len(able) == 0:
        able = np.arange(n)
    root = able[(u[0] * len(able)).astype(int)]
    start = shells.positions[root] - F(0.2) * shells.offset[root]
    out = _unit(shells.offset[root])
    down = _unit(np.array([0, -1, 0]) + out * out[:, 1:2] + out * 1e-3)
    aside = np.cross(out, down)
    lean = 2 * u[1] - 1
    if hair.style.name == "part":
        lean = 0.5 * lean + np.sign(shells.positions[root, 0] - 0.01 * cut.part)
    front = smooth((shells.positions[root, 1] - 7.7) / 0.2) * (shells.positions[root, 2] > AXIS_Z)
    if hair.style.curtain:  # long hair leaves the forehead to both sides
        lean = (1 - front) * lean + front * np.sign(shells.positions[root, 0]) * (0.8 + 1.2 * u[1])
    down_share = lie.down * (0.6 + 0.8 * u[2]) * (1 - 0.7 * front * (hair.style.curtain != 0))
    way = down * down_share[:, None] + lie.out * out * (2 * u[3])[:, None]
    way = _unit(way + lie.aside * aside * lean[:, None] + np.array([0, lie.up, 0]))
    thick = np.linalg.norm(shells.offset[root], axis=1) / cut.thickness
    length = ((lie.shortest + (lie.longest - lie.shortest) * u[4]) * np.clip(thick, 0.2, 1))[:, None]
    side = _unit(np.cross(way, out) + 0.7 * out * (2 * u[5] - 1)[:, None])
    half = (0.008 + 0.016 * u[6])[:, None]
    bend = (np.array([0, -0.55 * lie.down, 0]) - 0.30 * out) * length * (0.5 + u[7])[:, None]
    middle, tip = start + 0.5 * length * way + 0.25 * bend, start + length * way + bend
    points = [
        start - side * half,
        start + side * half,
        middle - side * half * 0.8,
        middle + side * half * 0.8,
    ]
    positions = np.stack([*points, tip], 1)
    corner = 5 * np.arange(_TUFT_COUNT)[:, None, None] + np.array([[0, 1, 2], [1, 3, 2], [2, 3, 4]])
    scalp = shells.scalp[root]
    return HairMesh(
        positions=positions.reshape(-1, 3).astype(F),
        uv=np.repeat(shells.uv[root], 5, 0).astype(F),
        layer=np.tile(np.array([0.5, 0.5, 0.75, 0.75, 0.9], F), _TUFT_COUNT),
        tris=corner.reshape(-1, 3).astype(np.int32),
        scalp=np.repeat(scalp, 5),
        offset=(positions - pos[scalp][:, None]).reshape(-1, 3).astype(F),
        loose=np.ones(3 * _TUFT_COUNT, bool),
    )


def _join(parts: list[HairMesh]) -> HairMesh:
    start = np.cumsum([0] + [len(p.positions) for p in parts[:-1]])
    return HairMesh(
        np.concatenate([p.positions for p in parts]),
        np.concatenate([p.uv for p in parts]),
        np.concatenate([p.layer for p in parts]),
        np.concatenate([p.tris + np.int32(s) for p, s in zip(parts, start, strict=True)]),
        np.concatenate([p.scalp for p in parts]),
        np.concatenate([p.offset for p in parts]),
        np.concatenate([p.loose for p in parts]),
    )


def build_hair(d: Draw, pos: Array, hair: Hair, late: Draw | None) -> HairMesh | None:
    """Geometry over the neutral head `pos`; None for a shaved head, which only has paint.

    `late` are world 2's own draws, for its tufts; None in world 1.
    """
    cut = _draw_cut(d, hair.style)
    if hair.style.thickness == 0.0:
        return None
    parts = [_shells(pos, hair, cut, late is not None)]
    if late is not None and hair.style.name in _TUFTS:
        parts.append(_tufts(late, pos, hair, cut, parts[0]))
    if cut.end:
        parts += [_curtain(pos, hair.style, cut, k, side) for k in range(LAYERS) for side in (-1, 1)]
    return _join(parts)
