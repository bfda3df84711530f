"""`v2f generate` run to success through its command line, nearly all options at values that are not the defaults."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from wiring_case import play

from v2f_engine.data.formats import open_dataset
from v2f_engine.data.records.verify import verify_dataset
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.models.mask_schedule import MASK_SCHEDULES
from v2f_engine.pipeline import Engine, generate
from v2f_engine.vectors.perturbation import Perturbation
from v2f_engine.vectors.sampling import sample_identities

WORDS = (
    "generate --ids 3 --images 2 --out {out} --model {small} --source {statistics} --max-cosine 0.25"
    " --exclude {gallery} --sigma 0.1,0.6 --sigma-weights 0.75,0.25 --masks demo --seed 77 --device cpu"
    " --precision fp32 --runner eager --jpeg-quality 71 --images-per-shard 2 --compute-batch 3 --executor inline"
)


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def out(places: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "set"
    played = play(WORDS.format(**places, out=folder).split(), {})
    assert played.ended == ""
    return folder


def test_it_says_what_it_made(places: dict[str, Path], out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same command again: nothing is left to make, and nothing changes."""
    before = tree(out)
    assert play(WORDS.format(**places, out=out).split(), {}).ended == ""
    said = capsys.readouterr().out
    assert f"3 identities, 6 images in {out} (0 written now" in said
    assert f"manifest       {out / 'manifest.json'}" in said
    assert tree(out) == before
    assert verify_dataset(out).ok


def test_the_manifest_tells_what_was_asked(places: dict[str, Path], out: Path) -> None:
    manifest = json.loads((out / "manifest.json").read_text())
    settings = manifest["settings"]
    assert settings["seed"] == 77
    assert settings["perturbation"] == {"levels": [0.1, 0.6], "weights": [0.75, 0.25], "unit": "sigma"}
    demo = MASK_SCHEDULES["demo"]
    assert settings["masks"] == {"min": demo.minimum, "mean": demo.mean, "std": demo.std, "max": demo.maximum}
    assert settings["model"]["sha256"] == hashlib.sha256(places["small"].read_bytes()).hexdigest()
    runner = settings["runner"]
    expected = {"runner": "eager", "device": "cpu", "precision": "fp32", "batch_size": 3}
    assert {name: runner[name] for name in expected} == expected
    assert manifest["encoder"]["quality"] == 71
    assert len(manifest["shards"]) == 3


def test_its_images_are_the_engines_own(places: dict[str, Path], out: Path) -> None:
    """Made here from parts, with nothing of `generate`: identities, noise, masks; then compared to the byte."""
    table = sample_identities(
        3, seed=77, max_cosine=0.25, source=places["statistics"], exclude=places["gallery"]
    )
    engine = Engine.load(places["small"], device="cpu", precision="fp32", masks="demo", compute_batch=3)
    noise = Perturbation((0.1, 0.6), (0.75, 0.25))
    batch = next(iter(engine.images(table, 2, seed=77, perturbation=noise, batch_size=6)))
    files = sorted(out.rglob("*.jpg"))
    assert [path.read_bytes() for path in files] == [Encoder(quality=71).encode(one) for one in batch.images]
    told = open_dataset(out).attributes()
    for name in ("sigma", "cosine_to_centre", "n_masked"):
        np.testing.assert_allclose(told[name], batch.attributes[name], rtol=1e-6)
    assert set(told["sigma"].tolist()) <= {np.float32(0.1), np.float32(0.6)}
    # Another schedule would mask other numbers of rows, another seed other images.
    other = Engine.load(places["small"], device="cpu", precision="fp32", compute_batch=3)
    assert (
        next(iter(other.images(table, 2, seed=77, batch_size=6))).attributes["n_masked"] != told["n_masked"]
    ).any()


def test_the_files_have_the_quality_asked_for(out: Path) -> None:
    """Luminance quantisation of libjpeg: the first entry is 16 * (200 - 2 * 71) / 100, rounded."""
    with Image.open(next(out.rglob("*.jpg"))) as opened:
        tables: dict[int, list[int]] = opened.quantization  # type: ignore[attr-defined]
    assert tables[0][0] == (16 * (200 - 2 * 71) + 50) // 100


def test_the_command_and_the_function_make_the_same_bytes(
    places: dict[str, Path], out: Path, tmp_path: Path
) -> None:
    generate(
        3, 2, tmp_path / "set", model=places["small"], source=places["statistics"], max_cosine=0.25,
        exclude=places["gallery"], perturbation=Perturbation((0.1, 0.6), (0.75, 0.25)), masks="demo", seed=77,
        device="cpu", precision="fp32", runner="eager", jpeg_quality=71, images_per_shard=2, compute_batch=3,
        executor="inline",
    )  # fmt: skip
    assert tree(tmp_path / "set") == tree(out)


def test_noise_that_is_not_the_default_changes_the_vectors(places: dict[str, Path], tmp_path: Path) -> None:
    """The manifest says which noise was used, and the recorded cosines say that it was."""
    for name, noise in (("none", Perturbation((0.0,), (1.0,))), ("much", Perturbation((0.9,), (1.0,)))):
        generate(
            2, 2, tmp_path / name, model=places["small"], source="gaussian", device="cpu", compute_batch=2,
            perturbation=noise,
        )  # fmt: skip
    told = {name: open_dataset(tmp_path / name).attributes() for name in ("none", "much")}
    np.testing.assert_allclose(told["none"]["cosine_to_centre"], 1.0, atol=1e-6)
    np.testing.assert_allclose(told["much"]["cosine_to_centre"], 1 / np.sqrt(1 + 0.9**2), atol=0.06)
    assert set(told["none"]["sigma"].tolist()) == {0.0}
