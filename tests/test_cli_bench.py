"""`v2f bench`: this machine's rates, and scripts of the checkout by name with their options."""

from __future__ import annotations

import subprocess
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from v2f_engine.cli import bench
from v2f_engine.cli.main import app
from v2f_engine.errors import ConfigError, MissingDependency


def test_rates_of_this_machine() -> None:
    done = CliRunner().invoke(app, ["bench", "--images", "2", "--rounds", "1", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "runner eager, device cpu" in done.output
    assert done.output.count("images/s") == 2
    assert "null writer" in done.output


@pytest.mark.parametrize("name", list(bench.SCRIPTS))
def test_every_script_is_there_and_gets_its_options(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        ran.append(command)
        return SimpleNamespace(returncode=3)

    monkeypatch.setattr(subprocess, "run", run)
    done = CliRunner().invoke(app, ["bench", name, "--size", "tiny", "--device", "cuda:1", "--rounds", "2"])
    assert done.exit_code == 3
    dash, module, *options = ran[0][1:]
    assert dash == "-m"
    assert find_spec(module) is not None
    assert options == ["--device", "cuda:1", "--rounds", "2", "--size", "tiny"]


def test_refusals(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    unknown = CliRunner().invoke(app, ["bench", "opps"])
    assert isinstance(unknown.exception, ConfigError)
    assert "did you mean 'ops'" in str(unknown.exception)
    mistyped = CliRunner().invoke(app, ["bench", "machine", "--sise", "3"])
    assert mistyped.exit_code == 2
    assert "--sise" in mistyped.output
    monkeypatch.setattr(bench, "__file__", str(tmp_path / "v2f_engine" / "cli" / "bench.py"))
    installed = CliRunner().invoke(app, ["bench", "ops"])
    assert isinstance(installed.exception, MissingDependency)
    assert "source checkout" in str(installed.exception)
