"""A stepping that cannot be is refused before data are read and before anything is written."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from train_harness import people, settings, small_recogniser
from typer.testing import CliRunner

from v2f_engine.cli.main import app
from v2f_engine.errors import BackendUnavailable, ConfigError
from v2f_engine.train.distributed import Ranks
from v2f_engine.train.generator import train_generator
from v2f_engine.train.loop import Budget
from v2f_engine.train.recogniser import RecogniserTraining, train_recogniser
from v2f_engine.train.stepping import require_stepping

LINES = {
    "a recogniser": ("recogniser", "--recipe mended"),
    "a recogniser whose recipe has what a graph cannot": (
        "recogniser",
        "--recipe published --set fp16_amp=false --set dropout=0",
    ),
    "a generator": ("generator", "--dropout 0 --set shift=0"),
    "a generator whose recipe has dropout": (
        "generator",
        "--preset mended-2025 --dropout 0 --set perceptual=recogniser",
    ),
}
"""Command lines that a GPU would follow. A recipe's dropout, taken away on the same line, is no reason to refuse."""


@pytest.mark.parametrize("line", LINES)
def test_a_command_refuses_a_graph_on_a_cpu_before_it_looks_at_data(line: str, tmp_path: Path) -> None:
    command, options = LINES[line]
    words = ["train", command, str(tmp_path / "nowhere"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    found = CliRunner().invoke(app, [*words, *options.split(), "--steps", "2", "--stepping", "graph"])
    assert isinstance(found.exception, BackendUnavailable), found.output
    assert "'cpu'. Use stepping='eager'." in str(found.exception)
    assert not (tmp_path / "out").exists()


def test_a_training_refuses_a_graph_on_a_cpu_before_it_writes(tmp_path: Path) -> None:
    generator = dataclasses.replace(settings(tmp_path / "generator"), shift=0, stepping="graph")
    recogniser = RecogniserTraining.named(
        "mended", tmp_path / "recogniser", budget=Budget(steps=2), batch=4, stepping="graph"
    )
    with pytest.raises(BackendUnavailable, match="stepping='eager'"):
        train_generator(people(), small_recogniser(), generator, say=print)
    with pytest.raises(BackendUnavailable, match="stepping='eager'"):
        train_recogniser(people(), recogniser, say=print)
    assert list(tmp_path.iterdir()) == []


def test_several_ranks_cannot_share_a_graph() -> None:
    group = Ranks(rank=1, world=2, device="cuda:1")
    with pytest.raises(ConfigError, match="one rank"):
        require_stepping("graph", group)
    require_stepping("eager", group)
    require_stepping("compiled", group)
