"""Every script of `examples/`: run as a user runs it, in an empty folder, and what it prints and leaves looked at."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from v2f_engine.data import open_dataset, verify_dataset
from v2f_engine.vectors.identities import Identities

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LONGEST = 64
"""Lines, the docstring and the reading of options included."""


def number(said: str, pattern: str) -> float:
    found = re.search(pattern, said)
    assert found, said
    return float(found[1].replace(",", ""))


def first_faces(said: str, out: Path) -> None:
    assert "24 images of 4 people, uint8 [24, 112, 112, 3]" in said
    assert "the same bytes: True" in said
    sheet = np.asarray(Image.open(out / "faces.png"))
    assert sheet.shape == (4 * 112, 6 * 112, 3)
    assert sheet.std() > 20


def dataset_for_my_trainer(said: str, out: Path) -> None:
    assert "96 images of 8 people" in said
    assert number(said, r"epoch 8  loss ([\d.]+)") < number(said, r"epoch 1  loss ([\d.]+)") / 2
    assert number(said, r"epoch 8 .* right (\d+) %") > 60
    assert open_dataset(out).classes == 8


def check_a_set(said: str, out: Path) -> None:
    assert "8 people, 48 images" in said
    assert number(said, r"equal error rate ([\d.]+) %") < 5
    assert re.findall(r"person (\d) is person (\d) of the other set", said) == [("3", "4")]


def own_identities(said: str, out: Path) -> None:
    assert "unit vectors are refused" in said
    assert "3 identities, one a person, the mean of its pictures: 9 pictures" in said
    for name in ("from_vectors", "from_pictures"):
        assert len(open_dataset(out / name)) == 12
    assert not (out / "refused").exists()


def steer_pose_and_quality(said: str, out: Path) -> None:
    known = open_dataset(out).attributes()
    assert known is not None
    assert set(np.unique(known["yaw_goal"])) <= {-40.0, 0.0, 40.0}
    assert np.abs(known["yaw"] - known["yaw_goal"]).mean() < 20
    assert number(said, r"identity kept: cosine ([\d.]+)") > 0.7
    assert sum(map(int, re.findall(r"'(?:MET|BEST_EFFORT|FAILED)': (\d+)", said))) == 9


def resume_and_repair(said: str, out: Path) -> None:
    assert len(set(re.findall(r"(?:undisturbed|resumed|repaired).*?\b([0-9a-f]{12})\b", said))) == 1
    assert "a finished shard stays, 2 of 3" in said
    assert "damaged     shard-000001.tar" in said
    assert verify_dataset(out / "interrupted").broken == ()
    assert "repaired    shards (1,)" in said


def export_and_serve(said: str, out: Path) -> None:
    assert number(said, r"at most (\d+) grey levels") <= 1
    assert number(said, r"identity cosine ([\d.]+)") > 0.999
    faces = [np.asarray(Image.open(path)) for path in sorted(out.glob("person_*.jpg"))]
    assert [face.shape for face in faces] == [(112, 112, 3)] * 3
    assert np.abs(faces[0].astype(int) - faces[1]).mean() > 5


def identities_at_scale(said: str, out: Path) -> None:
    people = Identities.load(out / "people.safetensors")
    assert len(people) == 20_000
    some = people.vectors[:500] / np.linalg.norm(people.vectors[:500], axis=1, keepdims=True)
    assert np.triu(some @ some.T, 1).max() < 0.3
    assert "1,000,000 of mini: cannot be had" in said
    assert people.table_hash[:12] in said


CHECKS: dict[str, Callable[[str, Path], None]] = {
    check.__name__: check
    for check in (
        first_faces,
        dataset_for_my_trainer,
        check_a_set,
        own_identities,
        steer_pose_and_quality,
        resume_and_repair,
        export_and_serve,
        identities_at_scale,
    )
}
ATTRIBUTE = "brightness_attribute"
"""Not a script: `v2f generate --attribute` takes it, see below."""


def run(words: list[str | Path], folder: Path) -> str:
    """What a command prints in an empty folder, on one thread, with no package but the installed ones."""
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, cwd=folder, timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{EXAMPLES.parent}:{EXAMPLES.parent / 'kernels'}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_an_example_does_what_it_says(name: str, tmp_path: Path) -> None:
    said = run([EXAMPLES / f"{name}.py", "--out", "made"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["made"], "an example writes where it is told"
    CHECKS[name](said, tmp_path / "made")


def test_the_attribute_of_ones_own_steers(tmp_path: Path) -> None:
    attribute = f"{EXAMPLES / ATTRIBUTE}.py:Brightness"
    said = run(
        ["-m", "v2f_engine", "generate", "--ids", "2", "--images", "2", "--attribute", attribute, "--iterations", "12",
         "--out", "bright"],
        tmp_path,
    )  # fmt: skip
    assert "2 identities, 4 images in bright" in said
    known = open_dataset(tmp_path / "bright").attributes()
    assert known is not None
    assert np.median(np.abs(known["brightness"] - 150)) < 10


def test_every_example_is_checked_and_says_what_it_shows() -> None:
    scripts = {path.stem: path.read_text() for path in EXAMPLES.glob("*.py")}
    assert set(scripts) == {*CHECKS, ATTRIBUTE}
    for name, source in scripts.items():
        assert len((ast.get_docstring(ast.parse(source)) or "").split()) > 15, name
        assert len(source.splitlines()) <= LONGEST, name
