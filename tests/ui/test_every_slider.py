"""Every slider reaches what it names: the engine hears the number, and the pictures are others."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from ui_page import Line, images

from v2f_engine.attributes.control import AttributeControl
from v2f_engine.attributes.estimators import load_estimator
from v2f_engine.data.gate.decode import decode
from v2f_engine.errors import ConfigError
from v2f_engine.models.features import to_network
from v2f_engine.options import EngineOptions
from v2f_engine.pipeline.engine import Engine
from v2f_engine.pipeline.makers.posed import PoseCondition
from v2f_engine.ui.asked import GOALS, SPREADS, WAYS, Settings
from v2f_engine.ui.sliders import SLIDERS
from v2f_engine.ui.studio import CENTRE


@dataclass
class Heard:
    """What an engine was asked last."""

    images: Any = None
    masks: Any = None
    n_masked: set[int] = field(default_factory=set)
    control: Any = None
    sigma: list[float] = field(default_factory=list)
    cosine: list[float] = field(default_factory=list)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    """Watches `Engine.batches` and `Engine.control`; eight images whose centre is made do not count."""
    told = Heard()
    batches, control = Engine.batches, Engine.control

    def watched(self: Engine, identities: Any, asked: Any, *rest: Any, **how: Any) -> Any:
        if asked is CENTRE:
            yield from batches(self, identities, asked, *rest, **how)
            return
        told.images, told.masks = asked, self.masks
        for batch in batches(self, identities, asked, *rest, **how):
            told.n_masked = set(batch.attributes["n_masked"].astype(int).tolist())
            told.sigma = batch.attributes["sigma"].tolist()
            told.cosine = batch.attributes["cosine_to_centre"].tolist()
            yield batch

    def controlled(self: Engine, asked: Any) -> Any:
        told.control = asked
        return control(self, asked)

    monkeypatch.setattr(Engine, "batches", watched)
    monkeypatch.setattr(Engine, "control", controlled)
    return told


def pixels(lines: list[Line]) -> np.ndarray:
    """uint8 `[N, 112, 112, 3]` of a row."""
    found = [decode(base64.b64decode(line["src"].partition(",")[2]), "a row") for line in images(lines)]
    return np.stack(found)


def turned(shown: np.ndarray) -> np.ndarray:
    """Yaw and pitch `[N, 2]` in degrees by the embedded estimator."""
    with torch.no_grad():
        found: np.ndarray = load_estimator("pose").model(to_network(torch.from_numpy(shown))).numpy()
    return found


Row = Callable[..., list[Line]]


def test_every_slider_has_a_test() -> None:
    assert set(SLIDERS) == {*GOALS, "sigma", "cosine", "masks", "images"}


@pytest.mark.parametrize("count", [1, 5, 24])
def test_images(row: Row, heard: Heard, count: int) -> None:
    lines = row(images=count)
    assert [line["number"] for line in images(lines)] == list(range(count))
    assert heard.images.images_per_id == count
    assert (lines[0]["kind"], lines[-1]["kind"]) == ("begin", "end")


def test_seed_of_pictures_and_number_and_seed_of_people(row: Row, heard: Heard) -> None:
    first = pixels(row(images=2))
    for who, settings in (
        ({}, {"variation": 9}),
        ({"number": 1}, {}),
        ({"seed": 3}, {}),
        ({"kind": "table", "number": 2}, {}),
    ):
        assert (pixels(row(who, images=2, **settings)) != first).any(axis=(1, 2, 3)).all(), (who, settings)
    assert heard.images.seed == 0
    row(variation=9)
    assert heard.images.seed == 9


@pytest.mark.parametrize("level", [0.0, 0.35, 1.2])
def test_sigma(row: Row, heard: Heard, level: float) -> None:
    row(spread="sigma", level=level, images=6)
    assert heard.sigma == pytest.approx([level] * 6)


def test_cosine(row: Row, heard: Heard) -> None:
    row(spread="cosine", level=0.7, images=24)
    assert np.mean(heard.cosine) == pytest.approx(0.7, abs=0.02)


def test_the_usual_spread_is_the_published(row: Row, heard: Heard) -> None:
    row(images=24)
    assert {round(one, 4) for one in heard.sigma} == {0.3, 0.5, 0.7}


@pytest.mark.parametrize("share", [0.1, 0.45, 1.0])
def test_masks(row: Row, heard: Heard, share: float) -> None:
    row(masks=share, images=6)
    assert heard.n_masked == {int(np.ceil(49 * share))}
    assert (pixels(row(masks=share, images=2)) != pixels(row(images=2))).any()


def test_yaw_by_the_pose_model(row: Row, heard: Heard) -> None:
    left, right = (row(yaw=yaw, images=6) for yaw in (-35, 35))
    assert {left[0]["way"], right[0]["way"]} == {"pose-model"}
    assert isinstance(heard.control, PoseCondition)
    assert heard.control.goals["yaw"].values == (35.0,)
    assert turned(pixels(left))[:, 0].mean() < -25
    assert turned(pixels(right))[:, 0].mean() > 25
    assert set(heard.n_masked) <= set(range(40, 46))  # as a pose network is asked unless told otherwise
    assert set(heard.sigma) == {0.0}


def test_sliders_beside_the_pose_model_count_too(row: Row, heard: Heard) -> None:
    row(yaw=20, images=6, masks=0.5, spread="sigma", level=0.4)
    assert heard.n_masked == {25}
    assert heard.sigma == pytest.approx([0.4] * 6)


def test_pitch_by_the_pose_model_when_it_is_asked_for(row: Row, heard: Heard) -> None:
    down, up = (pixels(row(pitch=pitch, way="pose-model", images=6)) for pitch in (25, -25))
    assert turned(down)[:, 1].mean() > turned(up)[:, 1].mean() + 15
    assert heard.control.goals["pitch"].values == (-25.0,)


@pytest.mark.parametrize(
    ("goals", "way"),
    [
        ({"pitch": 12}, "auto"),
        ({"quality": 30.5}, "auto"),
        ({"yaw": 7, "quality": 26}, "auto"),
        ({"yaw": 9}, "steering"),
    ],
)
def test_what_is_steered(
    row: Row, heard: Heard, monkeypatch: pytest.MonkeyPatch, goals: dict[str, float], way: str
) -> None:
    """The control that steers has each goal; its loop is spared here and walked in `test_cancelling`."""

    def stop(self: Engine, asked: Any) -> Any:
        heard.control = asked
        raise ConfigError("spared")

    monkeypatch.setattr(Engine, "control", stop)
    lines = row(way=way, images=1, **goals)
    assert lines[0]["way"] == "steering"
    assert lines[-1] == {"kind": "error", "name": "ConfigError", "words": "spared"}
    assert isinstance(heard.control, AttributeControl)
    assert {name: goal.values for name, goal in heard.control.goals.items()} == {
        name: (float(value),) for name, value in goals.items()
    }


@pytest.mark.parametrize("name", SLIDERS)
def test_both_ends_are_taken_and_nothing_beyond(name: str) -> None:
    slider = SLIDERS[name]

    def made(value: float) -> Settings:
        if name in SPREADS:
            return Settings(spread=name, level=value)
        return Settings(**{name: value})  # type: ignore[arg-type]

    for end in (slider.low, slider.high):
        made(int(end) if slider.whole else end)
    for beyond in (slider.low - slider.step, slider.high + slider.step, float("nan"), "3", True):
        with pytest.raises(ConfigError):
            made(beyond)  # type: ignore[arg-type]


def test_settings_that_exclude_each_other() -> None:
    for wrong in (
        {"way": "pose-model", "quality": 25},
        {"spread": "sigma"},
        {"spread": "usual", "level": 0.3},
        {"way": "magic"},
        {"spread": "wide", "level": 1},
    ):
        with pytest.raises(ConfigError):
            Settings(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no pose network"):
        Settings(yaw=3, way="pose-model").taken(pose_model=False)
    assert Settings(yaw=3).taken(pose_model=False) == "steering"
    assert set(WAYS) == {"auto", "pose-model", "steering"}


def test_words_are_options_that_generate_knows() -> None:
    """`asked.words` beside the command line's own table of options."""
    from typer.main import get_command

    from v2f_engine.cli.main import app

    command = get_command(app).commands["generate"]  # type: ignore[attr-defined]
    known = {name for one in command.params for name in one.opts}
    every = (
        Settings(yaw=1, pitch=2, quality=25, spread="sigma", level=0.4, masks=0.3),
        Settings(yaw=1, way="pose-model", spread="cosine", level=0.8),
    )
    words = {word for one in every for word in one.words(True) if word.startswith("--")}
    assert words <= known
    assert words == {
        "--yaw", "--pitch", "--quality", "--sigma", "--sigma-weights", "--target-cosine", "--masks", "--seed", "--by",
    }  # fmt: skip
    assert every[1].engine_options(EngineOptions(), "mini-pose").model == "mini-pose"
