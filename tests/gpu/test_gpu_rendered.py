"""Rendered people drawn on a GPU: the numba kernels' triangles and pictures, and the same bytes again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("numba", reason="extra [rendered] is not installed")
pytest.importorskip("cv2", reason="extra [rendered] is not installed")

from v2f_engine.rendered import WORLDS, make_person, picture, render_person
from v2f_engine.rendered import raster as K
from v2f_engine.rendered.batched import coverage
from v2f_engine.rendered.batched.packed import pack
from v2f_engine.rendered.camera import SIDE
from v2f_engine.rendered.scene import assemble

pytestmark = pytest.mark.gpu
PEOPLE = (0, 3, 6, 9, 21, 25)


@pytest.mark.parametrize("world", WORLDS)
def test_triangles_are_those_of_the_cpu(world: int) -> None:
    """A GPU fuses multiply and add, so a pixel on an edge may fall to the neighbour."""
    scenes = [assemble(make_person(31, identity, world=world), 0) for identity in PEOPLE]
    p = pack(scenes, torch.device("cuda"))
    seen = coverage.paint(p, picture.CULLED, SIDE)
    found = torch.full((len(scenes) * SIDE * SIDE,), -1)
    first = torch.tensor(np.cumsum([0, *(len(s.tris) for s in scenes[:-1])]))
    found[seen.at.cpu()] = seen.triangle.cpu() - first[seen.scene.cpu()]
    for s, number in zip(scenes, found.view(-1, SIDE * SIDE).numpy(), strict=True):
        canvas = K.new_canvas(SIDE * SIDE)
        K.paint(
            s.pixels, s.inverse, s.tris, s.kind, picture.CULLED, s.vertices, s.hair_maps, SIDE, SIDE, canvas
        )
        assert (number == canvas[K.PLANE : K.PLANE + SIDE * SIDE].astype(int)).mean() > 0.995


@pytest.mark.parametrize("world", WORLDS)
def test_pictures_are_those_of_the_cpu_and_the_same_again(world: int) -> None:
    for identity in PEOPLE:
        person = make_person(31, identity, world=world)
        usual = render_person(person, range(2))
        batched = render_person(person, range(2), renderer="torch", device="cuda")
        difference = np.abs(usual.images.astype(int) - batched.images)
        assert (difference <= 1).mean() > 0.995
        assert difference.mean() < 0.1
        again = render_person(person, range(2), renderer="torch", device="cuda")
        assert np.array_equal(batched.images, again.images)
