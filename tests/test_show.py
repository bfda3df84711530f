"""`v2f show`: sets, unfinished ones, trainings, tables and strangers' sets, from what they say of themselves."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from v2f_engine.batch import ImageBatch
from v2f_engine.cli.main import app
from v2f_engine.cli.show import looked_at
from v2f_engine.data import Encoder, Plan, write_dataset
from v2f_engine.data.layout import MANIFEST, RUN, WORK
from v2f_engine.errors import ConfigError


def v2f(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shown") / "people"
    v2f("render", "--ids", 2, "--images", 2, "--processes", 1, "--seed", 4, "--out", root)
    return root


def test_a_set_and_its_options_as_a_file(rendered: Path, tmp_path: Path) -> None:
    said = v2f("show", rendered)
    for words in (
        "a finished set",
        "2, 4 images (2 each), 1 shard",
        "lmdb, JPEG quality 95",
        "every file is there",
    ):
        assert words in said
    assert "v2f render --ids 2 --images 2 --seed 4" in said
    assert "evaluate report" in said
    assert "CC0-1.0" in said
    text = v2f("show", rendered, "--toml")
    assert tomllib.loads(text) == {"render": {"ids": 2, "images": 2, "seed": 4}}
    (tmp_path / "run.toml").write_text(text)
    v2f("render", "--config", tmp_path / "run.toml", "--processes", 1, "--out", tmp_path / "copy")
    assert (tmp_path / "copy" / MANIFEST).read_bytes() == (rendered / MANIFEST).read_bytes()
    (tmp_path / "copy" / "train.lmdb").write_bytes(b"")
    assert looked_at(tmp_path / "copy").facts["faults"]


def test_an_unfinished_set(tmp_path: Path) -> None:
    def broken(chosen: range):  # type: ignore[no-untyped-def]
        if chosen.start:
            raise KeyError
        yield ImageBatch(np.zeros((2, 112, 112, 3), np.uint8), np.zeros(2, int), np.arange(2))

    with pytest.raises(KeyError):
        write_dataset(tmp_path / "set", {"seed": 0}, Plan.of(3, 2, 2), broken, encoder=Encoder())
    found = looked_at(tmp_path / "set")
    assert found.kind == "an unfinished set"
    assert (found.facts["kept_shards"], found.facts["shards"], found.facts["complete"]) == (1, 3, False)
    assert (tmp_path / "set" / WORK / RUN).is_file()
    assert "1 of 3 shards (2 images) are committed" in v2f("show", tmp_path / "set")
    with pytest.raises(ConfigError, match="tells no options"):
        v2f("show", tmp_path / "set", "--toml")


def test_a_training_a_table_weights_and_strangers(rendered: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    v2f("train", "recogniser", rendered, "--steps", 2, "--batch", 4, "--fp32", "--out", out)
    said = v2f("show", out)
    for words in (
        "a training's folder",
        "recogniser, budget 2 steps",
        "checkpoints    2",
        "is complete: 2 of 2 steps",
    ):
        assert words in said
    assert "v2f train recogniser" in said
    assert "weights (iresnet)" in v2f("show", out / "recogniser.safetensors")
    v2f("ids", "sample", 3, "--out", tmp_path / "i.safetensors")
    assert "3 vectors of 512 numbers" in v2f("show", tmp_path / "i.safetensors")
    v2f("convert", rendered, tmp_path / "set", "--format", "imagefolder")
    assert "name the source" in v2f("show", tmp_path / "set")
    said = v2f("show", tmp_path / "set" / "images")
    assert "a set of others" in said
    assert "2, 4 images" in said
    with pytest.raises(ConfigError, match="nothing is there"):
        v2f("show", tmp_path / "none")
