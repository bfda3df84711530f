"""The world: reproducible from (seed, identity, image), frozen, with attributes in range and named errors."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba", reason="extra [rendered] is not installed")
pytest.importorskip("cv2", reason="extra [rendered] is not installed")

from v2f_engine.errors import ConfigError, V2FError
from v2f_engine.rendered import WORLD_VERSION, WORLDS, make_person, render_people, render_person

FROZEN = {
    1: Path(__file__).parent / "frozen_world.npz",
    2: Path(__file__).parent / "frozen_world_2.npz",
}
LIMITS = {
    "yaw": (-60, 60),
    "pitch": (-30, 30),
    "roll": (-4.8, 4.8),
    "expression": (0, 1),
    "light_azimuth": (-65, 65),
    "light_elevation": (-8, 60),
    "light_intensity": (0.45, 1.25),
    "ambient": (0.34, 0.75),
    "blur": (0, 1.3),
    "glasses": (0, 1),
    "hat": (0, 1),
    "age": (17, 75),
    "gender": (0, 1),
}


def _run(*arguments):
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'kernels'}"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


def blocks(images):
    """4x4 block means: what a stored picture of the world keeps."""
    n = len(images)
    return images.reshape(n, 28, 4, 28, 4, 3).mean((2, 4))


def test_every_world_is_frozen():
    assert tuple(FROZEN) == WORLDS, "a new world version needs new stored pictures"
    assert max(WORLDS) == WORLD_VERSION


@pytest.mark.parametrize("world", FROZEN)
def test_the_frozen_world_looks_as_it_did(world):
    stored = np.load(FROZEN[world])
    assert int(stored["version"]) == world
    for (seed, identity), expected in zip(stored["people"], stored["blocks"], strict=True):
        found = blocks(render_person(make_person(int(seed), int(identity), world=world), range(2)).images)
        difference = np.abs(found - expected)  # other processors may round a texel differently
        assert difference.mean() < 0.6
        assert np.quantile(difference, 0.99) < 3


def test_a_world_is_an_argument_and_the_newest_by_default():
    old, new = make_person(5, 17, world=1), make_person(5, 17)
    assert (old.world, new.world) == (1, WORLD_VERSION)
    told = [next(iter(render_people(5, [17], 2, world=world))).images for world in WORLDS]
    assert np.array_equal(told[0], render_person(old, range(2)).images)
    assert np.array_equal(told[1], render_person(new, range(2)).images)
    assert (old.age, old.gender, old.style) == (new.age, new.gender, new.style), "the same person in both"
    assert np.array_equal(old.race, new.race)


def test_an_image_depends_on_its_own_numbers_only():
    person = make_person(5, 17)
    together = render_person(person, [0, 1, 2, 3])
    again = render_person(make_person(5, 17), [3, 1])
    assert np.array_equal(again.images, together.images[[3, 1]])
    assert again.image.tolist() == [3, 1]
    for name, values in together.attributes.items():
        assert np.array_equal(again.attributes[name], values[[3, 1]]), name


def test_any_number_of_processes_gives_the_same_people():
    alone = list(render_people(seed=9, identities=range(40, 45), images_per_id=2))
    shared = list(render_people(seed=9, identities=range(40, 45), images_per_id=2, processes=2))
    assert [int(b.identity[0]) for b in shared] == [40, 41, 42, 43, 44]
    for a, b in zip(alone, shared, strict=True):
        assert np.array_equal(a.images, b.images)
        assert a.attributes.keys() == b.attributes.keys()
        assert all(np.array_equal(a.attributes[k], b.attributes[k]) for k in a.attributes)


def test_other_numbers_give_other_people():
    first = render_person(make_person(5, 17), [0]).images.astype(int)
    for seed, identity in ((5, 18), (6, 17), (5 + 2**32, 17)):
        other = render_person(make_person(seed, identity), [0]).images
        assert np.abs(first - other).mean() > 5


def test_attributes_are_float32_and_in_range():
    for batch in render_people(seed=3, identities=range(6), images_per_id=5):
        assert batch.images.shape == (5, 112, 112, 3)
        assert batch.images.dtype == np.uint8
        assert batch.identity.dtype == batch.image.dtype == np.int64
        assert batch.attributes.keys() == LIMITS.keys()
        for name, (low, high) in LIMITS.items():
            values = batch.attributes[name]
            assert values.dtype == np.float32
            assert (values >= low - 1e-4).all(), name
            assert (values <= high + 1e-4).all(), name
        for name in ("age", "gender"):
            assert len(set(batch.attributes[name].tolist())) == 1


def test_images_are_faces_well_exposed():
    images = np.concatenate([b.images for b in render_people(seed=4, identities=range(8), images_per_id=3)])
    centre = images[:, 40:100, 32:80].astype(float)
    assert (centre.std((1, 2, 3)) > 6).all()
    assert ((centre.mean((1, 2, 3)) > 25) & (centre.mean((1, 2, 3)) < 235)).all()


def test_one_person_is_nearer_to_himself_than_to_others():
    """Without any training: centred block means of near-frontal faces, identity against identity."""
    faces, labels = [], []
    for batch in render_people(seed=12, identities=range(10), images_per_id=6):
        near = np.abs(batch.attributes["yaw"]) < 25
        faces.append(blocks(batch.images[near])[:, 6:26, 6:22].reshape(near.sum(), -1))
        labels += [int(batch.identity[0])] * int(near.sum())
    x = np.concatenate(faces)
    x = x - x.mean(1, keepdims=True)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    x = x - x.mean(0)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    same = np.equal.outer(labels, labels)
    upper = np.triu(np.ones_like(same), 1)
    cosine = x @ x.T
    genuine, impostor = cosine[same & upper], cosine[~same & upper]
    order = np.argsort(np.concatenate([genuine, impostor])).argsort()
    auc = (order[: len(genuine)].sum() - len(genuine) * (len(genuine) - 1) / 2) / len(genuine) / len(impostor)
    assert auc > 0.7


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: make_person(-1, 0), "seed: expected an integer in 0"),
        (lambda: make_person(2**64, 0), "seed"),
        (lambda: make_person(1, -3), "identity"),
        (lambda: make_person(1, 2**32 - 1), "identity"),  # the place of the shared noises
        (lambda: make_person(1, 1.5), "identity"),
        (lambda: make_person(True, 1), "seed"),
        (lambda: make_person(1, 1, world=3), "world: expected 1 or 2, found 3"),
        (lambda: make_person(1, 1, world=True), "world: expected 1 or 2, found True"),
        (lambda: render_people(1, range(3), 2, world=0), "world: expected 1 or 2, found 0"),
        (lambda: render_people(1, range(3), 0), "images_per_id"),
        (lambda: render_people(1, range(3), 2, processes=0), "processes"),
        (lambda: render_people("1", range(3), 2), "seed"),
        (lambda: list(render_people(1, [-1], 1)), "identities"),
        (lambda: render_person(make_person(1, 0), []), "at least one image"),
        (lambda: render_person(make_person(1, 0), [2**32]), "images"),
    ],
)
def test_numbers_out_of_range_are_named(call, words):
    with pytest.raises(ConfigError, match=words):
        call()


def test_a_killed_worker_is_a_named_error(tmp_path):
    code = (
        "import os\n"
        "from v2f_engine.rendered import people\n"
        "import v2f_engine.errors\n"
        "def dies(*arguments):\n    os._exit(9)\n"
        "people._task = dies\n"
        "if __name__ == '__main__':\n"
        "    try:\n        list(people.render_people(1, range(2), 1, processes=2))\n"
        "    except v2f_engine.errors.V2FError as error:\n        print('named:', error)\n"
    )
    file = tmp_path / "killed.py"
    file.write_text(code)
    done = _run(str(file))
    assert "named: a rendering process died while identity 0" in done.stdout, done.stderr


@pytest.mark.parametrize("missing", ["numba", "cv2"])
def test_a_missing_extra_names_the_install_line(missing):
    code = (
        "import sys\n"
        f"sys.modules[{missing!r}] = None\n"
        "import v2f_engine.rendered\n"
        "from v2f_engine.errors import MissingDependency\n"
        "try:\n    v2f_engine.rendered.make_person\n"
        "except MissingDependency as error:\n    print(error)\n"
    )
    done = _run("-c", code)
    assert missing in done.stdout
    assert re.search(r"pip install -e '.+\[rendered\]'", done.stdout)


def test_importing_the_room_loads_nothing_heavy():
    code = (
        "import sys, v2f_engine.rendered; print([m for m in ('numba', 'cv2', 'torch') if m in sys.modules])"
    )
    done = _run("-c", code)
    assert done.stdout.strip() == "[]", done.stderr


def test_an_unknown_name_is_an_attribute_error():
    import v2f_engine.rendered

    with pytest.raises(AttributeError, match="no attribute 'render_dog'"):
        v2f_engine.rendered.render_dog
    assert issubclass(ConfigError, V2FError)
