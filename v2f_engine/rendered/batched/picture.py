"""Batches of scenes to pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from v2f_engine.rendered.batched.coverage import depth_maps, paint
from v2f_engine.rendered.batched.packed import pack
from v2f_engine.rendered.batched.sensor import develop
from v2f_engine.rendered.batched.shading import shade
from v2f_engine.rendered.camera import SIDE
from v2f_engine.rendered.head import Array
from v2f_engine.rendered.picture import CULLED, SHADOWLESS
from v2f_engine.rendered.scene import SCENES_AT_ONCE, SHADOW_SIDE, Scene


@torch.no_grad()
def _draw(scenes: Sequence[Scene], device: torch.device) -> Array:
    p = pack(scenes, device)
    maps = depth_maps(p, SHADOWLESS, SHADOW_SIDE)
    seen = paint(p, CULLED, SIDE)
    background = p.background.permute(0, 3, 1, 2)
    image = functional.interpolate(background, size=(SIDE, SIDE), mode="bicubic", align_corners=False)
    planes = image.transpose(0, 1).reshape(3, -1).contiguous()
    planes[:, seen.at] = shade(p, seen, maps)
    covered = torch.zeros(planes.shape[1], dtype=torch.bool, device=device)
    covered[seen.at] = True
    image = planes.view(3, p.count, SIDE, SIDE).transpose(0, 1)
    made = develop(image, covered.view(p.count, SIDE, SIDE), [s.film for s in scenes])
    return made.cpu().numpy()


def draw(scenes: Sequence[Scene], device: torch.device | str) -> list[Array]:
    """Pictures uint8 `[112, 112, 3]` RGB of scenes of one world, `SCENES_AT_ONCE` at a time.

    Memory does not depend on how many are asked for. On a GPU the largest parts are 4 million fragments of 150 bytes
    (`coverage.FRAGMENTS`) or 16 pictures of at most 50,176 seen pixels of 600 bytes, one after the other: under 0.7 GB.

    Raises:
        ValueError: scenes of several worlds.
    """
    where = torch.device(device)
    turns = range(0, len(scenes), SCENES_AT_ONCE)
    return [picture for at in turns for picture in _draw(scenes[at : at + SCENES_AT_ONCE], where)]
