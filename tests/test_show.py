"""`v2f show`: sets, unfinished ones, trainings, tables and strangers' sets, from what they say of themselves."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from command_line import v2f
from PIL import Image

from v2f_engine.batch import ImageBatch
from v2f_engine.cli.show import looked_at
from v2f_engine.data import Encoder, Plan, write_dataset
from v2f_engine.data.layout import MANIFEST, RUN, WORK
from v2f_engine.data.writing.contact_sheet import MARGIN
from v2f_engine.errors import ConfigError, OutputFolderError
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.nearest import Nearest
from v2f_engine.vectors.packing import packing
from v2f_engine.vectors.sampling import sample_identities


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
    v2f("show", tmp_path / "set", "--pictures", tmp_path / "some.png")
    assert rows_of(tmp_path / "some.png") == 1


def rows_of(sheet: Path) -> int:
    """People on a contact sheet: rows of faces, which are apart by white lines."""
    with Image.open(sheet) as opened:
        inked = (np.asarray(opened.convert("RGB"))[:, -MARGIN - 60] < 250).any(-1).astype(int)
    return int((np.diff(inked, prepend=0) == 1).sum())


FORMS = {
    "ours": ("webdataset", (112, 112), "set"),
    "ours in one file": ("lmdb", (112, 112), "set"),
    "a stranger's, wide": ("imagefolder", (96, 160), "set/images"),
}


@pytest.mark.parametrize("form", FORMS)
def test_pictures_of_any_set(form: str, tmp_path: Path) -> None:
    format, (height, width), place = FORMS[form]
    colours = np.random.default_rng(0).integers(0, 200, (12, 2, 3), np.uint8)

    def people(chosen: range):  # type: ignore[no-untyped-def]
        for i in chosen:
            faces = np.tile(colours[i][:, None, None], (1, 112, 112, 1))
            yield ImageBatch(faces, np.full(2, i), np.arange(2))

    write_dataset(tmp_path / "set", {}, Plan.of(12, 2), people, format=format, encoder=Encoder("png"))
    for picture in (tmp_path / "set" / "images").rglob("*.png"):
        with Image.open(picture) as opened:
            shaped = opened.resize((width, height))
        shaped.save(picture)
    sheet = tmp_path / "sheet.png"
    assert str(sheet) in v2f("show", tmp_path / place, "--pictures", sheet)
    assert rows_of(sheet) == 10
    with Image.open(sheet) as opened:
        drawn = np.asarray(opened.convert("RGB"))
    faces = drawn[MARGIN : MARGIN + 112, -MARGIN - 112 : -MARGIN]
    assert (faces[56, 56] == colours[0, 1]).all()
    whole = (faces == colours[0, 1]).all(-1)
    assert whole.any(1).sum() == pytest.approx(112 * min(1, height / width), abs=1)
    assert whole.any(0).sum() == pytest.approx(112 * min(1, width / height), abs=1)
    sheet.write_bytes(b"mine")
    with pytest.raises(OutputFolderError):
        v2f("show", tmp_path / place, "--pictures", sheet)
    assert sheet.read_bytes() == b"mine"


def test_options_for_a_file_are_printed_in_silence_too(rendered: Path) -> None:
    words = [sys.executable, "-m", "v2f_engine", "show", str(rendered), "--toml", "--quiet"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert tomllib.loads(done.stdout) == {"render": {"ids": 2, "images": 2, "seed": 4}}
    assert done.stderr == ""


def test_a_table_and_strangers(rendered: Path, tmp_path: Path) -> None:
    v2f("ids", "sample", 3, "--out", tmp_path / "i.safetensors")
    assert "3 vectors of 512 numbers" in v2f("show", tmp_path / "i.safetensors")
    v2f("convert", rendered, tmp_path / "set", "--format", "imagefolder")
    assert "name the source" in v2f("show", tmp_path / "set")
    said = v2f("show", tmp_path / "set" / "images")
    assert "a set of others" in said
    assert "2, 4 images" in said
    np.save(tmp_path / "f.npy", np.ones((7, 64), np.float32))
    np.savez(tmp_path / "f.npz", vectors=np.ones((5, 512), np.float16))
    assert "7 of 64 numbers" in v2f("show", tmp_path / "f.npy")
    assert "5 of 512 numbers" in v2f("show", tmp_path / "f.npz")
    with pytest.raises(ConfigError, match="nothing is there"):
        v2f("show", tmp_path / "none")


@pytest.mark.slow
def test_a_training_and_its_weights(rendered: Path, tmp_path: Path) -> None:
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


def test_how_images_differ_and_how_near_people_are_is_said(tmp_path: Path) -> None:
    """They were called weights, of a model of 282,624 numbers."""
    rng = np.random.default_rng(0)
    np.save(
        tmp_path / "f.npy", rng.standard_normal((9, 512)) + np.repeat(rng.standard_normal((3, 512)), 3, 0)
    )
    np.save(tmp_path / "l.npy", np.repeat(np.arange(3), 3))
    place = tmp_path / "w.safetensors"
    said = v2f(
        "ids", "within", tmp_path / "f.npy", "--labels", tmp_path / "l.npy", "--components", 8, "--out", place
    )
    assert "9 images of 3 people leave 6 differences, so images will differ in 6 of 8 components" in said
    shown = looked_at(place)
    assert "within-person covariance" in shown.kind
    assert (shown.facts["images"], shown.facts["people"]) == (9, 3)
    said = v2f("show", place)
    assert "9 images of 3 people: 3 people of f.npy" in said
    assert f"v2f generate --perturbation covariance:{place}" in said
    near = tmp_path / "perturbation.safetensors"
    rows = np.array([[3.0, 4.0], [4.0, 3.0], [-5.0, 1.0]], np.float32)
    near.write_bytes(Nearest.of(rows, np.arange(3)).to_bytes())
    said = v2f("show", near)
    assert "how near the people of a set are, for its guarded cone" in said
    assert "3, and the cosine of each to the nearest other: 0.9600 at most" in said
    near.write_bytes(Nearest(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.uint64)).to_bytes())
    assert looked_at(near).facts["identities"] == 0


def test_a_table_that_was_packed_says_so(tmp_path: Path) -> None:
    table = sample_identities(8, source="gaussian", max_cosine=0.3)
    found = packing(table, steps=2)
    found.table.save(tmp_path / "p.safetensors")
    worst = f"worst cosine {found.before.max():.4f} -> {found.after.max():.4f}"
    said = v2f("show", tmp_path / "p.safetensors")
    assert f"{worst}, step 2, from the table {table.table_hash[:12]}" in said
    odd = Identities(table.vectors, table.candidate, {**table.provenance, "packed": {"worst_cosine": None}})
    odd.save(tmp_path / "odd.safetensors")
    assert "by another version" in v2f("show", tmp_path / "odd.safetensors")
