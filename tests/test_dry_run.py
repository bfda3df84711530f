"""`--dry-run`: nothing is written, and what it says is what the run then does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import v2f

from v2f_engine.batch import ImageBatch
from v2f_engine.data import Encoder, Plan, write_dataset
from v2f_engine.data.formats import FORMATS
from v2f_engine.data.writing.forecast import forecast, probed
from v2f_engine.data.writing.write import manifest_for
from v2f_engine.errors import (
    BackendUnavailable,
    ConfigError,
    DiskFull,
    OutputFolderError,
    SaturationError,
    V2FError,
)
from v2f_engine.vectors.identities import Identities


def tree(root: Path) -> dict[str, tuple[int, int]]:
    """Everything below a folder, folders too: size and time of change."""
    return {
        str(path.relative_to(root)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in root.rglob("*")
    }


def size(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


Make = Callable[[range], Iterator[ImageBatch]]


def people(images: int, rough: int) -> Make:
    """Faces of blocks of so many pixels: the smaller, the larger their files; no two alike, sizes vary."""

    def make(chosen: range) -> Iterator[ImageBatch]:
        for i in chosen:
            rng = np.random.default_rng(i)
            coarse = rng.integers(0, 256, (images, 112 // rough, 112 // rough, 3), np.uint8)
            faces = coarse.repeat(rough, 1).repeat(rough, 2)
            columns = {name: np.zeros(images, np.float32) for name in ("sigma", "n_masked", "yaw", "pitch")}
            yield ImageBatch(faces, np.full(images, i), np.arange(images), columns)

    return make


SIZES = (
    (3, 5, 8, "jpeg"),
    (40, 20, 28, "jpeg"),
    *(
        pytest.param(*size, marks=pytest.mark.slow)
        for size in [(1, 1, 16, "jpeg"), (12, 9, 4, "jpeg"), (7, 6, 16, "png")]
    ),
)


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "null"])
@pytest.mark.parametrize(("identities", "images", "rough", "codec"), SIZES)
def test_bytes_images_and_shards_are_as_foretold(
    format: str, identities: int, images: int, rough: int, codec: str, tmp_path: Path
) -> None:
    plan, encoder = Plan.of(identities, images, 60), Encoder(codec)
    make = people(images, rough)
    manifest = manifest_for(format, plan, encoder.describe(), {"seed": 0})
    root = tmp_path / "set"
    told = forecast(root, manifest, lambda: probed(make(range(min(identities, 4))), encoder))
    assert list(tmp_path.iterdir()) == []
    made = write_dataset(root, {"seed": 0}, plan, make, format=format, encoder=encoder)
    assert (told.images, told.shards, told.state) == (made.images, made.shards_written, "new")
    assert told.bytes == pytest.approx(size(root), rel=0.3)
    assert told.most >= told.bytes
    before = tree(tmp_path)
    again = forecast(root, manifest, lambda: pytest.fail("nothing is missing"))
    assert (again.state, again.kept_images, again.seconds) == ("complete", made.images, 0.0)
    assert tree(tmp_path) == before


def test_what_is_kept_of_an_interrupted_run_is_told(tmp_path: Path) -> None:
    plan, encoder, root = Plan.of(6, 4, 8), Encoder(), tmp_path / "set"
    make = people(4, 16)

    def broken(chosen: range) -> Iterator[ImageBatch]:
        if chosen.start >= 4:
            raise KeyError
        yield from make(chosen)

    with pytest.raises(KeyError):
        write_dataset(root, {"seed": 0}, plan, broken, format="webdataset", encoder=encoder)
    manifest = manifest_for("webdataset", plan, encoder.describe(), {"seed": 0})
    before = tree(tmp_path)
    told = forecast(root, manifest, lambda: probed(make(range(2)), encoder))
    assert (told.state, told.kept_shards, told.kept_images, told.shards) == ("begun", 2, 16, 3)
    assert tree(tmp_path) == before
    other = manifest_for("webdataset", plan, encoder.describe(), {"seed": 1})
    with pytest.raises(OutputFolderError, match="--seed is 0 there, 1 now|settings.seed is 0 there, 1 now"):
        forecast(root, other, lambda: pytest.fail("refused before"))


def test_a_disk_that_is_too_small_is_known_from_the_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from v2f_engine import disk

    plan, encoder = Plan.of(4, 4), Encoder()
    manifest = manifest_for("webdataset", plan, encoder.describe(), {})
    monkeypatch.setattr(disk, "free_bytes", lambda path: 70_000)
    with pytest.raises(DiskFull, match="70,000 bytes"):
        forecast(tmp_path / "set", manifest, lambda: probed(people(4, 2)(range(4)), encoder))


WORDS = "generate --ids 3 --images 2 --images-per-shard 2 --compute-batch 2 --device cpu"


def test_a_generation_is_foretold_and_then_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = v2f(*WORDS.split(), "--dry-run")
    assert list(tmp_path.iterdir()) == []
    for words in (
        "people         3, 6 images in 3 shards",
        "cpu, bf16",
        "statistics of mini",
        "nothing was written",
    ):
        assert words in said or words.replace("bf16", "fp32") in said
    v2f(*WORDS.split())
    assert "all 3 shards (6 images)" in v2f(*WORDS.split(), "--dry-run")


@pytest.mark.slow
def test_onnx_is_foretold_without_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is exported; what the exported file's run refuses is refused; once it is there, it is what runs."""
    from v2f_engine.export.onnx import cached_onnx
    from v2f_engine.models.mask_schedule import MASK_SCHEDULES

    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home"
    monkeypatch.setattr("v2f_engine.models.registry.Path.home", lambda: home)
    words = [*WORDS.split(), "--runner", "onnx", "--dry-run"]
    said = v2f(*words)
    assert list(tmp_path.iterdir()) == []
    assert f"exported first to {home}" in said
    assert "runner onnx, 2 images a call" in said
    for more, error in REFUSED_OF_ONNX:
        with pytest.raises(error):
            v2f(*words, *more.split())
    assert list(tmp_path.iterdir()) == []
    cached_onnx("mini", "fp32", MASK_SCHEDULES["generate"])
    before = tree(home)
    said = v2f(*words)
    assert "exported first" not in said
    assert "runner onnx, 2 images a call" in said
    assert tree(tmp_path)["home"]
    assert tree(home) == before


REFUSED_OF_ONNX = (
    ("--precision bf16", BackendUnavailable),
    ("--yaw 3", ConfigError),
    ("--rounding truncate", ConfigError),
)
REFUSED = (
    ("--ids 1000000000000", DiskFull),
    ("--out file", OutputFolderError),
    ("--out foreign", OutputFolderError),
    ("--sigma 0.3,", ConfigError),
    pytest.param("--ids 100000 --max-cosine 0.1", SaturationError, marks=pytest.mark.slow),
    pytest.param("--by pose-model --yaw 3", ConfigError, marks=pytest.mark.slow),
)


@pytest.mark.parametrize(("words", "error"), REFUSED)
def test_what_the_run_would_refuse_is_refused(
    words: str, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("foreign").mkdir()
    Path("foreign/mine.txt").touch()
    before = tree(tmp_path)
    for dry in ([], ["--dry-run"]):
        with pytest.raises(error):
            v2f("generate", "--device", "cpu", *words.split(), *dry)
        assert tree(tmp_path) == before


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dry") / "people"
    known = np.random.default_rng(0).standard_normal((30, 512), np.float32)
    Identities.from_vectors(known).save(root.with_name("known.safetensors"))
    write_dataset(root, {}, Plan.of(6, 4), people(4, 8), format="webdataset", encoder=Encoder("png"))
    return root


OTHERS = (
    ("convert {people} out", ("24 images in 1 shard", "webdataset")),
    ("select {people} --keep 3 --out out", ("18 images in 1 shard", "24 judged at a rate measured here on 24")),
    ("features {people} --batch 8 --out f.npy", ("24 of 512 numbers", "images/s, measured here on 8 images")),
    pytest.param(
        "ids sample 2500 --out i.safetensors", ("2,500 from 'mini'", "candidates"), marks=pytest.mark.slow
    ),
    ("train recogniser {people} --steps 40 --batch 4 --fp32 --out run", ("40 steps of 4 images", "s a step")),
    (
        "train estimator pose {people} --steps 5 --batch 4 --out e.safetensors",
        ("24 images of", "5 steps of 4 images", "s a step, measured here on 3 of them"),
    ),
    pytest.param(
        "train estimator pose --steps 5 --batch 4 --out e.safetensors", ("500 people of 16 images", "minutes"),
        marks=pytest.mark.slow,
    ),
    pytest.param(
        "ids prove 3 --compute-batch 2 --out p.safetensors", ("3 from statistics of mini", "images/s, measured here"),
        marks=pytest.mark.slow,
    ),
    (
        "ids pack {people}/../known.safetensors --source gaussian --out p.safetensors",
        ("30 of 512 numbers", "20 steps at most", "p.csv"),
    ),
    pytest.param("render --ids 3 --images 2 --out r", ("6 images in 1 shard",), marks=pytest.mark.slow),
    pytest.param(
        "train generator {people} --steps 40 --batch 4 --fp32 --device cpu --out run", ("40 steps of 4 images",),
        marks=pytest.mark.slow,
    ),
)  # fmt: skip


@pytest.mark.parametrize(("words", "expected"), OTHERS)
def test_other_commands_write_nothing(
    words: str, expected: tuple[str, ...], world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before, caches = tree(world.parent), set(os.listdir(tmp_path))
    said = v2f(*words.format(people=world).split(), "--dry-run")
    assert [text for text in (*expected, "nothing was written") if text not in said] == [], said
    assert set(os.listdir(tmp_path)) == caches == set()
    assert tree(world.parent) == before


@pytest.mark.parametrize(
    "words",
    [
        "ids sample 20 --source gaussian --out i.safetensors",
        pytest.param(
            "ids prove 6 --compute-batch 2 --out p.safetensors --features p.npy", marks=pytest.mark.slow
        ),
    ],
)
def test_a_file_that_is_whole_is_known(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan of what was done already says so; that of other settings is refused as the run is."""
    monkeypatch.chdir(tmp_path)
    v2f(*words.split())
    before = tree(tmp_path)
    assert "nothing is left to do" in v2f(*words.split(), "--dry-run")
    for dry in ([], ["--dry-run"]):
        with pytest.raises(OutputFolderError, match="--seed was 0, is 1"):
            v2f(*words.split(), "--seed", 1, *dry)
    assert tree(tmp_path) == before


@pytest.mark.slow
def test_a_proof_is_foretold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as are then made, about; what an earlier run left is counted; what cannot be met is said."""
    monkeypatch.chdir(tmp_path)
    words = ("ids", "prove", 150, "--out", "p.safetensors")
    told = planned("ids prove 150 --out p.safetensors")
    assert list(tmp_path.iterdir()) == []
    assert "not to be met" in v2f(*words, "--max-made", 151, "--dry-run")
    monkeypatch.setattr("v2f_engine.vectors.proof.TILE", None)  # ends the run after its pictures
    with pytest.raises(TypeError):
        v2f(*words)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    again = planned("ids prove 150 --out p.safetensors")
    assert (told["kept"], again["kept"]) == (0, 150)
    v2f(*words)
    made = json.loads(Path("p.json").read_text())["made"]
    assert told["made"] == pytest.approx(made, rel=0.35)


def planned(words: str) -> dict[str, Any]:
    """The object of a plan."""
    line = [sys.executable, "-m", "v2f_engine", *words.split(), "--dry-run", "--json", "--quiet"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def test_minutes_are_honest(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow network is foretold to be slow: the rate is measured and not assumed."""
    import time

    from v2f_engine.models.embedder import TorchEmbedder

    monkeypatch.chdir(tmp_path)
    original = TorchEmbedder.__call__

    def slow(self: Any, images: Any) -> Any:
        time.sleep(0.8)
        return original(self, images)

    monkeypatch.setattr(TorchEmbedder, "__call__", slow)
    said = v2f("features", world, "--batch", 8, "--out", "f.npy", "--dry-run")
    rate = float(said.partition("minutes at ")[2].partition(" ")[0])
    assert rate < 10


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("--pull 2", ConfigError),
        ("--pull nan", ConfigError),
        ("--max-drift -1", ConfigError),
        ("--steps 0", ConfigError),
        ("--device foo", ConfigError),
        ("--device cuda:99", BackendUnavailable),
        ("--max-cosine 2", ConfigError),
        ("--exclude nobody.npy", V2FError),
        ("--out p.npy", OutputFolderError),
    ],
)
def test_what_a_packing_would_refuse_is_refused_by_its_plan(
    words: str, error: type[Exception], world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four of these were planned, and refused by the run alone; a device nobody knows ended in an error of torch's."""
    monkeypatch.chdir(tmp_path)
    option, value = words.split()
    options = {"--source": "gaussian", "--out": "p.safetensors", option: value}
    typed = [word for pair in options.items() for word in pair]
    for dry in ([], ["--dry-run"]):
        with pytest.raises(error):
            v2f("ids", "pack", world.with_name("known.safetensors"), *typed, *dry)
        assert os.listdir(tmp_path) == []
