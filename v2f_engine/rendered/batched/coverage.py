"""Which triangle every pixel sees, and the depth map of the light.

Boxes of triangles are clipped to the picture and unrolled to fragments by `repeat_interleave`, `FRAGMENTS` at a time;
those inside, and not cut away by hair, lash, hat or lens, meet in one `scatter_reduce` for the largest key of each
pixel. A key is the bits of 1/z above a number that falls with the triangle's: the nearest wins, of equals the
earlier, whatever the order of arrival. The arithmetic is that of `raster`, step by step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from v2f_engine.rendered import raster as K
from v2f_engine.rendered.batched.lookup import bilinear, hash01
from v2f_engine.rendered.batched.packed import Packed
from v2f_engine.rendered.head import Array

FRAGMENTS = 1 << 22
"""At a time, at most, unless one triangle alone has more; about 150 bytes each while they are looked at."""
_LOW = 0xFFFFFFFF
NOWHERE = -1e9
"""Height in the depth map where nothing is."""


@dataclass(frozen=True)
class Fragments:
    """Places where a box of a triangle has a pixel: triangle, column and row, int64 `[n]`."""

    triangle: torch.Tensor
    x: torch.Tensor
    y: torch.Tensor


def _span(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """First and last pixel, within the picture, whose centre may lie between the smallest and the largest."""
    least, most = torch.minimum(torch.minimum(a, b), c), torch.maximum(torch.maximum(a, b), c)
    first, last = (least - 0.5).ceil().clamp(0, size), (most - 0.5).floor().clamp(-1, size - 1)
    return first.int(), last.int()


def fragments(
    xy: torch.Tensor,
    corners: torch.Tensor,
    one_sided: torch.Tensor,
    skip: torch.Tensor,
    side: int,
    at_a_time: int,
) -> Iterator[Fragments]:
    """Fragments of all triangles to be drawn, in chunks.

    Args:
        xy: float32 `[V, 2 or more]`.
        corners: int64 `[T, 3]`.
        one_sided, skip: bool `[T]`: seen from outside only; not drawn.
        side: of the picture.
        at_a_time: fragments in a chunk, at most.
    """
    (ax, ay), (bx, by), (cx, cy) = (xy[corners[:, i]][:, :2].unbind(1) for i in range(3))
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    x0, x1 = _span(ax, bx, cx, side)
    y0, y1 = _span(ay, by, cy, side)
    out = (area == 0) | (one_sided & (area > 0)) | skip | (x0 > x1) | (y0 > y1)
    drawn = (~out).nonzero()[:, 0]
    width, height = (x1 - x0 + 1)[drawn], (y1 - y0 + 1)[drawn]
    x0, y0, count = x0[drawn], y0[drawn], (width * height).long()
    ends = count.cumsum(0)
    told = ends.cpu()
    begin = done = 0
    while begin < len(told):
        end = int(torch.searchsorted(told, done + at_a_time, right=True))
        end = max(end, begin + 1)
        total = int(told[end - 1]) - done
        rows = torch.arange(begin, end, device=xy.device)
        which = rows.repeat_interleave(count[begin:end], output_size=total)
        place = torch.arange(done, done + total, device=xy.device) - (ends - count)[which]
        place, wide = place.int(), width[which]
        down = torch.div(place, wide, rounding_mode="floor")
        yield Fragments(drawn[which], (x0[which] + place - down * wide).long(), (y0[which] + down).long())
        begin, done = end, int(told[end - 1])


def _gradients(p: Packed) -> torch.Tensor:
    """`[T, 9]`: first corner, slopes of the second and third weight, 1/z of the corners."""
    (ax, ay), (bx, by), (cx, cy) = (p.pixels[p.corners[:, i]].unbind(1) for i in range(3))
    inv = 1 / ((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))
    slopes = ((cy - ay) * inv, -(cx - ax) * inv, -(by - ay) * inv, (bx - ax) * inv)
    return torch.stack([ax, ay, *slopes, *p.inverse[p.corners].unbind(1)], 1)


def weights(
    row: torch.Tensor, x: torch.Tensor, y: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Screen barycentrics a, b and c of pixels from rows `[n, 9]` of the triangles' table."""
    ax, ay, dbx, dby, dcx, dcy, *_ = row.unbind(1)
    px, py = x.float() + 0.5 - ax, y.float() + 0.5 - ay
    wb = px * dbx + py * dby
    wc = px * dcx + py * dcy
    return 1 - wb - wc, wb, wc


def _lost(
    p: Packed, f: Fragments, z: torch.Tensor, parts: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """bool `[n]`: fragments cut away; `parts` are the weights times 1/z."""
    kind = p.kind[f.triangle]
    lost = torch.zeros_like(kind, dtype=torch.bool)

    def mixed(rows: torch.Tensor, column: int) -> torch.Tensor:
        a, b, c = (p.vertices[p.corners[f.triangle[rows], i], column] for i in range(3))
        qa, qb, qc = (part[rows] for part in parts)
        return (qa * a + qb * b + qc * c) / z[rows]

    rows = (kind == K.HAT).nonzero()[:, 0]
    lost[rows] = mixed(rows, K.LAYER) < 0
    rows = ((kind == K.HAIR) | (kind == K.SHELL)).nonzero()[:, 0]
    u, v, layer = (mixed(rows, column) for column in (K.UV, K.UV + 1, K.LAYER))
    first = p.texture[p.scene[f.triangle[rows]]]
    density, noise = bilinear(p.hair, u, v, first, slice(0, 2))
    lost[rows] = density < noise * (0.28 + 0.74 * layer) + 0.11
    rows = (kind == K.LASH).nonzero()[:, 0]
    lost[rows] = hash01(f.x[rows], f.y[rows], 77) > 0.45
    rows = (kind == K.LENS).nonzero()[:, 0]
    clear = p.vertices[p.corners[f.triangle[rows], 0], K.LAYER]
    lost[rows] = (clear > 0) & (hash01(f.x[rows], f.y[rows], 99) < clear)
    return lost


@dataclass(frozen=True)
class Seen:
    """The pixels on which a triangle lies: place in `[B * side * side]`, triangle, scene, weights; `[n]` each."""

    at: torch.Tensor
    triangle: torch.Tensor
    scene: torch.Tensor
    b: torch.Tensor
    c: torch.Tensor


def paint(p: Packed, culled: Array, side: int, at_a_time: int = FRAGMENTS) -> Seen:
    """The nearest triangle of every pixel of `side` x `side` pictures, as `raster.paint` finds it.

    Args:
        culled: bool `[KINDS]`, surfaces seen from outside only.
        at_a_time: fragments in a chunk; changes no bit.
    """
    table = _gradients(p)
    one_sided = torch.from_numpy(culled).to(p.kind.device)[p.kind]
    best = torch.zeros(p.count * side * side, dtype=torch.int64, device=p.kind.device)
    for f in fragments(p.pixels, p.corners, one_sided, torch.zeros_like(one_sided), side, at_a_time):
        row = table[f.triangle]
        wa, wb, wc = weights(row, f.x, f.y)
        za, zb, zc = row[:, 6:].unbind(1)
        z = wa * za + wb * zb + wc * zc
        here = ((wa >= 0) & (wb >= 0) & (wc >= 0) & (z > 0)).nonzero()[:, 0]
        f, z = Fragments(f.triangle[here], f.x[here], f.y[here]), z[here]
        parts = ((wa * za)[here], (wb * zb)[here], (wc * zc)[here])
        kept = (~_lost(p, f, z, parts)).nonzero()[:, 0]
        triangle = f.triangle[kept]
        key = (z[kept].view(torch.int32).long() << 32) | (_LOW - triangle)
        place = (p.scene[triangle] * side + f.y[kept]) * side + f.x[kept]
        best.scatter_reduce_(0, place, key, "amax")
    at = best.nonzero()[:, 0]
    triangle = _LOW - (best[at] & _LOW)
    inside = at % (side * side)
    _, b, c = weights(table[triangle], inside % side, inside // side)
    return Seen(at, triangle, p.scene[triangle], b, c)


def depth_maps(p: Packed, shadowless: Array, side: int, at_a_time: int = FRAGMENTS) -> torch.Tensor:
    """Heights towards the light, float32 `[B * side * side]`, as `raster.depth_only`; `NOWHERE` where nothing is."""
    a, b, c = (p.lit[p.corners[:, i]] for i in range(3))
    u, v = (b - a)[:, :2], (c - a)[:, :2]
    inv = 1 / (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])
    heights = (a[:, 2], b[:, 2], c[:, 2])
    table = torch.stack([a[:, 0], a[:, 1], u[:, 0], u[:, 1], v[:, 0], v[:, 1], inv, *heights], 1)
    skip = torch.from_numpy(shadowless).to(p.kind.device)[p.kind]
    best = torch.full((p.count * side * side,), NOWHERE, device=p.kind.device)
    for f in fragments(p.lit, p.corners, torch.ones_like(skip), skip, side, at_a_time):
        ax, ay, ux, uy, vx, vy, over, az, bz, cz = table[f.triangle].unbind(1)
        px, py = f.x.float() + 0.5 - ax, f.y.float() + 0.5 - ay
        wb = (px * vy - py * vx) * over
        wc = (ux * py - uy * px) * over
        wa = 1 - wb - wc
        z = wa * az + wb * bz + wc * cz
        here = ((wa >= 0) & (wb >= 0) & (wc >= 0)).nonzero()[:, 0]
        place = (p.scene[f.triangle[here]] * side + f.y[here]) * side + f.x[here]
        best.scatter_reduce_(0, place, z[here], "amax")
    return best
