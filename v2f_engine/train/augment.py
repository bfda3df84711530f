"""Augmentation of aligned faces for a recogniser: geometry, light, resolution, noise, occlusion.

Everything is drawn from the generator given, so a step's pictures are a function of (seed, step). After
AdaFace's low-resolution and photometric augmentation (Kim et al. 2022) and RandomErasing, without which
a published training set scores two points lower (HaiyuWu/Vec2Face issue 1).
"""

from __future__ import annotations

import math

import simplejpeg
import torch
import torch.nn.functional as F


def augment_faces(
    images: torch.Tensor, generator: torch.Generator, *, flip: bool = True, erase: float = 0.3
) -> torch.Tensor:
    """Augmented float32 copies of `[B, 3, H, W]` in [-1, 1].

    Args:
        images: network input.
        generator: source of every choice.
        flip: mirror half of them.
        erase: share of images with one rectangle replaced by noise.
    """
    batch = len(images)

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(batch, generator=generator) * (high - low) + low

    angle, scale = uniform(-0.12, 0.12), uniform(0.88, 1.14)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0) if flip else torch.ones(batch)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    shift_x, shift_y = uniform(-0.1, 0.1), uniform(-0.1, 0.1)
    rows = torch.stack([cos * mirror, -sin, shift_x, sin * mirror, cos, shift_y], 1).view(batch, 2, 3)
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    x = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    low_resolution = (uniform(0, 1) < 0.2).nonzero()[:, 0]
    if len(low_resolution):
        size = int(torch.randint(24, 80, (1,), generator=generator))
        small = F.interpolate(x[low_resolution], size=(size, size), mode="area")
        x[low_resolution] = F.interpolate(small, size=x.shape[2:], mode="bilinear", align_corners=False)

    gain = uniform(0.6, 1.4)[:, None, None, None]
    tint = torch.rand(batch, 3, 1, 1, generator=generator) * 0.3 + 0.85
    offset = uniform(-0.25, 0.25)[:, None, None, None]
    x = x * gain * tint + offset
    noise = uniform(0.0, 0.08)[:, None, None, None]
    x = x + torch.randn(x.shape, generator=generator) * noise

    chosen = (uniform(0, 1) < erase).nonzero()[:, 0].tolist()
    height, width = x.shape[2:]
    for index in chosen:
        area, aspect = torch.rand(2, generator=generator).tolist()
        side = math.sqrt(0.02 + 0.13 * area)
        h, w = int(height * side * (0.6 + 0.8 * aspect)), int(width * side / (0.6 + 0.8 * aspect))
        top = int(torch.randint(0, height - h, (1,), generator=generator))
        left = int(torch.randint(0, width - w, (1,), generator=generator))
        x[index, :, top : top + h, left : left + w] = torch.rand(3, 1, 1, generator=generator) * 2 - 1
    return x.clamp(-1.0, 1.0)


def harden(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Float32 copies of `[B, 3, H, W]` in [-1, 1]: three of four with faint stripes, a fifth through JPEG.

    A recogniser that never saw them hears a stripe of six grey levels as another person (`models.stripe_response`), and
    a generator that learns from it draws stripes. They are sinusoids of 2 to 14 grey levels in any direction, two
    fifths of them horizontal, as brows, lids and lips are, one fifth vertical. Half have periods of 2 to 24 pixels,
    each octave alike; the others 6 to 18, which no blur before a stride takes away.
    """
    batch, _, height, width = images.shape

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(batch, generator=generator) * (high - low) + low

    kind, angle = uniform(0, 1), uniform(0, math.pi)
    angle = torch.where(kind < 0.4, math.pi / 2, torch.where(kind < 0.6, 0.0, angle))
    period = torch.where(uniform(0, 1) < 0.5, 2.0 * (12.0 ** uniform(0, 1)), uniform(6, 18))
    phase = uniform(0, 2 * math.pi)
    amplitude = uniform(2, 14) / 127.5 * (uniform(0, 1) < 0.75)
    rows, columns = torch.arange(height).view(1, height, 1), torch.arange(width).view(1, 1, width)
    along = angle.cos().view(-1, 1, 1) * columns + angle.sin().view(-1, 1, 1) * rows
    wave = torch.cos(2 * math.pi * along / period.view(-1, 1, 1) + phase.view(-1, 1, 1))
    x = (images + (amplitude.view(-1, 1, 1) * wave)[:, None]).clamp(-1.0, 1.0)
    quality = torch.randint(25, 90, (batch,), generator=generator).tolist()
    for index in (uniform(0, 1) < 0.2).nonzero()[:, 0].tolist():
        pixels = ((x[index] + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        decoded = simplejpeg.decode_jpeg(
            simplejpeg.encode_jpeg(pixels, quality[index], colorsubsampling="420")
        )
        x[index] = torch.from_numpy(decoded).permute(2, 0, 1).float().div_(127.5).sub_(1.0)
    return x
