"""Attribute control and the pose model inside generation: recorded, resumable by shard, refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_networks import SMALL, TINY, generator

from v2f_engine.attributes.control import AttributeControl, Control
from v2f_engine.attributes.steering import SteeringSettings
from v2f_engine.attributes.targets import Attribute, Verdict
from v2f_engine.backends import choose, function
from v2f_engine.errors import ConfigError, DatasetError
from v2f_engine.machine import Machine
from v2f_engine.models import landmarks
from v2f_engine.models.iresnet import IResNet
from v2f_engine.models.pose import PoseModel
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig
from v2f_engine.models.weights import load_generator, save_weights
from v2f_engine.options import ImageOptions
from v2f_engine.pipeline import Engine, generate
from v2f_engine.pipeline.draws import Draws
from v2f_engine.pipeline.makers.posed import PoseCondition, landmark_files
from v2f_engine.vectors.perturbation import Perturbation

BRIGHT = Attribute.from_callable("brightness", lambda x: x.mean((1, 2, 3)) * 100, tolerance=0.5, goal=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models")
    network = generator()
    head = {"kind": "vec2face", "config": SMALL.to_json()}
    save_weights(place / "small.safetensors", {"model": network}, head)
    recogniser = IResNet(TINY)
    save_weights(
        place / "eye.safetensors", {"model": recogniser}, {"kind": "iresnet", "config": TINY.to_json()}
    )
    config = Vec2FaceConfig(**{**SMALL.to_json(), "lora_rank": 2})
    plus, pose = Vec2Face(config), PoseModel(48)
    plus.initialise(torch.Generator().manual_seed(1))
    with torch.no_grad():
        pose.linear.weight.normal_(0.0, 0.2)
    save_weights(
        place / "plus.safetensors",
        {"model": plus, "pose": pose},
        {"kind": "vec2face", "config": config.to_json()},
    )
    return place


def asked(folder: Path, **more: object) -> AttributeControl:
    settings = SteeringSettings(iterations=4, slots=4)
    told = {"recogniser": folder / "eye.safetensors", "attributes": (BRIGHT,), "min_cosine": -1.0}
    return AttributeControl({"brightness": "-6:2"}, settings=settings, **{**told, **more})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    return Engine.load(folder / "small.safetensors", device="cpu", precision="fp32", compute_batch=4)


def test_the_steered_network_is_bound_for_gradients_and_the_runners_own_is_not(
    engine: Engine, folder: Path
) -> None:
    control = engine.control(asked(folder)).maker.control  # type: ignore[attr-defined]
    assert control.choice == choose("cpu", "fp32", gradients=True)
    quick, plain = (network.im_decoder.ops[0] for network in (control._frozen, engine.runner.model))  # type: ignore[attr-defined]
    assert (quick, plain) == tuple(function("group_norm_silu", name) for name in ("torch_rows", "torch"))
    assert control._frozen.im_decoder.conv_in.weight is engine.runner.model.im_decoder.conv_in.weight  # type: ignore[attr-defined]


def test_a_manifest_names_what_steering_runs_where_that_is_not_the_same_for_all(folder: Path) -> None:
    """On a CPU it is what it was before it was named, so that datasets begun then go on."""
    loaded, card = (
        load_generator(folder / "small.safetensors"),
        Machine(1, frozenset(), True, ("NVIDIA H200",)),
    )
    steering = choose("cuda", "fp16", gradients=True, machine=card)
    told = Control(asked(folder), loaded, Vec2Face(SMALL), choose("cpu", "fp32"), 4)
    assert "network" not in told.describe()
    told.choice = steering
    assert told.describe()["network"] == steering.describe()


def test_steered_images_carry_goals_and_values(engine: Engine, folder: Path) -> None:
    control = engine.control(asked(folder))
    vectors = np.random.default_rng(0).standard_normal((3, 512)).astype(np.float32)
    (batch,) = list(engine.images(vectors, 3, seed=5, control=control, batch_size=64))
    names = {"brightness", "brightness_goal", "identity_cosine", "verdict", "iterations", "sigma"}
    assert names < set(batch.attributes)
    seen = (batch.images.astype(np.float64) / 127.5 - 1).mean((1, 2, 3)) * 100
    np.testing.assert_allclose(seen, batch.attributes["brightness"], atol=1e-3)
    met = batch.attributes["verdict"] == Verdict.MET
    near = np.abs(batch.attributes["brightness"] - batch.attributes["brightness_goal"]) <= 0.5
    np.testing.assert_array_equal(met, near)
    assert (batch.attributes["iterations"] <= 4).all()
    assert control.describe()["loop"]["iterations"] == 4
    # One identity alone, as a shard would make it: the same bytes.
    (part,) = list(engine.images(vectors, 3, seed=5, control=control, select=range(1, 2)))
    np.testing.assert_array_equal(part.images, batch.images[3:6])
    np.testing.assert_array_equal(
        part.attributes["brightness_goal"], batch.attributes["brightness_goal"][3:6]
    )


def test_identities_are_refined_once_and_keep_their_length(engine: Engine, folder: Path) -> None:
    control = engine.control(asked(folder, use="identities"))
    vectors = np.random.default_rng(1).standard_normal((2, 512)).astype(np.float32)
    (batch,) = list(engine.images(vectors, 3, seed=5, control=control))
    (plain,) = list(engine.images(vectors, 3, seed=5))
    assert "verdict" not in batch.attributes
    assert not np.array_equal(batch.images, plain.images)
    np.testing.assert_array_equal(batch.attributes["sigma"], plain.attributes["sigma"])
    draws = Draws.of(vectors, ImageOptions(3, 5), engine.masks)
    refined = control.maker.prepared(draws).centres
    assert not np.array_equal(refined, vectors)
    np.testing.assert_allclose(np.linalg.norm(refined, axis=1), np.linalg.norm(vectors, axis=1), rtol=1e-5)
    both = engine.control(asked(folder, use="both"))
    (steered,) = list(engine.images(vectors, 3, seed=5, control=both))
    assert "verdict" in steered.attributes


def test_images_of_an_identity_can_be_its_reference(engine: Engine, folder: Path) -> None:
    vectors = np.random.default_rng(2).standard_normal((2, 512)).astype(np.float32)
    made = {}
    for reference in ("vector", "images"):
        control = engine.control(asked(folder, reference=reference))
        (batch,) = list(engine.images(vectors, 2, seed=5, control=control))
        made[reference] = batch.attributes["identity_cosine"].mean()
    assert made["images"] > made["vector"] + 0.2  # a random recogniser: only images resemble images


def test_a_run_records_its_control_and_resumes_only_under_the_same(folder: Path, tmp_path: Path) -> None:
    told = {"model": folder / "small.safetensors", "source": "gaussian", "device": "cpu"}
    report = generate(2, 2, tmp_path / "set", attributes=asked(folder), **told)  # type: ignore[arg-type]
    assert report.manifest is not None
    manifest = report.manifest.read_text()
    assert '"goals"' in manifest
    assert "brightness" in manifest
    rows = np.load(tmp_path / "set" / "attributes" / "shard-000000.npy")
    assert {"brightness", "brightness_goal", "verdict"} < set(rows.dtype.names)
    from v2f_engine.errors import OutputFolderError

    with pytest.raises(OutputFolderError):
        generate(2, 2, tmp_path / "set", attributes=asked(folder, signed=False), **told)  # type: ignore[arg-type]


def test_control_that_cannot_work_is_named(engine: Engine, folder: Path) -> None:
    with pytest.raises(ConfigError, match="recogniser"):
        engine.control(AttributeControl({"yaw": 3.0}))
    with pytest.raises(ConfigError, match=r"goals for \['smile'\]"):
        engine.control(asked(folder).__class__({"smile": 1.0}, recogniser=folder / "eye.safetensors"))
    with pytest.raises(ConfigError, match="6DRepNet"):
        engine.control(AttributeControl({"yaw": 3.0}, recogniser=folder / "eye.safetensors", pose="6drepnet"))
    with pytest.raises(ConfigError, match="no pose network"):
        engine.control(PoseCondition({"yaw": 3.0}))


def test_the_pose_model_turns_with_yaw_and_records_it(folder: Path) -> None:
    engine = Engine.load(
        folder / "plus.safetensors", device="cpu", precision="fp32", compute_batch=4, masks="plus-generate"
    )
    control = engine.control(PoseCondition({"yaw": "-45,45"}))
    vectors = np.random.default_rng(0).standard_normal((3, 512)).astype(np.float32)
    (batch,) = list(engine.images(vectors, 4, seed=2, control=control))
    assert set(batch.attributes["yaw_goal"].tolist()) == {-45.0, 45.0}
    assert (batch.attributes["pitch_goal"] == 0).all()
    (part,) = list(engine.images(vectors, 4, seed=2, control=control, select=range(2, 3)))
    np.testing.assert_array_equal(part.images, batch.images[8:])
    other = engine.control(PoseCondition({"yaw": "0"}))
    (front,) = list(engine.images(vectors, 4, seed=2, control=other))
    assert not np.array_equal(front.images, batch.images)


def test_the_merged_pose_model_is_the_unmerged_one(folder: Path) -> None:
    """What the engine decodes with LoRA inside its weights, against the network as it was trained."""
    path = folder / "plus.safetensors"
    engine = Engine.load(path, device="cpu", precision="fp32", compute_batch=4, masks="plus-generate")
    pictures = landmarks.draw(landmarks.project(np.array([30.0], np.float32), np.zeros(1, np.float32)))
    control = engine.control(PoseCondition({"yaw": 30.0}))
    vectors = np.random.default_rng(0).standard_normal((1, 512)).astype(np.float32)
    (draw,) = Draws.of(vectors, ImageOptions(1, 0, Perturbation((0.0,), (1.0,))), engine.masks).batches(4)
    found = control(control.maker.furnished(draw)).images
    loaded = load_generator(path)
    assert loaded.pose is not None
    from v2f_engine.models.features import to_network

    with torch.no_grad():
        condition = loaded.pose(to_network(torch.from_numpy(pictures)))
        arrays = (torch.from_numpy(array) for array in draw.inputs)
        expected = loaded.model(*arrays, engine.masks.n_dropped, condition).images
    levels = ((expected.clamp(-1, 1) + 1) * 127.5).round().permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(control.maker.furnished(draw).given["pictures"], pictures)
    assert np.abs(found - levels).max() <= 1


def test_landmark_pictures_condition_by_image_number(folder: Path, tmp_path: Path) -> None:
    for number, yaw in enumerate((-40.0, 0.0, 40.0)):
        points = landmarks.project(np.array([yaw], np.float32), np.zeros(1, np.float32))
        Image.fromarray(landmarks.draw(points)[0]).save(tmp_path / f"{number}.png")
    engine = Engine.load(
        folder / "plus.safetensors", device="cpu", precision="fp32", compute_batch=4, masks="plus-generate"
    )
    files = landmark_files(tmp_path)
    by_file = engine.control(PoseCondition(pictures=files))
    vectors = np.random.default_rng(0).standard_normal((2, 512)).astype(np.float32)
    (batch,) = list(engine.images(vectors, 4, seed=2, control=by_file))
    assert batch.attributes["landmark_picture"].tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    (front,) = list(engine.images(vectors, 4, seed=2, control=engine.control(PoseCondition({"yaw": 0.0}))))
    np.testing.assert_array_equal(front.images[[1, 4, 7]], batch.images[[1, 4, 7]])
    Image.new("RGB", (50, 50)).save(tmp_path / "wrong.png")
    with pytest.raises(DatasetError, match="expected 112x112"):
        engine.control(PoseCondition(pictures=landmark_files(tmp_path)))
    with pytest.raises(DatasetError, match="found none"):
        landmark_files(folder)
    with pytest.raises(ConfigError, match="one of the two"):
        PoseCondition({"yaw": 1.0}, files)
    with pytest.raises(ConfigError, match="quality"):
        PoseCondition({"quality": 1.0})
