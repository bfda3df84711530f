"""Generation as the published scripts do it, each part by name: re-computed here in other words, and made in parts."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from wiring_case import play

from v2f_engine.attributes.control import AttributeControl
from v2f_engine.attributes.goals import Goal
from v2f_engine.attributes.steering import to_bytes_through
from v2f_engine.data.formats import open_dataset
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.errors import ConfigError
from v2f_engine.models.image_decoder import levels_of
from v2f_engine.models.mask_schedule import MASK_SCHEDULES
from v2f_engine.models.vec2face import Vec2Face
from v2f_engine.options import EngineOptions, IdentityOptions, ImageOptions, OutputOptions
from v2f_engine.pipeline import Engine, generate, repair
from v2f_engine.pipeline.draws import Draws
from v2f_engine.pipeline.generation import Request
from v2f_engine.pipeline.makers.posed import PoseCondition
from v2f_engine.pipeline.published import SCRIPTS
from v2f_engine.pipeline.shard_source import open_images
from v2f_engine.randomness import Purpose
from v2f_engine.runtime import network_runner, with_rows
from v2f_engine.scale.shard import encoder_of
from v2f_engine.vectors.dealing import dealt
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.perturbation import Perturbation

PARTS = {
    "rounding": "truncate",
    "mask_batch": 5,
    "sigma_shares": "exact",
    "jpeg_quality": 75,
    "jpeg_encoder": "pillow",
    "precision": "fp32",
}
VECTORS = np.random.default_rng(3).standard_normal((7, 512)).astype(np.float32)
"""7 people: with 3 images each an odd count, which the published scripts cannot deal."""


def images_options(**changes: Any) -> ImageOptions:
    return replace(ImageOptions(3, 11, mask_batch=5, sigma_shares="exact"), **changes)


def tree(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if "__about__" not in path.parts  # the contact sheet
    }


@pytest.fixture(scope="module")
def whole(places: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All the parts at once, uninterrupted."""
    folder = tmp_path_factory.mktemp("published") / "set"
    made(places, folder)
    return folder


def made(places: dict[str, Path], folder: Path, **changes: Any) -> None:
    generate(
        3, 3, folder, model=places["small"], source="gaussian", device="cpu", compute_batch=4, images_per_shard=3,
        **{**PARTS, **changes},
    )  # fmt: skip


# Grey levels


def test_levels_are_cut_off_as_the_scripts_save_them() -> None:
    """Their line, in NumPy: (x + 1) / 2 * 255, clipped, cast."""
    rng = np.random.default_rng(0)
    image = np.concatenate([rng.uniform(-1.3, 1.3, 100_000), np.arange(256) / 127.5 - 1, [-1, 1, 0]])
    image = image.astype(np.float32)
    expected = ((image + np.float32(1)) / np.float32(2) * np.float32(255)).clip(0, 255).astype(np.uint8)
    found = levels_of(torch.from_numpy(image), "truncate").numpy()
    np.testing.assert_array_equal(found, expected)
    rounded = levels_of(torch.from_numpy(image), "nearest").numpy()
    assert set((rounded - found).tolist()) == {0.0, 1.0}
    inside = np.abs(image[:100_000]) < 1
    assert abs((rounded - found)[:100_000][inside].mean() - 0.5) < 0.01


def test_an_engine_truncates_what_its_network_draws(places: dict[str, Path]) -> None:
    engines = {
        name: Engine.load(places["small"], device="cpu", precision="fp32", compute_batch=4, rounding=name)
        for name in ("nearest", "truncate")
    }
    inputs = engines["nearest"].test_inputs(0)
    network = engines["nearest"].loaded.model  # type: ignore[union-attr]
    assert isinstance(network, Vec2Face)
    with torch.no_grad():
        real = network(*map(torch.from_numpy, inputs), engines["nearest"].runner.n_dropped).images
    levels = ((real.permute(0, 2, 3, 1).numpy() + 1) / 2 * 255).clip(0, 255)
    truncated, rounded = (engines[name].runner(*inputs).astype(int) for name in ("truncate", "nearest"))
    # Folding moves a level by 1e-3 at most: whoever lies farther from a step is exactly as re-computed.
    sure = np.abs(levels - levels.round()) > 1e-2
    assert sure.mean() > 0.9
    np.testing.assert_array_equal(truncated[sure], np.floor(levels[sure]))
    assert set(np.unique(rounded - truncated)) <= {0, 1}
    assert 0.3 < (rounded - truncated).mean() < 0.7
    assert engines["truncate"].describe()["rounding"] == "truncate"
    assert "rounding" not in engines["nearest"].describe()


def test_exported_generators_refuse_to_truncate(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("v2f_engine.pipeline.engine._exported_for", lambda *_: object())
    with pytest.raises(ConfigError, match=r"rounding 'truncate' .* runner 'onnx' .* 'eager' or 'cuda_graph'"):
        Engine.load(places["small"], device="cpu", runner="onnx", rounding="truncate")
    with pytest.raises(ConfigError, match="rounding 'trunc' is not known; did you mean 'truncate'"):
        EngineOptions(rounding="trunc")


@pytest.mark.parametrize("quality", [75, 95])
def test_files_are_those_that_the_scripts_write(quality: int) -> None:
    """They write with imageio, which hands Pillow quality 75 and nothing else; simplejpeg has another DCT below 96."""
    image = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    theirs = io.BytesIO()
    Image.fromarray(image).save(theirs, "JPEG", quality=quality)
    assert Encoder(quality=quality, library="pillow").encode(image) == theirs.getvalue()
    fast = Encoder(quality=quality).encode(image)
    assert fast != theirs.getvalue()
    tables = [Image.open(io.BytesIO(data)).quantization for data in (theirs.getvalue(), fast)]  # type: ignore[attr-defined]
    assert tables[0] == tables[1]
    with pytest.raises(ConfigError, match="library 'simplejpeg' is not known"):
        Encoder("png", library="simplejpeg")


# Mask ratios


def masked(options: ImageOptions, size: int, select: range | None = None) -> NDArray[np.int64]:
    draws = Draws.of(VECTORS, options, MASK_SCHEDULES["generate"], select)
    return np.concatenate([draw.n_masked for draw in draws.batches(size)])


@pytest.mark.parametrize("size", [1, 4, 64])
def test_consecutive_images_share_a_ratio_whatever_the_compute_batch(size: int) -> None:
    found = masked(images_options(), size)
    groups = [set(found[start : start + 5].tolist()) for start in range(0, 21, 5)]
    assert [len(group) for group in groups] == [1] * 5
    assert len(set.union(*groups)) > 1
    np.testing.assert_array_equal(found, masked(images_options(), 7))
    parts = [masked(images_options(), size, range(first, first + 1)) for first in range(7)]
    np.testing.assert_array_equal(np.concatenate(parts), found)


def test_a_shared_ratio_has_the_distribution_of_the_schedule() -> None:
    """Against its quantiles: 4,000 batches of 5 give what 4,000 images of their own give."""
    vectors = np.random.default_rng(4).standard_normal((400, 512)).astype(np.float32)
    schedule = MASK_SCHEDULES["generate"]
    counts = []
    for batch, per_id in ((5, 50), (1, 10)):
        draws = Draws.of(vectors, ImageOptions(per_id, 1, mask_batch=batch), schedule)
        found = np.concatenate([draw.n_masked for draw in draws.batches(4096)])
        counts.append(found[::batch])
    assert len(counts[0]) == len(counts[1]) == 4000
    assert abs(counts[0].mean() - counts[1].mean()) < 4 * counts[1].std() * np.sqrt(2 / 4000)
    assert len(np.unique(counts[0])) > 30


def test_images_outside_the_run_have_ratios_too() -> None:
    """Refinement draws image 2**32 - 1 of each identity."""
    draws = Draws.of(VECTORS, images_options(), MASK_SCHEDULES["generate"])
    row = np.arange(7)
    found = draws.at(row, np.full(7, 2**32 - 1)).n_masked
    assert len(set(found[:5].tolist())) == len(set(found[5:].tolist())) == 1


# Shares of sigma


@pytest.mark.parametrize("n", [1, 2, 3, 5, 64, 1000, 4099])
def test_places_are_dealt_once_each_and_can_be_asked_alone(n: int) -> None:
    every = dealt(5, Purpose.SIGMA_ORDER, np.arange(n), n)
    assert sorted(every.tolist()) == list(range(n))
    for place in {0, n // 2, n - 1}:
        assert dealt(5, Purpose.SIGMA_ORDER, np.array([place]), n).tolist() == [every[place]]
    if n > 5:
        assert every.tolist() != dealt(6, Purpose.SIGMA_ORDER, np.arange(n), n).tolist()


def test_a_dealt_place_lands_anywhere_as_often() -> None:
    """Over 2,000 seeds, places 0 and 1 of 5 together: chi-square of 20 cells, 99.99 % below 50."""
    landed = np.stack([dealt(seed, Purpose.SIGMA_ORDER, np.arange(2), 5) for seed in range(2000)])
    cells = np.zeros((5, 5))
    np.add.at(cells, (landed[:, 0], landed[:, 1]), 1)
    assert np.trace(cells) == 0
    off = cells[~np.eye(5, dtype=bool)]
    assert ((off - 100) ** 2 / 100).sum() < 50


@pytest.mark.parametrize("per_id", [1, 3, 10, 13])
def test_shares_are_exact_to_an_image_at_any_count(per_id: int) -> None:
    """Theirs shuffles int(N * share) of each and crashes where these do not sum to N; ours is the nearest."""
    options = images_options(images_per_id=per_id)
    draws = Draws.of(VECTORS, options, MASK_SCHEDULES["generate"])
    sigma = np.concatenate([draw.attributes["sigma"] for draw in draws.batches(16)])
    total = 7 * per_id
    counts = [int((sigma == np.float32(level)).sum()) for level in (0.3, 0.5, 0.7)]
    assert sum(counts) == total
    assert all(abs(count - share * total) < 1 for count, share in zip(counts, (0.4, 0.4, 0.2), strict=True))
    parts = [
        draw.attributes["sigma"]
        for first in range(7)
        for draw in Draws.of(VECTORS, options, MASK_SCHEDULES["generate"], range(first, first + 1)).batches(4)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), sigma)


def test_shares_that_do_not_exist_are_named() -> None:
    with pytest.raises(ConfigError, match="sigma_shares 'equal' is not known"):
        ImageOptions(sigma_shares="equal")
    with pytest.raises(ConfigError, match="mask_batch must be at least 1, found 0"):
        ImageOptions(mask_batch=0)


# Datasets


def test_the_manifest_says_it_and_is_silent_at_the_defaults(
    places: dict[str, Path], whole: Path, tmp_path: Path
) -> None:
    settings = Manifest.load(whole / "manifest.json").settings
    assert {name: settings[name] for name in ("rounding", "mask_batch", "sigma_shares")} == {
        "rounding": "truncate", "mask_batch": 5, "sigma_shares": "exact",
    }  # fmt: skip
    told = open_dataset(whole).attributes()
    assert len({*told["n_masked"][:5].tolist()}) == 1
    assert sorted(told["sigma"].tolist()) == pytest.approx([0.3] * 4 + [0.5] * 3 + [0.7] * 2)
    made(places, tmp_path / "set", rounding=None, mask_batch=None, sigma_shares=None)
    plain = Manifest.load(tmp_path / "set/manifest.json").settings
    assert set(settings) - set(plain) == {"rounding", "mask_batch", "sigma_shares"}


def test_workers_and_repair_make_the_same_bytes(places: dict[str, Path], whole: Path, tmp_path: Path) -> None:
    manifest = Manifest.load(whole / "manifest.json")
    make = open_images(
        manifest, whole, "cpu", model=str(places["small"])
    )  # what a worker of an executor calls
    images = [image for ids in (range(2, 3), range(2)) for batch in make(ids) for image in batch.images]
    encoder = encoder_of(manifest)
    files = sorted(path for path in whole.rglob("*.jpg"))
    assert [encoder.encode(image) for image in images[3:] + images[:3]] == [
        path.read_bytes() for path in files
    ]
    made(places, tmp_path / "set")
    before = tree(tmp_path / "set")
    assert before == tree(whole)
    next((tmp_path / "set").rglob("*.jpg")).write_bytes(b"lost")
    assert repair(tmp_path / "set", model=str(places["small"]), device="cpu")
    assert tree(tmp_path / "set") == before


def test_a_run_that_was_broken_off_goes_on(places: dict[str, Path], whole: Path, tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done >= 4:
            raise Enough

    with pytest.raises(Enough):
        made(places, tmp_path / "set", progress=stop)
    made(places, tmp_path / "set")
    assert tree(tmp_path / "set") == tree(whole)


def test_copies_of_the_network_truncate_too(places: dict[str, Path]) -> None:
    """Runners of other rows (the self-test, too little memory) and what steering differentiates."""
    engine = Engine.load(
        places["small"], device="cpu", precision="fp32", compute_batch=4, rounding="truncate"
    )
    inputs = engine.test_inputs(0)
    other = with_rows(engine.runner, 2)
    pairs = zip(*(part.reshape(2, 2, *part.shape[1:]) for part in inputs), strict=True)
    again = np.concatenate([other(*pair) for pair in pairs])
    assert np.abs(again.astype(int) - engine.runner(*inputs)).mean() < 0.01
    assert network_runner(engine.runner, "it").model.im_decoder.rounding == "truncate"
    levels, seen = to_bytes_through(torch.full((1, 3, 2, 2), 0.999), "truncate")
    assert (levels == 254).all()
    assert torch.allclose(seen, torch.tensor(254 / 127.5 - 1))


# --as-published


def request(**changes: Any) -> Request:
    usual = Request(EngineOptions(), IdentityOptions(n_ids=3), ImageOptions(), OutputOptions())
    return replace(usual, **changes)


def pictures() -> IdentityOptions:
    return IdentityOptions(identities=Identities.from_vectors(VECTORS, "references a through mini"))


@pytest.mark.parametrize(
    ("asked", "script"),
    [
        (request(), "sampled"),
        (request(attributes=AttributeControl({"quality": 24})), "sampled"),
        (request(identities=pictures()), "references"),
        (request(attributes=AttributeControl({"yaw": 60})), "turned"),
        (request(attributes=PoseCondition({"yaw": 60})), "landmarks"),
    ],
)
def test_the_script_that_does_the_same_is_followed_to_the_letter(asked: Request, script: str) -> None:
    assert asked.script == SCRIPTS[script]
    made = asked.as_published()
    assert made.script == asked.script
    assert made.engine.rounding == "truncate"
    assert made.engine.precision == "fp32"
    assert (made.images.mask_batch, made.images.sigma_shares) == (64, "exact")
    assert (made.output.jpeg_quality, made.output.jpeg_encoder) == (75, "pillow")
    if asked.attributes is None or "quality" not in asked.attributes.goals:
        assert made.departures("fp32") == ()
    assert asked.departures("bf16")


def test_what_is_steered_as_published() -> None:
    made = request().as_published().attributes
    assert isinstance(made, AttributeControl)
    assert (made.use, dict(made.goals)) == ("identities", {"quality": Goal.of(27.0)})
    turned = request(attributes=AttributeControl({"yaw": 60})).as_published().attributes
    assert isinstance(turned, AttributeControl)
    assert (turned.use, turned.steering, turned.compares_magnitudes) == ("images", "published-2025", True)
    assert turned.goals == {"quality": Goal.of(27.0), "yaw": Goal.of(60)}
    assert request(identities=pictures()).as_published().attributes is None
    noise = request(identities=pictures()).as_published().images.perturbation
    assert noise == Perturbation((0.2,), (1.0,))


def test_what_is_chosen_beside_it_stays() -> None:
    asked = request(
        engine=EngineOptions(precision="bf16"), output=OutputOptions(jpeg_quality=90),
        images=ImageOptions(perturbation=Perturbation((0.1,), (1.0,)), mask_batch=5),
    )  # fmt: skip
    made = asked.as_published({"precision", "jpeg_quality", "perturbation", "mask_batch"})
    assert made.engine.precision == "bf16"
    assert made.output.jpeg_quality == 90
    assert (made.images.mask_batch, made.images.perturbation.levels) == (5, (0.1,))
    assert made.departures("bf16") == ("JPEG 90", "bf16", "a mask ratio for 5 images", "sigma 0.1")


def test_the_command_says_what_stays_and_what_differs(
    places: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = (
        f"generate --references {places['faces']} --images 1 --rescale --model {places['small']} --device cpu"
        f" --compute-batch 4 --out {tmp_path / 'set'} --as-published --jpeg-quality 90"
    )
    assert play(line.split(), {}).ended == ""
    said = capsys.readouterr()
    assert "as published by image_generation_with_reference.py; as typed: --jpeg-quality" in said.err
    assert "published      image_generation_with_reference.py but for: JPEG 90 (docs/fidelity.md)" in said.out
    manifest = json.loads((tmp_path / "set/manifest.json").read_text())
    assert manifest["encoder"]["quality"] == 90
    assert manifest["settings"]["rounding"] == "truncate"
    assert manifest["settings"]["perturbation"]["levels"] == [0.2]
