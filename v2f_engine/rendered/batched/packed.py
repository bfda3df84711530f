"""Scenes as tensors: vertices and triangles behind one another, a row of parameters a scene, a texture a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from v2f_engine.rendered.head import TEX_H, TEX_W, Array
from v2f_engine.rendered.raster import LAYER
from v2f_engine.rendered.scene import Scene

COLUMNS = LAYER + 1
"""Columns of the vertex table that mean something."""
TEXELS = TEX_H * TEX_W


@dataclass(frozen=True)
class Packed:
    """`B` scenes of one world on one device; float32 and int64."""

    world: int
    count: int
    vertices: torch.Tensor
    """`[V, 10]`, columns as `raster` names them."""
    corners: torch.Tensor
    """`[T, 3]`, rows of `vertices`."""
    kind: torch.Tensor
    scene: torch.Tensor
    """`[T]`."""
    pixels: torch.Tensor
    inverse: torch.Tensor
    lit: torch.Tensor
    """`[V, 2]`, `[V]`, `[V, 3]`, as in `Scene`."""
    skin: torch.Tensor
    hair: torch.Tensor
    """`[P * 288 * 640, 6]` and `[.., 3]`: texels of all persons."""
    texture: torch.Tensor
    """`[B]`: first texel of the scene's person."""
    light_m: torch.Tensor
    direction: torch.Tensor
    key: torch.Tensor
    sky: torch.Tensor
    ground: torch.Tensor
    rim: torch.Tensor
    softness: torch.Tensor
    eye: torch.Tensor
    colours: torch.Tensor
    iris: torch.Tensor
    eyes: torch.Tensor
    gaze: torch.Tensor
    gloss: torch.Tensor
    background: torch.Tensor
    """`[B, ...]` each, as in `Scene`."""


def pack(scenes: Sequence[Scene], device: torch.device) -> Packed:
    """Put scenes on a device.

    Raises:
        ValueError: no scene, or scenes of several worlds.
    """
    worlds = {s.world for s in scenes}
    if len(worlds) != 1:
        raise ValueError(
            f"scenes: expected some of one world, found {len(scenes)} of worlds {sorted(worlds)}"
        )

    def put(array: Array, kind: type[np.generic] = np.float32) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, kind)).to(device)

    def each(*values: Array | np.float32) -> torch.Tensor:
        return put(np.stack(values))

    shift = np.cumsum([0, *(len(s.vertices) for s in scenes[:-1])])
    slots: dict[int, int] = {}
    persons: list[Scene] = []
    for s in scenes:
        if id(s.skin) not in slots:
            slots[id(s.skin)] = len(persons)
            persons.append(s)
    texture = np.array([slots[id(s.skin)] for s in scenes]) * TEXELS
    number = np.repeat(np.arange(len(scenes)), [len(s.tris) for s in scenes])
    corners = np.concatenate([s.tris + at for s, at in zip(scenes, shift, strict=True)])
    return Packed(
        world=worlds.pop(),
        count=len(scenes),
        vertices=put(np.concatenate([s.vertices[:, :COLUMNS] for s in scenes])),
        corners=put(corners, np.int32).long(),
        kind=put(np.concatenate([s.kind for s in scenes]), np.int32).long(),
        scene=put(number, np.int32).long(),
        pixels=put(np.concatenate([s.pixels for s in scenes])),
        inverse=put(np.concatenate([s.inverse for s in scenes])),
        lit=put(np.concatenate([s.lit for s in scenes])),
        skin=put(np.concatenate([s.skin.reshape(TEXELS, -1) for s in persons])),
        hair=put(np.concatenate([s.hair_maps.reshape(TEXELS, -1) for s in persons])),
        texture=put(texture, np.int64),
        light_m=each(*(s.light_m for s in scenes)),
        direction=each(*(s.light.direction for s in scenes)),
        key=each(*(s.light.key for s in scenes)),
        sky=each(*(s.light.sky for s in scenes)),
        ground=each(*(s.light.ground for s in scenes)),
        rim=each(*(s.light.rim for s in scenes)),
        softness=each(*(s.softness for s in scenes)),
        eye=each(*(s.eye for s in scenes)),
        colours=each(*(s.colours for s in scenes)),
        iris=each(*(s.iris for s in scenes)),
        eyes=each(*(s.eyes for s in scenes)),
        gaze=each(*(s.gaze for s in scenes)),
        gloss=each(*(s.gloss for s in scenes)),
        background=each(*(s.background for s in scenes)),
    )
