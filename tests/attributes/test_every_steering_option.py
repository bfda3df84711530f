"""Every option of steering, in every `--steer` mode, changes what is made or is refused; taken from the flags."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_networks import SMALL, TINY, generator

from v2f_engine.attributes import control
from v2f_engine.attributes.control import USES
from v2f_engine.attributes.estimators import Estimator, EstimatorConfig, save_estimator
from v2f_engine.batch import ImageBatch
from v2f_engine.cli.steering import SteeringFlags
from v2f_engine.errors import ConfigError, ModelNotFound
from v2f_engine.models.iresnet import IResNet
from v2f_engine.models.weights import save_weights
from v2f_engine.pipeline import Engine

VECTORS = np.random.default_rng(1).standard_normal((2, 512)).astype(np.float32)

OTHER: dict[str, Any] = {
    "yaw": "25",
    "pitch": "9",
    "quality": "1",
    "attribute": ["{folder}/bright.py:Bright=40"],
    "iterations": 2,
    "steering": "plus",
    "steer_recogniser": "{folder}/other.safetensors",
    "quality_model": "{folder}/other.safetensors",
    "pose_model": "{folder}/turn.safetensors",
    "steer_rate": 0.03,
    "tolerance": ["yaw=500", "quality=500"],
    "min_cosine": 0.9999,
    "dead_zone": 2.0,
    "unsigned": True,
}
"""Option -> another value than the base's."""
ELSEWHERE = {
    "steer": "the modes themselves, below",
    "by": "another maker (tests/wiring/wiring_generate.py); beside it all others are refused (cli/dependent.py)",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models")
    network = generator()
    save_weights(
        place / "own.safetensors", {"model": network}, {"kind": "vec2face", "config": SMALL.to_json()}
    )
    for name in ("eye", "other"):
        save_weights(
            place / f"{name}.safetensors",
            {"model": IResNet(TINY)},
            {"kind": "iresnet", "config": TINY.to_json()},
        )
    config = EstimatorConfig(("yaw", "pitch"), (20.0, 20.0), (0.0, 0.0), (4, 4), 4)
    save_estimator(place / "turn.safetensors", Estimator(config), {}, precision="fp32")
    (place / "bright.py").write_text(
        "from v2f_engine.attributes.targets import Attribute\n"
        "Bright = Attribute.from_callable('bright', lambda x: x.mean((1, 2, 3)) * 100, goal=0.0)\n"
    )
    return place


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    return Engine.load(folder / "own.safetensors", device="cpu", precision="fp32", compute_batch=2)


@pytest.fixture(autouse=True)
def two_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(control.SLOTS, "cpu", 2)


def base(folder: Path, mode: str) -> SteeringFlags:
    return SteeringFlags(
        yaw="-12",
        quality="60",
        steer=mode,
        iterations=4,
        steer_recogniser=str(folder / "eye.safetensors"),
        min_cosine=-1.0,
    )


def made(engine: Engine, flags: SteeringFlags) -> ImageBatch:
    asked = flags.asked
    assert asked is not None
    (batch,) = list(engine.images(VECTORS, 1, seed=5, control=engine.control(asked), batch_size=64))
    return batch


MADE: dict[str, ImageBatch] = {}


def plainly(engine: Engine, folder: Path, mode: str) -> ImageBatch:
    if mode not in MADE:
        MADE[mode] = made(engine, base(folder, mode))
    return MADE[mode]


def options() -> list[str]:
    """Those of steering; `landmark...` are the pose network's."""
    return [field.name for field in fields(SteeringFlags) if not field.name.startswith("landmark")]


def test_every_option_is_here() -> None:
    assert set(options()) == OTHER.keys() | ELSEWHERE.keys()


@pytest.mark.parametrize(
    "mode", [pytest.param(m, marks=pytest.mark.slow) if m == "both" else m for m in USES]
)
@pytest.mark.parametrize("option", OTHER)
def test_it_has_an_effect(option: str, mode: str, engine: Engine, folder: Path) -> None:
    value = OTHER[option]
    value = [v.format(folder=folder) for v in value] if isinstance(value, list) else value
    value = value.format(folder=folder) if isinstance(value, str) else value
    change: dict[str, Any] = {option: value}
    if option == "steering":
        change["iterations"] = None
    before, after = plainly(engine, folder, mode), made(engine, replace(base(folder, mode), **change))
    same = np.array_equal(before.images, after.images)
    if option == "min_cosine":  # a verdict where no iterate is better by it
        verdict = "refined_verdict" if mode == "identities" else "verdict"
        assert not np.array_equal(before.attributes[verdict], after.attributes[verdict])
    else:
        assert not same


def test_the_modes_differ_and_none_is_the_unsteered_run(engine: Engine, folder: Path) -> None:
    (plain,) = list(engine.images(VECTORS, 1, seed=5, batch_size=64))
    images = [plain.images, *(plainly(engine, folder, mode).images for mode in USES)]
    assert len({image.tobytes() for image in images}) == 4


@pytest.mark.slow
@pytest.mark.parametrize("mode", USES)
@pytest.mark.parametrize("name", ["published-2024", "published-2025", "plus"])
def test_each_form_steers_in_each_mode(name: str, mode: str, engine: Engine, folder: Path) -> None:
    batch = made(engine, replace(base(folder, mode), steering=name, iterations=7))
    assert not np.array_equal(batch.images, plainly(engine, folder, mode).images)
    pictures = batch.attributes["refined_iterations" if mode == "identities" else "iterations"]
    assert (pictures <= 7).all()


def test_what_is_missing_is_said_with_the_option_that_gives_it(engine: Engine, folder: Path) -> None:
    for change, message in (
        ({"steer_recogniser": None}, "--steer-recogniser"),
        ({"steer_recogniser": "eye.onnx"}, "gradients.*--steer-recogniser"),
        ({"quality_model": "judge.onnx"}, "gradients.*--quality-model"),
        ({"pose_model": Path("pose.onnx")}, "gradients.*--pose-model"),
        ({"pose_model": Path("6drepnet")}, "--pose-model"),
        ({"tolerance": ["pitch=3"]}, "not steered"),
        ({"tolerance": ["identity=0.2"]}, "--min-cosine"),
        ({"tolerance": ["yaw:3"]}, "NAME=WIDTH"),
    ):
        with pytest.raises(ConfigError, match=message):
            made(engine, replace(base(folder, "images"), **change))  # type: ignore[arg-type]
    for option in ("steer_recogniser", "quality_model"):
        with pytest.raises(ModelNotFound, match="--" + option.replace("_", "-")):
            made(engine, replace(base(folder, "images"), **{option: "nobody.pth"}))


def test_two_judges_of_one_name_are_both_in_the_manifest(engine: Engine, folder: Path) -> None:
    (folder / "there").mkdir()
    twin = folder / "there" / "eye.safetensors"
    twin.write_bytes((folder / "other.safetensors").read_bytes())
    asked = replace(base(folder, "images"), quality_model=str(twin)).asked
    judges = engine.control(asked).describe()["judges"]  # type: ignore[arg-type]
    assert {"recogniser eye", "quality recogniser eye"} < judges.keys()


def test_a_path_that_is_called_mini_is_not_judged_by_the_embedded_recogniser(folder: Path) -> None:
    path = folder / "mini.safetensors"
    path.write_bytes((folder / "own.safetensors").read_bytes())
    own = Engine.load(path, device="cpu", precision="fp32", compute_batch=2)
    with pytest.raises(ConfigError, match="--steer-recogniser"):
        made(own, replace(base(folder, "images"), steer_recogniser=None))
