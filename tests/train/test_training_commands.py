"""`v2f features` and `v2f train recogniser` as typed: what they print, what they write, how they refuse."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import v2f

from v2f_engine.batch import ImageBatch
from v2f_engine.cli.main import main
from v2f_engine.data import Encoder, Plan, open_training_set, write_dataset
from v2f_engine.errors import ConfigError, DatasetError
from v2f_engine.models.embedder import open_embedder
from v2f_engine.models.stripe_response import stripe_response
from v2f_engine.models.weights import load_recogniser

PEOPLE, EACH = 6, 4


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("commands") / "set"
    coarse = np.random.default_rng(0).integers(0, 256, (PEOPLE, EACH, 14, 14, 3), np.uint8)

    def batches(chosen: range):  # type: ignore[no-untyped-def]
        for i in chosen:
            yield ImageBatch(coarse[i].repeat(8, 1).repeat(8, 2), np.full(EACH, i), np.arange(EACH))

    write_dataset(root, {}, Plan.of(PEOPLE, EACH), batches, format="webdataset", encoder=Encoder("png"))
    return root


def test_features_then_a_training_set(dataset: Path, tmp_path: Path) -> None:
    said = v2f("features", dataset, "--out", tmp_path / "f.npy", "--batch", 8)
    assert "24 images, 512 numbers each" in said
    assert "mini, rgb, (x - 127.5) / 127.5, 0 bad" in said
    assert open_training_set(dataset, tmp_path / "f.npy", with_features=True).feature_dim == 512
    with pytest.raises(ConfigError, match="did you mean 'skip'"):
        v2f("features", dataset, "--out", tmp_path / "g.npy", "--on-bad", "skpi")


def test_a_probe_says_and_writes_nothing(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "two.npy", np.array([3, 1]))
    before = sorted(path for place in (tmp_path, dataset) for path in place.rglob("*"))
    said = v2f("features", dataset, "--probe", "--mask", "two.npy")
    assert (
        "mini: cosine of a face's feature with and without stripes of 6 grey levels, mean of 2 faces" in said
    )
    found = stripe_response(
        open_embedder("mini"), open_training_set(dataset, None, np.array([3, 1])).read([0, 1]).images
    )
    for line in found.lines():
        assert line in said
    monkeypatch.setattr(sys, "argv", ["v2f", *f"features {dataset} --probe --mask two.npy --json".split()])
    capsys.readouterr()
    main()
    assert json.loads(capsys.readouterr().out)["stripes"] == found.to_json()
    assert sorted(path for place in (tmp_path, dataset) for path in place.rglob("*")) == before
    with pytest.raises(ConfigError, match="--out.*or --probe, which writes nothing"):
        v2f("features", dataset)


def test_a_recogniser_is_trained_and_loads(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["train", "recogniser", dataset, "--steps", 2, "--batch", 4, "--out", out, "--fp32"]
    words += ["--margin", "adaface", "--m", 0.3, "--sample-rate", 0.5, "--held-out-people", 2]
    assert str(out / "recogniser.safetensors") in v2f(*words)
    assert load_recogniser(out / "recogniser.safetensors").config.feature_dim == 512
    settings = json.loads((out / "checkpoints" / "00000002.json").read_text())["settings"]
    assert (settings["margin"], settings["m"], settings["sample_rate"], settings["seed"]) == (
        "adaface",
        0.3,
        0.5,
        0,
    )
    assert "eer" in json.loads((out / "validation.jsonl").read_text().splitlines()[-1])
    with pytest.raises(ConfigError, match="recipe 'publishd'.*did you mean 'published'"):
        v2f("train", "recogniser", dataset, "--recipe", "publishd")
    with pytest.raises(DatasetError, match="does not exist"):
        v2f("train", "recogniser", tmp_path / "nothing")
