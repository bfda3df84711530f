"""The acceptance run from end to end on a small random generator, and what picks near-frontal faces."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from bench.claims import judge
from bench.claims.sheet import of_other
from v2f_engine.batch import ImageBatch
from v2f_engine.data import Encoder, Plan, write_dataset
from v2f_engine.errors import ConfigError, MissingDependency, VectorError
from v2f_engine.evaluate.detection import FaceFinder, enlarged
from v2f_engine.evaluate.yaw import YawEstimator, thumbnails
from v2f_engine.models.iresnet import IResNet, IResNetConfig
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig
from v2f_engine.models.weights import save_weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A judge, a generator with random weights, and 12 x 4 images as a dataset; each person one colour."""
    root = tmp_path_factory.mktemp("judge")
    torch.manual_seed(0)
    for name in ("judge", "own"):
        config = IResNetConfig(layers=(1, 1, 1, 1), widths=(8, 8, 8, 8))
        head = {"kind": "iresnet", "config": config.to_json()}
        save_weights(root / f"{name}.safetensors", {"model": IResNet(config)}, head)
    small = Vec2FaceConfig.mini()
    generator = Vec2Face(small)
    generator.initialise(torch.Generator().manual_seed(0))
    head = {"kind": "vec2face", "config": small.to_json()}
    save_weights(root / "generator.safetensors", {"model": generator}, head)
    draw = np.random.default_rng(0)
    colour = draw.integers(0, 200, (12, 1, 1, 1, 3))
    images = (colour + draw.integers(0, 56, (12, 4, 112, 112, 3))).astype(np.uint8)
    yaw = draw.uniform(-60, 60, (12, 4)).astype(np.float32)

    def people(chosen: range):
        for one in chosen:
            yield ImageBatch(images[one], np.full(4, one), np.arange(4), {"yaw": yaw[one]})

    write_dataset(
        root / "people", {"seed": 0}, Plan.of(12, 4), people, format="lmdb", encoder=Encoder(codec="png")
    )
    return root


def arguments(folder, *more: str) -> list[str]:
    files = {
        "--judge": "judge.safetensors",
        "--model": "generator.safetensors",
        "--recogniser": "own.safetensors",
    }
    named = [part for key, name in files.items() for part in (key, str(folder / name))]
    sizes = ["--ids", "8", "--images", "3", "--fmr", "0.05", "--faces", "0", "--max-cosine", "0.9"]
    return [
        *named,
        "--rendered",
        str(folder / "people"),
        "--out",
        str(folder / "out" / "judge.json"),
        *sizes,
        *more,
    ]


def test_a_small_run_writes_protocol_numbers_and_picture(folder, capsys) -> None:
    assert judge.main(arguments(folder)) == 0
    record = json.loads((folder / "out" / "judge.json").read_text())
    assert (folder / "out" / "judge.png").stat().st_size > 10_000
    for name in ("rendered", "generated"):
        assert (record[name]["identities"], record[name]["images"], record[name]["genuine_pairs"]) == (
            8,
            24,
            24,
        )
    assert record["threshold"]["pairs"] == 24 * 21 // 2
    assert record["results"]["unique_ratio"] == pytest.approx(
        record["generated"]["unique_share"] / record["rendered"]["unique_share"]
    )
    assert record["results"]["own_eer"] == record["own_recogniser"]["eer"]
    assert "faces_found" not in record["goals"]
    assert record["machine"]["torch"] == torch.__version__
    gap = record["generated"]["genuine_mean"] - record["rendered"]["genuine_mean"]
    assert record["results"]["genuine_gap"] == pytest.approx(abs(gap))
    assert set(record["goals"]) == set(judge.GOALS) - {"faces_found"}
    assert [found["n"] for found in record["frechet"].values()] == [12, 12]  # half of the rendered people
    assert record["sharpness"]["images"] == {"generated": 24, "rendered": 24}
    assert set(record["looks"]) == {"yaw beyond 40"}
    assert "does not say of which rendered world" in record["looks_left_out"]
    assert Image.open(folder / "out" / "judge-sheet.png").height > 10 * 112  # two blocks of five people
    printed = capsys.readouterr().out
    assert "Protocol." in printed
    assert "eer_ratio" in printed


@pytest.mark.filterwarnings("ignore:mini. sampled from")
def test_another_model_is_a_third_block_of_the_sheet(folder) -> None:
    own = of_other(folder / "people", 0, None)
    assert own.shape == (5, 10, 112, 112, 3)
    assert (own[:, 4:] == 255).all()  # four images of each are there
    made = of_other(folder / "generator.safetensors", 0, "mini")
    assert made.shape == own.shape
    with pytest.raises(ConfigError, match="nothing says from what its people are drawn"):
        of_other(folder / "generator.safetensors", 0, None)


def test_cached_features_are_those_computed(folder, monkeypatch) -> None:
    options = judge.parse(arguments(folder, "--cache", str(folder / "cache")))
    referee = judge.load_recogniser(folder / "judge.safetensors")
    first, second, direct = (judge.Seen("x", 24) for _ in range(3))
    one = judge.read_real(options, referee, first)
    monkeypatch.setattr("v2f_engine.models.features.extract_features", None)
    two = judge.read_real(options, referee, second)
    monkeypatch.undo()
    options.cache = None
    plain = judge.read_real(options, referee, direct)
    assert np.array_equal(one.features, two.features)
    assert np.allclose(one.features, plain.features, rtol=1e-4, atol=1e-4)
    assert np.array_equal(one.labels, plain.labels)
    assert first.count == second.count == direct.count == 24


def test_too_few_rendered_people_are_named(folder, capsys) -> None:
    assert judge.main(arguments(folder, "--ids", "13")) != 0
    assert "expected 13 identities x 3 images, found 36" in capsys.readouterr().err


def test_a_model_is_not_judged_by_its_own_recogniser(folder, capsys) -> None:
    assert judge.main(arguments(folder, "--recogniser", str(folder / "judge.safetensors"))) == 2
    assert "own recogniser" in capsys.readouterr().err


def test_goals_hold_or_not() -> None:
    assert judge.met("eer_ratio", 1.5) is True
    assert judge.met("eer_ratio", 1.51) is False
    assert judge.met("unique_ratio", 0.94) is False
    assert judge.met("eer_ratio", None) is None


def test_images_are_picked_by_place() -> None:
    seen = judge.Seen("x", 5, images=[np.full((2, 1), 0), np.array([[7], [8], [9]])])
    assert [int(image[0]) for image in seen.pick(np.array([1, 2, 4]))] == [0, 7, 9]


def test_without_dlib_the_install_line_is_given(monkeypatch, folder, capsys) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(MissingDependency, match=r"pip install -e .*\[judge\]"):
        FaceFinder.load()
    assert judge.main(arguments(folder, "--faces", "5")) != 0
    assert "--faces 0" in capsys.readouterr().err


def test_dlib_finds_no_face_in_noise() -> None:
    pytest.importorskip("dlib", reason="optional extra [judge]")
    finder = FaceFinder.load()
    noise = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    assert finder(noise) == ""
    assert enlarged(noise).shape == (336, 336, 3)


def test_yaw_is_learnt_where_it_can_be_seen() -> None:
    draw = np.random.default_rng(0)
    yaw = draw.uniform(-45, 45, 400).astype(np.float32)
    x = np.arange(112)
    nose = 56 + yaw[:, None] * 0.5
    stripe = 128 + 100 * np.exp(-(((x - nose) / 8) ** 2))
    images = np.broadcast_to(stripe[:, None, :, None], (400, 112, 112, 3)) + draw.normal(
        0, 6, (400, 112, 112, 3)
    )
    small = thumbnails(images.clip(0, 255).astype(np.uint8))
    estimator = YawEstimator.fit(small[:300], yaw[:300], width=128)
    error = np.abs(estimator(small[300:]) - yaw[300:]).mean()
    assert error < 2.0
    mirrored = small[300:].reshape(-1, 28, 28)[:, :, ::-1].reshape(100, -1)
    assert np.abs(estimator(mirrored) + yaw[300:]).mean() < 2.0
    with pytest.raises(VectorError, match="finite degrees"):
        YawEstimator.fit(small, yaw[:5])


def test_thumbnails_ignore_exposure() -> None:
    image = np.random.default_rng(1).integers(0, 100, (1, 112, 112, 3), dtype=np.uint8)
    assert np.allclose(thumbnails(image), thumbnails(image * 2 + 20), atol=1e-3)
