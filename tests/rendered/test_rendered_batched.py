"""Scenes drawn by torch, judged against the numba kernels; and pictures whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("numba", reason="extra [rendered] is not installed")
pytest.importorskip("cv2", reason="extra [rendered] is not installed")

from v2f_engine.errors import BackendUnavailable, ConfigError
from v2f_engine.rendered import WORLDS, make_person, picture, render_people, render_person
from v2f_engine.rendered import raster as K
from v2f_engine.rendered.batched import coverage, draw, lookup
from v2f_engine.rendered.batched.packed import pack
from v2f_engine.rendered.camera import SIDE
from v2f_engine.rendered.scene import SHADOW_SIDE, assemble

CPU = torch.device("cpu")
PEOPLE = (0, 3, 6, 9, 21, 25)
"""In world 2 they show every surface but a tinted lens, which the scene of spectacles below gets."""
ALWAYS = {K.SKIN, K.EYE_L, K.EYE_R, K.FRAME, K.LENS, K.SHELL, K.CLOTH}


@pytest.fixture(scope="module", params=WORLDS)
def scenes(request):
    people = [make_person(31, identity, world=request.param) for identity in PEOPLE]
    found = [assemble(person, image) for person in people for image in range(2)]
    worn = next(s for s in found if (s.kind == K.FRAME).any())
    return [*found, replace(worn, kind=np.where(worn.kind == K.FRAME, K.LENS, worn.kind).astype(np.int32))]


@pytest.fixture(scope="module")
def scene():
    return assemble(make_person(31, 0), 0)


def numbers(some, at_a_time=coverage.FRAGMENTS):
    """Triangle of every pixel of every scene, -1 for none."""
    p = pack(some, CPU)
    seen = coverage.paint(p, picture.CULLED, SIDE, at_a_time)
    first = torch.tensor(np.cumsum([0, *(len(s.tris) for s in some)]))
    out = torch.full((len(some) * SIDE * SIDE,), -1)
    out[seen.at] = seen.triangle - first[seen.scene]
    return out.view(-1, SIDE, SIDE).numpy()


def reference_numbers(s):
    canvas = K.new_canvas(SIDE * SIDE)
    K.paint(s.pixels, s.inverse, s.tris, s.kind, picture.CULLED, s.vertices, s.hair_maps, SIDE, SIDE, canvas)
    return canvas[K.PLANE : K.PLANE + SIDE * SIDE].reshape(SIDE, SIDE).astype(int)


def test_triangles_shadows_and_values_are_the_kernels(scenes):
    found = numbers(scenes)
    maps = coverage.depth_maps(pack(scenes, CPU), picture.SHADOWLESS, SHADOW_SIDE)
    maps = maps.view(-1, SHADOW_SIDE, SHADOW_SIDE).numpy()
    kinds = set()
    for s, number, heights, image in zip(scenes, found, maps, draw(scenes, "cpu"), strict=True):
        expected = reference_numbers(s)
        kinds |= set(s.kind[expected[expected >= 0]].tolist())
        assert (number == expected).mean() > 0.9999  # measured: all
        depth = np.full((SHADOW_SIDE, SHADOW_SIDE), coverage.NOWHERE, np.float32)
        K.depth_only(s.lit, s.tris, s.kind, picture.SHADOWLESS, depth)
        assert (heights == depth).mean() > 0.9999
        difference = np.abs(image.astype(int) - picture.draw(s))
        assert (difference <= 1).mean() > 0.9999  # measured: all
        assert difference.mean() < 0.002, "measured: 0.0001 at worst"
    assert kinds >= (ALWAYS if scenes[0].world == 1 else set(range(K.KINDS))), kinds


def flat(scene, triangles, kind, heights=None, layer=0.0):
    """`scene` with other triangles, given in pixels: `[T, 3, 2]` and 1/z `[T, 3]`."""
    points = np.array(triangles, np.float32).reshape(-1, 2)
    count = len(points)
    vertices = np.zeros((count, 16), np.float32)
    vertices[:, K.LAYER] = layer
    return replace(
        scene,
        vertices=vertices,
        tris=np.arange(count, dtype=np.int32).reshape(-1, 3),
        kind=np.full(count // 3, kind, np.int32),
        pixels=points,
        inverse=np.full(count, 0.1, np.float32) if heights is None else np.ravel(heights).astype(np.float32),
        lit=np.zeros((count, 3), np.float32),
    )


LARGE, SMALL = [[0, 0], [0, 200], [200, 0]], [[10, 10], [10, 60], [60, 10]]
"""Counter-clockwise as seen, on a picture whose rows run down: the side that is not culled."""


def test_the_nearer_of_two_triangles_is_seen(scene):
    for order, nearer in (([LARGE, SMALL], 1), ([SMALL, LARGE], 0)):
        heights = [[0.2] * 3 if triangle is SMALL else [0.1] * 3 for triangle in order]
        (found,) = numbers([flat(scene, order, K.CLOTH, heights)])
        assert found[20, 20] == nearer
        assert found[100, 50] == 1 - nearer
        assert found[220, 220] == -1


def test_of_equally_near_triangles_the_earlier_is_seen(scene):
    some = [
        flat(scene, [LARGE, LARGE], K.CLOTH),
        flat(scene, [SMALL, LARGE, LARGE], K.CLOTH, [[0.05] * 3, [0.1] * 3, [0.1] * 3]),
    ]
    found = numbers(some)
    assert set(found[0].ravel()) == {-1, 0}
    assert set(found[1].ravel()) == {-1, 1}
    for s, number in zip(some, found, strict=True):
        assert np.array_equal(number, reference_numbers(s))


def test_the_far_side_of_what_has_one_is_not_seen(scene):
    turned = [LARGE[0], LARGE[2], LARGE[1]]
    sides = [
        (numbers([flat(scene, [t], kind)]) >= 0).any() for kind in (K.SKIN, K.CLOTH) for t in (LARGE, turned)
    ]
    assert sides == [True, False, True, True]


def test_lashes_hats_and_lenses_have_holes(scene):
    (lash,) = numbers([flat(scene, [LARGE], K.LASH)])
    assert np.array_equal(lash, reference_numbers(flat(scene, [LARGE], K.LASH)))
    assert 0.40 < (lash[:90, :90] >= 0).mean() < 0.50
    (hat,) = numbers([flat(scene, [LARGE], K.HAT, layer=[-1, 1, 1])])
    assert hat[5, 5] == -1
    assert hat[90, 90] == 0
    (lens,) = numbers([flat(scene, [LARGE], K.LENS, layer=0.3)])
    assert 0.65 < (lens[:90, :90] >= 0).mean() < 0.75


def test_hashed_uniforms_have_the_bits_of_the_kernel():
    x, y = np.meshgrid(np.arange(40) * 9, np.arange(40) * 11)
    for seed in (77, 2**24 - 1):
        expected = [
            [K.hash01(a, b, np.uint32(seed)) for a, b in zip(*row, strict=True)]
            for row in zip(x, y, strict=True)
        ]
        found = lookup.hash01(torch.from_numpy(x), torch.from_numpy(y), seed)
        assert np.array_equal(found.numpy(), np.array(expected, np.float32))


def test_chunks_change_no_bit_and_company_hardly_any(scene):
    other = assemble(make_person(31, 1), 0)
    whole = numbers([scene, other])
    assert np.array_equal(whole, numbers([scene, other], at_a_time=50_000))
    together = draw([scene, other], "cpu")
    assert np.array_equal(together, draw([scene, other], "cpu"))
    alone = draw([other], "cpu")[0]
    assert np.abs(alone.astype(int) - together[1]).max() <= 1
    assert (alone == together[1]).mean() > 0.999


def test_the_renderer_is_an_argument():
    usual = render_person(make_person(31, 0), [1])
    batched = render_person(make_person(31, 0), [1], renderer="torch")
    assert np.abs(usual.images.astype(int) - batched.images).max() <= 1
    assert all(np.array_equal(usual.attributes[k], batched.attributes[k]) for k in usual.attributes)
    (people,) = render_people(31, [0], 2, renderer="torch", device="cpu")
    assert people.images.shape == (2, 112, 112, 3)


@pytest.mark.parametrize(
    ("renderer", "device", "error"),
    [
        ("numba", "cuda", ConfigError),
        ("opengl", "cpu", ConfigError),
        ("torch", "tpu", ConfigError),
        ("torch", "cuda:99", BackendUnavailable),
    ],
)
def test_nothing_falls_back(renderer, device, error):
    with pytest.raises(error):
        render_people(1, [0], 1, renderer=renderer, device=device)


def test_scenes_of_two_worlds_are_refused(scene):
    with pytest.raises(ValueError, match="one world"):
        draw([scene, replace(scene, world=1)], "cpu")
