"""Deferred shading of all seen pixels at once, step by step as `rendered.shade` and `rendered.shadow` do it."""

from __future__ import annotations

import torch

from v2f_engine.rendered.batched.coverage import Seen
from v2f_engine.rendered.batched.packed import Packed
from v2f_engine.rendered.batched.surfaces import Surface, dot, surface
from v2f_engine.rendered.scene import SHADOW_SIDE


def _light_space(m: torch.Tensor, point: torch.Tensor) -> torch.Tensor:
    """Pixel and height `[3, n]` of head-space points in the depth maps of matrices `[n, 3, 4]`."""
    x, y, z = point
    return torch.stack([m[:, i, 0] * x + m[:, i, 1] * y + m[:, i, 2] * z + m[:, i, 3] for i in range(3)])


def _lit(maps: torch.Tensor, first: torch.Tensor, place: torch.Tensor, soft: torch.Tensor) -> torch.Tensor:
    """Share of five bilinear looks, `soft` pixels apart, that reach the light; outside the map all do.

    Args:
        maps: float32, depth maps behind one another.
        first: where the pixel's own begins.
        place: `[3, n]`, from `_light_space`.
        soft: `[n]`.
    """
    side, total = SHADOW_SIDE, torch.zeros_like(soft)
    for dy, dx in ((-1, -1), (-1, 1), (0, 0), (1, -1), (1, 1)):
        x, y = place[0] + soft * dx - 0.5, place[1] + soft * dy - 0.5
        j, i = x.floor(), y.floor()
        outside = (i < 0) | (j < 0) | (i > side - 2) | (j > side - 2)
        i, j = i.clamp(0, side - 2), j.clamp(0, side - 2)
        tx, ty = x - j, y - i
        at = first + (i * side + j).long()
        a, b, c, d = ((maps[at + step] <= place[2]).float() for step in (0, 1, side, side + 1))
        value = (a + (b - a) * tx) * (1 - ty) + (c + (d - c) * tx) * ty
        total = total + torch.where(outside, 1.0, value)
    return 0.12 + 0.88 * (total * 0.2)


def shade(p: Packed, seen: Seen, maps: torch.Tensor) -> torch.Tensor:
    """Linear RGB `[3, n]` of the seen pixels; `maps` from `coverage.depth_maps`."""
    s, late, own = surface(p, seen), p.world > 1, seen.scene
    light = p.direction[own].t()
    view = p.eye[own].t() - s.position
    view = view * (1 / dot(view, view).sqrt())
    n = s.normal * (1 / (dot(s.normal, s.normal).sqrt() + 1e-9))
    n = torch.where(s.turns & (dot(n, view) < 0), -n, n)
    facing = dot(n, light)
    place = _light_space(p.light_m[own], s.position + n * s.offset)
    place[2] += 0.03
    lit = _lit(maps, own * (SHADOW_SIDE * SHADOW_SIDE), place, p.softness[own])
    lit = torch.where(facing > -s.wrap - 0.3, lit, 1.0)
    half = light + view
    if late:  # a catch light in sight, from the key's side or a lamp above
        lamp = torch.tensor([0.0, 0.30, 0.0], device=half.device)[:, None]
        half = torch.where(s.eye, half * 0.4 + view + lamp, half)
    reach = 1 / (dot(half, half).sqrt() + 1e-9)
    mirror = (dot(n, half) * reach).clamp(min=0)
    power = torch.where((facing > 0) | (s.eye & late), mirror**s.exponent, 0.0)
    clear = 1 - dot(n, view).clamp(min=0)
    square = clear * clear
    fresnel = 0.04 + 0.5 * square * square * clear
    sheen = _sheen(n, half, reach, s.tone) if late else None
    return _colour(p, s, own, n, facing, lit, power, fresnel, sheen)


def _sheen(n: torch.Tensor, half: torch.Tensor, reach: torch.Tensor, tone: torch.Tensor) -> torch.Tensor:
    """Sine between strand and half vector to the 12th; the strand runs down the surface (Kajiya and Kay)."""
    strand = torch.stack([n[1] * n[0], n[1] * n[1] - 1, n[1] * n[2]])
    length = 1 / (dot(strand, strand).sqrt() + 1e-3)
    along = dot(strand, half) * reach * length + (tone - 0.5) * 0.55
    squared = (1 - along * along).clamp(min=0)
    return squared * squared * squared * squared * squared * squared


def _colour(
    p: Packed,
    s: Surface,
    own: torch.Tensor,
    n: torch.Tensor,
    facing: torch.Tensor,
    lit: torch.Tensor,
    power: torch.Tensor,
    fresnel: torch.Tensor,
    sheen: torch.Tensor | None,
) -> torch.Tensor:
    """All terms of the light, as `shade._light` sums them."""
    sss, occlusion, g = s.scatter, s.occlusion, s.gloss
    rim = p.rim[own].t()
    edge = dot(n, rim[3:]).clamp(min=0) * occlusion
    shine = g * lit * power * (s.exponent + 2) * 0.12 * (0.04 + fresnel * 0.3).clamp(min=0.04)
    shine = torch.where(facing <= 0, 0.0, shine)
    shine = torch.where(s.hair, shine * 0.6, shine)
    glance = g * fresnel * occlusion * 0.35
    colour = s.colour
    if sheen is not None:
        shine = torch.where(s.eye, g * lit.clamp(min=0.6) * power * occlusion * 2.0, shine)
        lobe = lit * (facing * 2 + 0.5).clamp(0, 1) * s.tone
        to_48 = sheen * sheen * sheen * sheen
        shine = torch.where(s.hair, lobe * 0.065 * to_48 * sheen, shine)
        colour = colour * torch.where(s.hair, 1 + lobe * 0.9 * sheen, 1.0)
        glance = torch.where(s.skin, glance * 0.5, glance)
    up, dark = 0.5 + 0.5 * n[1], lit * (1 - lit)
    wraps = (s.wrap + 0.20 * sss, s.wrap, s.wrap - 0.06 * sss)
    bleed = (lit + 0.25 * sss * dark, lit, lit - 0.08 * sss * dark)
    open_ = (occlusion + 0.32 * sss * occlusion * (1 - occlusion), occlusion, occlusion)
    bends = ((0.78, 0.22), (0.65, 0.35), (0.58, 0.42))
    key, sky, ground = p.key[own].t(), p.sky[own].t(), p.ground[own].t()
    out = torch.empty_like(colour)
    for channel, (base, bend) in enumerate(bends):
        wrap = wraps[channel]
        diffuse = ((facing + wrap) / (1 + wrap)).clamp(min=0)
        diffuse = diffuse * (base + bend * diffuse)
        k, high, low = key[channel], sky[channel], ground[channel]
        ambient = (low + (high - low) * up) * open_[channel]
        arriving = k * diffuse * bleed[channel] + ambient + rim[channel] * edge
        out[channel] = colour[channel] * arriving + k * shine + high * glance
    return out
