"""`v2f train generator` on an LMDB in the published layout, with rows that cannot be used."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from train_harness import people
from typer.testing import CliRunner

from v2f_engine.cli.main import app
from v2f_engine.data.formats.lmdb.entries import write_training_lmdb
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.errors import DatasetError
from v2f_engine.models.weights import load_generator
from v2f_engine.train.emulated import bf16_here


@pytest.fixture(scope="module")
def lmdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five people x 4; of the first, one image is no JPEG, one feature is NaN, one is too short."""
    everyone = people(5, 4)
    assert everyone.features is not None
    jpeg = Encoder(quality=90).encode
    rows = [
        (jpeg(image), feature, int(label))
        for image, feature, label in zip(everyone.images, everyone.features, everyone.labels, strict=True)
    ]
    rows[0] = (b"no picture", *rows[0][1:])
    rows[1] = (rows[1][0], np.full(512, np.nan, np.float32), 0)
    rows[2] = (rows[2][0], rows[2][1][:100], 0)
    path = tmp_path_factory.mktemp("published") / "training.lmdb"
    write_training_lmdb(path, rows, 5)
    return path


def _train(lmdb: Path, out: Path, *more: str) -> object:
    return CliRunner().invoke(
        app,
        ["train", "generator", str(lmdb), "--steps", "2", "--batch", "9", "--watch-every", "2", "--device", "cpu",
         "--held-out-people", "2", "--out", str(out), *([] if bf16_here("cpu") else ["--fp32"]), *more],
    )  # fmt: skip


def test_bad_rows_are_skipped_counted_and_named(lmdb: Path, tmp_path: Path) -> None:
    result = _train(lmdb, tmp_path, "--on-bad", "skip")
    assert result.exception is None, result.exception
    report = json.loads((tmp_path / "bad_rows.json").read_text())
    assert report["by_kind"] == {"feature": 1, "feature dimension": 1, "image": 1}
    assert load_generator(tmp_path / "generator.safetensors").head["training"]["steps"] == 2
    assert json.loads((tmp_path / "validation.jsonl").read_text())["step"] == 2


def test_or_refused_by_name(lmdb: Path, tmp_path: Path) -> None:
    result = _train(lmdb, tmp_path)
    assert isinstance(result.exception, DatasetError)
    reasons = (
        "0: expected a JPEG .*no pictu",
        "1: the feature holds NaN",
        "2: expected .* 512 numbers, found 100",
    )
    message = rf"training\.lmdb: record ({'|'.join(reasons)})"
    assert re.search(message, str(result.exception)), result.exception
    assert not (tmp_path / "generator.safetensors").exists()


def test_unknown_names_are_told(lmdb: Path, tmp_path: Path) -> None:
    assert "published-2025" in str(_train(lmdb, tmp_path, "--preset", "published").exception)
    assert "did you mean 'base'" in str(_train(lmdb, tmp_path, "--size", "bas").exception)
