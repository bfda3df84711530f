"""What a surface is made of at every seen pixel: `rendered.surfaces.material` by groups of pixels, in float32."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from v2f_engine.rendered import palette
from v2f_engine.rendered import raster as K
from v2f_engine.rendered.batched.coverage import Seen
from v2f_engine.rendered.batched.lookup import bilinear
from v2f_engine.rendered.batched.packed import Packed

Vector = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass
class Surface:
    """Attributes of `n` pixels: vectors are rows of float32 `[3, n]`, the others float32 or bool `[n]`."""

    normal: torch.Tensor
    position: torch.Tensor
    colour: torch.Tensor
    occlusion: torch.Tensor
    gloss: torch.Tensor
    wrap: torch.Tensor
    exponent: torch.Tensor
    scatter: torch.Tensor
    offset: torch.Tensor
    """How far along the normal the shadow is looked up."""
    tone: torch.Tensor
    """Of a strand."""
    skin: torch.Tensor
    hair: torch.Tensor
    eye: torch.Tensor
    turns: torch.Tensor
    """bool: seen from both sides."""


def dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Of vectors `[3, n]`, summed in the written order."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def attributes(p: Packed, seen: Seen) -> torch.Tensor:
    """Vertex attributes of every seen pixel, right in perspective: float32 `[10, n]`."""
    a, b, c = p.corners[seen.triangle].unbind(1)
    pa, pb, pc = (1 - seen.b - seen.c) * p.inverse[a], seen.b * p.inverse[b], seen.c * p.inverse[c]
    s = 1 / (pa + pb + pc)
    parts = (p.vertices[row] * (part * s)[:, None] for row, part in zip((a, b, c), (pa, pb, pc), strict=True))
    first, second, third = parts
    return (first + second + third).t().contiguous()


@dataclass(frozen=True)
class _Group:
    """Pixels of one material: their rows, scenes, attributes `[10, m]`, and the surface to be filled."""

    p: Packed
    rows: torch.Tensor
    scene: torch.Tensor
    mixed: torch.Tensor
    into: Surface

    def colours(self, number: int) -> Vector:
        r, g, b = self.p.colours[self.scene, number].unbind(1)
        return r, g, b

    def colour(self, values: Vector, factor: torch.Tensor | float = 1.0) -> None:
        self.into.colour[:, self.rows] = torch.stack(values) * factor

    def set(self, **values: torch.Tensor | float | bool) -> None:
        for name, value in values.items():
            getattr(self.into, name)[..., self.rows] = value


def _skin(g: _Group) -> None:
    p, m = g.p, g.mixed
    (x, _, z), (u, v), occlusion, layer = m[3:6], m[6:8], m[K.AO], m[K.LAYER]
    cr, cg, cb, gloss, gu, gv = _texels(p.skin, u, v, p.texture[g.scene])
    gloss = gloss * p.gloss[g.scene]
    deep = z - 0.55
    h = (x * x + deep * deep).sqrt() + 1e-6
    normal = torch.stack([m[0] - gu * deep / h, m[1] - gv, m[2] + gu * x / h])
    if g.p.world > 1:
        gloss = gloss * 0.55
    # the collar's edge, a sine within five texels of row 276
    cloth = (v > 281) | ((v >= 271) & (v > 276 + 5 * (u * 0.02).sin()))
    worn = g.colours(palette.CLOTH)
    tissue = [torch.where(cloth, a, b) for a, b in zip(worn, (cr, cg, cb), strict=True)]
    mouth = layer.clamp(min=0)
    inside = zip(tissue, (0.30, 0.07, 0.06), strict=True)
    red, green, blue = (here + (deep_red - here) * mouth for here, deep_red in inside)
    g.colour((red, green, blue))
    g.set(
        normal=normal,
        gloss=torch.where(cloth, 0.05, gloss),
        scatter=(~cloth).float(),
        occlusion=occlusion * (1 - 0.6 * mouth),
        wrap=0.22,
        exponent=24.0 if g.p.world > 1 else 14.0,
        skin=True,
    )


def _texels(
    texels: torch.Tensor, u: torch.Tensor, v: torch.Tensor, first: torch.Tensor
) -> list[torch.Tensor]:
    return bilinear(texels, u, v, first, slice(0, 6))


def _hair(g: _Group) -> None:
    m, layer = g.mixed, g.mixed[K.LAYER]
    noise, tone = bilinear(g.p.hair, m[K.UV], m[K.UV + 1], g.p.texture[g.scene], slice(1, 3))
    f = (0.45 + 0.55 * layer) * (0.55 + 0.8 * tone)
    mix = layer * tone * 0.6
    pairs = zip(g.colours(palette.HAIR), g.colours(palette.TIP), strict=True)
    red, green, blue = (strand * f + (tip * f - strand * f) * mix for strand, tip in pairs)
    g.colour((red, green, blue))
    normal = torch.stack([m[0] + (noise - 0.5) * 0.5, m[1] + (tone - 0.5) * 0.9, m[2]])
    g.set(normal=normal, gloss=0.45 * tone, exponent=10.0, wrap=0.35, offset=0.10, tone=tone)
    g.set(hair=True, turns=True, occlusion=m[K.AO].clamp(min=0.75))


def _iris(away: torch.Tensor, ex: torch.Tensor, ey: torch.Tensor, row: torch.Tensor) -> list[torch.Tensor]:
    """Linear RGB of the iris `away` from its middle, and how much of it covers the white, by rows `[m, 10]`."""
    r0, g0, b0, r1, g1, b1, radius, pupil_size, fibres, phase = row.unbind(1)
    angle = torch.atan2(ey, ex)
    f = away / radius
    fibre = 0.8 + 0.25 * ((angle * fibres + phase).sin() * (angle * 17 + phase * 3).sin())
    inner = ((0.75 - f) * 2.5).clamp(0, 1)
    limb = 0.25 + 0.75 * ((1 - f) * 5).clamp(0, 1)
    pupil = ((f - pupil_size) * 9).clamp(0, 1)
    shades = zip((r0, g0, b0), (r1, g1, b1), strict=True)
    return [(a + (b - a) * inner) * fibre * limb * pupil for a, b in shades] + [((1 - f) * 9).clamp(0, 1)]


def _eye(g: _Group, number: int) -> None:
    p, m = g.p, g.mixed
    d = m[3:6] - p.eyes[g.scene, number].t()
    d = d / dot(d, d).sqrt()
    gaze = p.gaze[g.scene, number].t()
    along = dot(d, gaze)
    e = d - along * gaze
    away = torch.where(along < 0, 1.0, dot(e, e).sqrt())
    red = ((away - 0.6) * 2).clamp(0, 1)
    white = g.colours(palette.SCLERA)
    whites = (white[0], white[1] * (1 - 0.35 * red), white[2] * (1 - 0.4 * red))
    row = p.iris[g.scene]
    *irises, edge = _iris(away, e[0], e[1], row)
    edge = torch.where(away < row[:, 6], edge, 0.0)
    mixed = zip(whites, irises, strict=True)
    r, green, b = (outside + (iris - outside) * edge for outside, iris in mixed)
    g.colour((r, green, b))
    # upper lid and lashes shade the top of the eyeball
    occlusion = (0.35 + 0.5 * m[K.AO]) * (1 - 0.62 * (d[1] * 2.4 + 0.12).clamp(0, 1))
    gloss, exponent = (1.0, 420.0) if p.world > 1 else (2.2, 160.0)
    g.set(normal=d, gloss=gloss, exponent=exponent, offset=0.09, occlusion=occlusion, eye=True)


def _teeth(g: _Group) -> None:
    x = g.mixed[K.POSITION]
    gap = 0.5 + 0.5 * (x * 86).cos()
    dark = (0.72 + 0.28 * gap.sqrt()) * (1 - 9 * x * x).clamp(min=0.25)
    g.colour(g.colours(palette.TEETH), dark)
    g.set(occlusion=0.55 if g.p.world == 1 else 1.7, gloss=0.8, exponent=40.0)


def _tongue(g: _Group) -> None:
    for channel, value in enumerate((0.38, 0.12, 0.11)):
        g.into.colour[channel, g.rows] = value
    g.set(occlusion=0.35)


def _lash(g: _Group) -> None:
    g.colour(g.colours(palette.LASH))
    g.set(occlusion=0.6, gloss=0.0)


def _hat(g: _Group) -> None:
    f = 0.86 + 0.14 * (g.mixed[K.UV] * 2.2).cos()
    g.colour(g.colours(palette.HAT), torch.where(g.mixed[K.LAYER] < 0.16, f * 0.8, f))
    g.set(gloss=0.04, occlusion=0.9)


def _cloth(g: _Group) -> None:
    weave = 0.85 + 0.15 * (g.mixed[K.UV] * 1.9).cos() * (g.mixed[K.UV + 1] * 1.3).cos()
    g.colour(g.colours(palette.CLOTH), weave)
    g.set(gloss=0.05)


def _frame(g: _Group) -> None:
    g.colour(g.colours(palette.FRAME))
    g.set(gloss=1.0, exponent=50.0, turns=True)


def _lens(g: _Group) -> None:
    g.colour(g.colours(palette.LENS))
    g.set(gloss=0.6, exponent=50.0, turns=True)


MATERIALS = (
    ((K.SKIN,), _skin),
    ((K.HAIR, K.SHELL), _hair),
    ((K.EYE_L,), lambda g: _eye(g, 0)),
    ((K.EYE_R,), lambda g: _eye(g, 1)),
    ((K.TEETH_U, K.TEETH_L), _teeth),
    ((K.TONGUE,), _tongue),
    ((K.LASH,), _lash),
    ((K.HAT,), _hat),
    ((K.CLOTH,), _cloth),
    ((K.FRAME,), _frame),
    ((K.LENS,), _lens),
)
"""Kinds of triangles and what fills in their material."""


def surface(p: Packed, seen: Seen) -> Surface:
    """Colour, normal and shine of every seen pixel."""
    mixed = attributes(p, seen)
    n = len(seen.at)

    def plane(value: float) -> torch.Tensor:
        return torch.full((n,), value, device=mixed.device)

    def flag() -> torch.Tensor:
        return torch.zeros(n, dtype=torch.bool, device=mixed.device)

    out = Surface(
        normal=mixed[0:3].clone(),
        position=mixed[3:6],
        colour=torch.empty_like(mixed[0:3]),
        occlusion=mixed[K.AO].clone(),
        gloss=plane(0.3),
        wrap=plane(0.2),
        exponent=plane(18.0),
        scatter=plane(0.0),
        offset=plane(0.035),
        tone=plane(0.0),
        skin=flag(),
        hair=flag(),
        eye=flag(),
        turns=flag(),
    )
    kind = p.kind[seen.triangle]
    for kinds, fill in MATERIALS:
        wanted = kind == kinds[0]
        for other in kinds[1:]:
            wanted |= kind == other
        rows = wanted.nonzero()[:, 0]
        if len(rows):
            fill(_Group(p, rows, seen.scene[rows], mixed[:, rows], out))
    return out
