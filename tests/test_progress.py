"""Progress says what is going on while nothing can be counted yet."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest

from v2f_engine.cli import saying
from v2f_engine.cli.progress import progress_bar
from v2f_engine.ranges import doing, stage, watched


def test_words_go_to_whoever_watches_and_cost_nothing_else() -> None:
    heard: list[str] = []

    def never() -> str:
        raise AssertionError("nobody watches, so nobody asks")

    doing(never)
    with watched(heard.append):
        doing(lambda: "one")
        with stage("load weights"), stage("decode"):
            pass
        inner: list[str] = []
        with watched(inner.append):
            doing(lambda: "two")
        assert inner == ["two"]
    doing(never)
    assert heard == ["one", "loading weights"]


def test_a_bar_shows_them_until_something_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a log, where a line is printed every half minute, the first words stand at once and others are rare."""
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    with progress_bar("generate", "images") as progress:
        doing(lambda: "loading weights")
        doing(lambda: "preparing the network")  # within ten seconds
        progress(3, 3)
    assert "loading weights" in said.getvalue()
    assert "preparing" not in said.getvalue()
    assert said.getvalue().rstrip().endswith("images/s]")
    assert "loading weights" not in said.getvalue().rpartition("\r")[2]


def test_nothing_is_shown_with_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    monkeypatch.setattr(saying.now(), "quiet", True)
    with progress_bar("generate", "images") as progress:
        doing(lambda: "loading weights")
        progress(3, 3)
    assert said.getvalue() == ""


def test_steering_counts_its_iterations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a real run, steered to a pose: iterations that rise, faces that are done, never more than there are."""
    from v2f_engine.attributes.control import AttributeControl
    from v2f_engine.pipeline import generate

    heard: list[str] = []
    with watched(heard.append):
        generate(
            2,
            1,
            tmp_path / "set",
            device="cpu",
            precision="fp32",
            attributes=AttributeControl({"yaw": "15"}, iterations=3),
        )
    steering = [words for words in heard if words.startswith("steering: ")]
    assert heard[0] == "importing" or "loading weights" in heard
    found = [
        tuple(int(word) for word in words.replace(",", "").split() if word.isdigit()) for words in steering
    ]
    assert found
    assert all(0 <= at <= 3 and most == 3 and 0 <= done <= of == 2 for at, most, done, of in found)
    assert len({at for at, *_ in found}) > 1
    assert np.diff([done for *_, done, _ in found]).min(initial=0) >= 0


def test_people_are_counted_while_they_are_rendered_for_an_estimator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Minutes of rendering once passed without a word."""
    from typer.testing import CliRunner

    from v2f_engine.cli import train_attributes
    from v2f_engine.cli.main import app

    monkeypatch.setattr(train_attributes, "PROCESSES", 1)
    monkeypatch.setattr(train_attributes, "IMAGES", 2)
    line = f"train estimator quality --people 2 --steps 1 --batch 2 --out {tmp_path / 'quality.safetensors'}"
    done = CliRunner().invoke(app, line.split())
    assert done.exit_code == 0, done.output
    assert "render: 100%" in done.stderr
    assert "4/4" in done.stderr
