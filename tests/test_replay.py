"""A set's manifest as `--config`: the same bytes again; what was not told is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from v2f_engine.cli.main import app
from v2f_engine.data.layout import MANIFEST
from v2f_engine.errors import ConfigError, DatasetError
from v2f_engine.models.mask_schedule import MASK_SCHEDULES, MaskSchedule
from v2f_engine.pipeline import generate
from v2f_engine.pipeline.replay import options_of
from v2f_engine.vectors.perturbation import Perturbation

SMALL = "--ids 3 --images 2 --compute-batch 2 --device cpu"


def v2f(*words: object) -> str:
    result = CliRunner().invoke(app, [part for word in words for part in str(word).split()])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def tree(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


GENERATED = {
    "sampled, seed and shards": "--seed 7 --images-per-shard 2",
    "exact shares, published levels": "--sigma-shares exact --rounding truncate --mask-batch 3 --jpeg-quality 71",
    "cosines and a mask ratio": "--target-cosine 0.9,0.8 --masks 0.4 --jpeg-encoder pillow",
    "another source and limit": "--source gaussian --rescale --max-cosine 0.35",
    "another precision": "--precision fp32 --sigma 0.30000000000000004 --sigma-weights 1",
    "a pose network": "--model mini-pose --by pose-model --yaw -45:45 --pitch 3",
    "published heights": "--model mini-pose --by pose-model --yaw 10,20 --landmark-heights published",
}
STEERED = {
    "steered": "--yaw -30,30 --quality 24 --iterations 2 --steer-rate 0.05 --tolerance yaw=7 --min-cosine 0.61",
    "unsigned": "--yaw 20 --unsigned --iterations 2 --dead-zone 0.2",
    "as published": "--as-published --yaw 20 --iterations 4",
    "refined and steered": "--pitch 5 --quality 23:25 --steer both --steering plus --iterations 4",
}
CASES = [
    *(pytest.param(words, id=name) for name, words in list(GENERATED.items())[:1]),
    *(pytest.param(words, id=name, marks=pytest.mark.slow) for name, words in list(GENERATED.items())[1:]),
    *(pytest.param(words, id=name, marks=pytest.mark.slow) for name, words in STEERED.items()),
]


@pytest.mark.parametrize("words", CASES)
def test_the_same_bytes(words: str, recwarn: pytest.WarningsRecorder) -> None:
    v2f("generate", SMALL, words, "--out first")
    said = v2f("generate --config first/manifest.json --out second")
    assert "as first/manifest.json says" in said
    assert "differ" not in said
    assert tree(Path("first")) == tree(Path("second"))


@pytest.mark.slow
@pytest.mark.parametrize("format", ["webdataset", "lmdb", "recordio", "parquet"])
def test_in_every_format(format: str) -> None:
    v2f("generate", SMALL, f"--format {format} --out first")
    v2f("generate --config first/manifest.json --out second")
    assert tree(Path("first")) == tree(Path("second"))


@pytest.mark.slow
def test_given_vectors_references_and_several_workers() -> None:
    np.save("given.npy", np.random.default_rng(0).normal(0, 1, (3, 512)).astype(np.float32))
    v2f("generate --images 2 --compute-batch 2 --device cpu --vectors given.npy --out first")
    Path("given.npy").unlink()  # the set carries them
    v2f("generate --config first/manifest.json --out second --workers 2 --executor local")
    assert tree(Path("first")) == tree(Path("second"))
    v2f("generate --references first/images --images 2 --compute-batch 2 --device cpu --sigma 0.2,0.3",
        "--sigma-weights 0.5,0.5 --out a")  # fmt: skip
    v2f("generate --config a/manifest.json --out b")
    assert tree(Path("a")) == tree(Path("b"))


def test_what_is_typed_beside_it_wins_and_is_said() -> None:
    v2f("generate", SMALL, "--seed 7 --out first")
    said = v2f("generate --config first/manifest.json --out second --images 3 --format recordio")
    assert "but for --format (imagefolder there), --images (2 there)" in said
    found = json.loads((Path("second") / MANIFEST).read_text())
    assert (found["plan"]["images_per_id"], found["format"], found["settings"]["seed"]) == (3, "recordio", 7)
    assert "statistics of mini, sha256 " in v2f("show first"), "as the run said whose people they are"


@pytest.mark.slow
def test_more_people_are_the_same_people_and_more() -> None:
    v2f("generate", SMALL, "--seed 7 --out first")
    v2f("generate --config first/manifest.json --out second --ids 4")
    first, second = tree(Path("first")), tree(Path("second"))
    pictures = [name for name in first if name.startswith("images/")]
    assert len(pictures) == 6
    assert all(first[name] == second[name] for name in pictures)


def test_rendered_and_converted() -> None:
    v2f("render --ids 2 --images 2 --seed 4 --first 5 --processes 1 --quality 80 --world 1 --out first")
    v2f("render --config first/manifest.json --processes 1 --out second")
    assert tree(Path("first")) == tree(Path("second"))
    with pytest.raises(
        ConfigError, match="a set that `v2f render` made: `v2f render --config first/manifest.json"
    ):
        v2f("generate --config first/manifest.json --out third")
    v2f("convert first conv")
    with pytest.raises(
        ConfigError, match="converted from a lmdb set of 4 images.*name the source.*`v2f render`"
    ):
        v2f("render --config conv/manifest.json --out third")
    text = (Path("first") / MANIFEST).read_bytes()
    (Path("first") / MANIFEST).write_bytes(
        text.replace(b'"seed":4', b'"seed":5').replace(b'"seed": 4', b'"seed": 5')
    )
    with pytest.raises(DatasetError, match="was changed after it was written"):
        v2f("render --config first/manifest.json --out third")


@pytest.mark.slow
def test_what_only_python_said_is_refused(tmp_path: Path) -> None:
    generate(2, 1, "masks", masks=MaskSchedule(0.1, 0.2, 0.3, 0.9), device="cpu", compute_batch=2)
    with pytest.raises(ConfigError, match="masks of its own.*in Python MaskSchedule"):
        v2f("generate --config masks/manifest.json --out copy")
    told = json.loads((tmp_path / "masks" / MANIFEST).read_text())["settings"]["masks"]
    assert told["mean"] == 0.2
    uneven = Perturbation.target_cosine(0.9, 0.8, weights=(0.3, 0.7))
    generate(2, 1, "uneven", perturbation=uneven, device="cpu", compute_batch=2)
    v2f("generate --config uneven/manifest.json --out copy")  # which --perturbation says, and no other option
    assert tree(tmp_path / "copy") == tree(tmp_path / "uneven")


@pytest.mark.slow
def test_weights_by_path_are_named_again(tmp_path: Path) -> None:
    from v2f_engine.models.registry import locate

    own = tmp_path / "own.safetensors"
    own.write_bytes(locate("mini", "generator").path.read_bytes())
    generate(2, 1, "first", model=own, device="cpu", compute_batch=2, source="gaussian", rescale=True)
    with pytest.raises(ConfigError, match="weights called 'own'.*--model"):
        v2f("generate --config first/manifest.json --out second")
    v2f("generate --config first/manifest.json --out second --model own.safetensors")
    assert tree(Path("first")) == tree(Path("second"))


def test_every_schedule_has_an_option() -> None:
    from v2f_engine.models.mask_schedule import schedule_of
    from v2f_engine.pipeline.replay import _masks

    for schedule in [*MASK_SCHEDULES.values(), schedule_of("0.4"), schedule_of("0.05")]:
        told = {"min": schedule.minimum, "mean": schedule.mean, "std": schedule.std, "max": schedule.maximum}
        assert schedule_of(_masks(told)) == schedule


def test_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(DatasetError, match="expected schema"):
        v2f("generate --config x.json")
    with pytest.raises(ConfigError, match="no such file"):
        v2f("generate --config y.json")
    assert options_of.__doc__
