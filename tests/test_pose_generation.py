"""Images by a pose network: as published unless asked otherwise, and as begun where a dataset was begun before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_networks import SMALL_POSED as SMALL
from small_networks import posed_generator
from typer.testing import CliRunner

from v2f_engine.cli.main import app
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.errors import CheckpointError, ConfigError, DatasetError
from v2f_engine.models import landmarks
from v2f_engine.models.mask_schedule import MASK_SCHEDULES
from v2f_engine.models.weights import load_generator, save_weights
from v2f_engine.pipeline import Engine, generate
from v2f_engine.pipeline.makers.posed import PoseCondition, landmark_files
from v2f_engine.vectors.perturbation import Perturbation

PLUS = {"min": 0.8, "mean": 0.85, "std": 0.05, "max": 0.9}
QUIET = {"levels": [0.0], "weights": [1.0], "unit": "sigma"}
USUAL = Perturbation().describe()
PROFILE = np.array([48.5, 48.5, 65.0, 82.5, 82.5])
"""Heights of the published pictures, measured as centres of mass of each colour: landmarks/images/2758_0.jpg and
2758_1.jpg of HaiyuWu/Vec2Face_plus 7aea100 (2026-11-28)."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models")
    network, pose = posed_generator()
    head = {"kind": "vec2face", "config": SMALL.to_json()}
    for name, said in (("rendered", "rendered"), ("published", "published"), ("strange", "mars")):
        save_weights(
            place / f"{name}.safetensors", {"model": network, "pose": pose}, {**head, "landmarks": said}
        )
    save_weights(place / "old.safetensors", {"model": network, "pose": pose}, {**head, "training": {}})
    for number, yaw in enumerate((-40.0, 0.0, 40.0)):
        points = landmarks.project(np.array([yaw], np.float32), np.zeros(1, np.float32))
        Image.fromarray(landmarks.draw(points)[0]).save(place / f"{number}.png")
    return place


def made(folder: Path, out: Path, **more: Any) -> Manifest:
    told = {
        "model": folder / "rendered.safetensors", "source": "gaussian", "device": "cpu", "compute_batch": 4,
        "attributes": PoseCondition({"yaw": 30.0}), "format": "webdataset",
    }  # fmt: skip
    report = generate(1, 2, out, **{**told, **more})
    assert report.manifest is not None
    return Manifest.load(report.manifest)


def heights(picture: np.ndarray) -> list[float]:
    """Of the centres of what is red, green and blue."""
    return [float(np.nonzero(picture[:, :, channel] > 128)[0].mean()) for channel in range(3)]


def test_a_pose_network_is_asked_as_published_unless_told_otherwise(folder: Path, tmp_path: Path) -> None:
    settings = made(folder, tmp_path / "usual").settings
    assert (settings["masks"], settings["perturbation"]) == (PLUS, QUIET)
    asked = made(folder, tmp_path / "asked", masks="generate", perturbation=Perturbation()).settings
    assert (asked["masks"]["max"], asked["perturbation"]) == (1.0, USUAL)


def test_typed_options_win_one_by_one(folder: Path, tmp_path: Path) -> None:
    common = (
        f"generate --ids 1 --images 2 --model {folder}/rendered.safetensors --source gaussian --device cpu"
    )
    common += " --compute-batch 4 --by pose-model --yaw 5 --format webdataset"

    def run(name: str, more: str = "") -> dict[str, Any]:
        ended = CliRunner().invoke(app, [*common.split(), "--out", str(tmp_path / name), *more.split()])
        assert ended.exit_code == 0, ended.output
        settings: dict[str, Any] = json.loads((tmp_path / name / "manifest.json").read_text())["settings"]
        return settings

    usual = run("usual")
    assert (usual["masks"], usual["perturbation"]) == (PLUS, QUIET)
    masked = run("masked", "--masks generate")
    assert (masked["masks"]["max"], masked["perturbation"]) == (1.0, QUIET)
    noisy = run("noisy", "--sigma 0.3,0.5,0.7")
    assert (noisy["masks"], noisy["perturbation"]) == (PLUS, USUAL)


def test_a_dataset_begun_before_goes_on_with_what_it_records(folder: Path, tmp_path: Path) -> None:
    """The old defaults of both, and the mean head's heights; the same command finds it finished, unchanged."""
    old = {"masks": "generate", "perturbation": Perturbation()}
    condition = PoseCondition({"yaw": 30.0}, heights="rendered")
    model = folder / "published.safetensors"
    begun = made(folder, tmp_path / "set", model=model, attributes=condition, **old)
    again = made(folder, tmp_path / "set", model=model)
    assert again == begun
    fresh = made(folder, tmp_path / "new", model=model)
    assert fresh.settings["masks"] == PLUS
    assert fresh.settings["attributes"]["pose model"]["landmarks"] == landmarks.HEIGHTS["published"]
    pictures = tuple(sorted(folder.glob("*.png")))
    by_identity = PoseCondition(pictures=pictures, turns="identity")
    first = made(folder, tmp_path / "pictures", attributes=by_identity, **old)
    assert made(folder, tmp_path / "pictures", attributes=PoseCondition(pictures=pictures)) == first


def test_an_engine_asks_a_pose_network_as_published(folder: Path) -> None:
    engine = Engine.load(folder / "rendered.safetensors", device="cpu", precision="fp32", compute_batch=4)
    vectors = np.random.default_rng(0).standard_normal((2, 512)).astype(np.float32)
    control = engine.control(PoseCondition({"yaw": 20.0}))
    (batch,) = list(engine.images(vectors, 4, control=control))
    assert set(batch.attributes["sigma"].tolist()) == {0.0}
    assert 40 <= batch.attributes["n_masked"].min() <= batch.attributes["n_masked"].max() <= 45
    asked = Engine.load(
        folder / "rendered.safetensors",
        device="cpu",
        precision="fp32",
        compute_batch=4,
        masks="plus-generate",
    )
    (same,) = list(asked.images(vectors, 4, control=asked.control(PoseCondition({"yaw": 20.0}))))
    np.testing.assert_array_equal(batch.images, same.images)
    other = Engine.load(folder / "rendered.safetensors", device="cpu", compute_batch=4, masks="demo")
    assert other.control(PoseCondition({"yaw": 1.0})).maker.usual_masks == MASK_SCHEDULES["demo"]
    (plain,) = list(engine.images(vectors, 4))
    assert 0.0 not in plain.attributes["sigma"]  # without a pose network everything is as it was


def test_landmarks_at_the_heights_that_the_weights_know(folder: Path) -> None:
    for name, wanted in (("published", PROFILE), ("rendered", None), ("old", None)):
        engine = Engine.load(folder / f"{name}.safetensors", device="cpu", compute_batch=4)
        for yaw in (-75.0, 75.0):
            maker = engine.control(PoseCondition({"yaw": yaw})).maker
            points = landmarks.project(
                np.array([yaw], np.float32), np.zeros(1, np.float32), heights=maker.heights
            )  # type: ignore[attr-defined]
            mean_head = landmarks.project(np.array([yaw], np.float32), np.zeros(1, np.float32))
            if wanted is None:
                np.testing.assert_array_equal(points, mean_head)
            else:
                np.testing.assert_allclose(points[0, :, 1], wanted, atol=0.01)
                np.testing.assert_array_equal(points[0, :, 0], mean_head[0, :, 0])
    with pytest.raises(CheckpointError, match="mars"):
        Engine.load(folder / "strange.safetensors", device="cpu").control(PoseCondition({"yaw": 1.0}))
    with pytest.raises(ConfigError, match="heights"):
        PoseCondition({"yaw": 1.0}, heights="publish")


def test_published_heights_leave_the_front_and_follow_the_turn() -> None:
    yaw = np.linspace(-90, 90, 37)
    pitch = np.zeros_like(yaw)
    plain, turned = landmarks.project(yaw, pitch), landmarks.project(yaw, pitch, heights="published")
    front = len(yaw) // 2
    np.testing.assert_array_equal(turned[front], plain[front])
    lifted = plain[:, :, 1] - turned[:, :, 1]
    assert (np.diff(lifted[front:], axis=0) >= -1e-4).all()  # ever higher until the profile, then as there
    np.testing.assert_allclose(lifted[[0, -1]], lifted[[3, -4]], atol=1e-4)
    drawn = landmarks.draw(landmarks.project(np.array([75.0]), np.zeros(1), heights="published"))[0]
    np.testing.assert_allclose(heights(drawn), [48.5, 65.0, 82.5], atol=0.5)


def test_the_embedded_pose_model_keeps_the_heights_that_it_learned() -> None:
    assert load_generator("mini-pose").landmark_heights == "rendered"


def test_pictures_take_turns_over_the_run_as_published(folder: Path) -> None:
    """pose_control.py repeats a list along the run's images, whatever their identity."""
    engine = Engine.load(folder / "rendered.safetensors", device="cpu", precision="fp32", compute_batch=4)
    vectors = np.random.default_rng(0).standard_normal((3, 512)).astype(np.float32)
    files = landmark_files(folder)

    def used(per_id: int, **more: Any) -> list[int]:
        control = engine.control(PoseCondition(pictures=files, **more))
        found = [
            int(n)
            for b in engine.images(vectors, per_id, control=control)
            for n in b.attributes["landmark_picture"]
        ]
        (part,) = list(engine.images(vectors, per_id, control=control, select=range(1, 2)))
        assert part.attributes["landmark_picture"].tolist() == found[per_id : 2 * per_id]  # a shard alone
        return found

    assert used(1) == [0, 1, 2]
    assert used(4) == [n % 3 for n in range(12)]
    assert used(4, turns="identity") == [0, 1, 2, 0] * 3
    assert used(3) == used(3, turns="identity")


def test_a_picture_a_folder_or_a_list(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = tuple(sorted(folder.glob("*.png")))
    assert landmark_files(folder) == files
    assert landmark_files(files[1]) == files[1:2]
    assert landmark_files([files[2], folder]) == (files[2], *files)
    text = folder / "list.txt"
    text.write_text("\ufeff# turned\n1.png\n\n  0.png\n" + str(files[2]) + "\n", "utf-8")
    assert [path.name for path in landmark_files(text)] == ["1.png", "0.png", "2.png"]
    monkeypatch.chdir(folder)
    (tmp_path / "elsewhere.txt").write_text("./2.png\n")
    assert [path.resolve() for path in landmark_files(tmp_path / "elsewhere.txt")] == [files[2]]
    for content, words in (
        ("3.png\n", "line 1 names '3.png'"),
        ("# nothing\n", "a path a line"),
        ("\xff", None),
    ):
        text.write_bytes(content.encode("latin-1"))
        with pytest.raises(DatasetError, match=words or "cannot be read as a text list"):
            landmark_files(text)
    text.unlink()
    for place, words in (
        (tmp_path / "no.png", "found nothing"),
        (folder / "old.safetensors", "another kind of file"),
    ):
        with pytest.raises(DatasetError, match=words):
            landmark_files(place)
    with pytest.raises(DatasetError, match="found none"):
        landmark_files(())
