"""`generate` with an executor, `v2f repair` and `v2f verify`, with the embedded model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from stub_people import tree

import v2f_engine as v2f
from v2f_engine.cli.main import app
from v2f_engine.errors import ConfigError, DatasetError

GENERATE: dict[str, Any] = {
    "device": "cpu",
    "images_per_shard": 4,
    "format": "webdataset",
    "seed": 9,
    "compute_batch": 4,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("one") / "set"
    v2f.generate(6, 2, root, **GENERATE)
    return root


@pytest.mark.scale
def test_workers_give_the_bytes_of_one_process(made: Path, tmp_path: Path) -> None:
    report = v2f.generate(6, 2, tmp_path / "set", **GENERATE, executor="local", workers=2)
    assert (report.images, report.written) == (12, 12)
    assert tree(tmp_path / "set") == tree(made)
    assert (made / "identities.safetensors").is_file()


def test_repair_needs_the_folder_alone(made: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(made, root)
    whole = tree(root)
    tars = sorted(root.rglob("*.tar"))
    tars[0].write_bytes(tars[0].read_bytes()[:-1000])
    tars[2].unlink()
    run = Run()
    assert run("verify", str(root), "--fast") == 1
    assert run("repair", str(root)) == 0
    assert "2 of 3 shards made again" in run.output
    assert tree(root) == whole
    assert run("verify", str(root)) == 0
    assert run("repair", str(root)) == 0
    assert "nothing to repair" in run.output


def test_a_lost_identity_table_is_named(made: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(made, root)
    (root / "identities.safetensors").write_bytes(b"x")
    with pytest.raises(DatasetError, match=r"identities.safetensors"):
        v2f.repair(root)
    v2f.generate(6, 2, root, **GENERATE)  # the same command has the vectors and writes them again
    assert tree(root) == tree(made)


def test_executor_options_are_checked_first(tmp_path: Path) -> None:
    for wrong in ({"executor": "rai"}, {"executor": "inline", "workers": 2}, {"workers": 0}):
        with pytest.raises(ConfigError):
            v2f.generate(6, 2, tmp_path / "set", **GENERATE, **wrong)
    assert not (tmp_path / "set").exists()


class Run:
    """The command line in this process."""

    def __init__(self) -> None:
        from typer.testing import CliRunner

        self._runner = CliRunner()
        self.output = ""

    def __call__(self, *words: str) -> int:
        result = self._runner.invoke(app, words)
        self.output = result.output
        return result.exit_code
