"""Tiny trainings: the loss falls, a resumed run ends where an undisturbed one does, NaN stops by name."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from v2f_engine.data.training.memory_set import MemorySet
from v2f_engine.errors import CheckpointError
from v2f_engine.models.iresnet import IResNet, IResNetConfig
from v2f_engine.models.registry import CARD
from v2f_engine.models.stripe_response import StripeResponse, stripe_response
from v2f_engine.models.vec2face import Vec2FaceConfig
from v2f_engine.models.weights import load_generator, load_recogniser
from v2f_engine.train.embed import embed, identity_vectors, spread_of
from v2f_engine.train.generator import GeneratorTraining, train_generator
from v2f_engine.train.loop import Budget, Loop
from v2f_engine.train.losses import LossWeights
from v2f_engine.train.order import rows_of_step
from v2f_engine.train.recogniser import RecogniserTraining, train_recogniser
from v2f_engine.vectors.statistics import load_statistics

EYE = IResNetConfig((1, 1, 1, 1), (8, 8, 8, 16), stem_stride=4)
TINY = Vec2FaceConfig(32, 1, 2, 1, 2, 8, 4, (1, 1, 1, 2, 2), 1, 4, 0.0)
ALL = LossWeights(absolute=0.5, perceptual=0.1, identity=0.2, token=0.01, gan=0.05, gan_from=0.5)


@pytest.fixture(scope="module")
def people() -> MemorySet:
    """Four 'people': each a colour and a stripe, twelve noisy images."""
    rng = np.random.default_rng(0)
    base = rng.integers(0, 255, (4, 1, 112, 112, 3)).astype(np.float32)
    base = base[:, :, ::16, ::16].repeat(16, 2).repeat(16, 3)
    images = np.clip(base + rng.normal(0, 15, (4, 12, 112, 112, 3)), 0, 255).astype(np.uint8)
    labels = np.repeat(np.arange(4), 12)
    features = rng.normal(size=(4, 512)).astype(np.float32)[labels]
    return MemorySet(images.reshape(-1, 112, 112, 3), labels, features)


@pytest.fixture
def recogniser() -> IResNet:
    torch.manual_seed(0)
    return IResNet(EYE).eval()


def _losses(folder: Path, name: str) -> list[float]:
    return [json.loads(line)[name] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_recogniser_learns_and_loads(people: MemorySet, tmp_path: Path) -> None:
    settings = RecogniserTraining(
        tmp_path, EYE, Budget(steps=12), batch=16, lr=3e-3, scale=16.0, m=0.0, bf16=False, log_every=2
    )
    model = train_recogniser(people, settings)
    losses = _losses(tmp_path, "margin_softmax")
    assert losses[-1] < 0.7 * losses[0]
    loaded = load_recogniser(tmp_path / "recogniser.safetensors")
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.model.state_dict()[name]), name
    further = dataclasses.replace(
        settings, out=tmp_path / "more", start_from=tmp_path / "recogniser.safetensors"
    )
    train_recogniser(people, further)
    assert _losses(tmp_path / "more", "margin_softmax")[0] < losses[0]
    other = dataclasses.replace(
        further, out=tmp_path / "other", model=IResNetConfig((1, 1, 1, 1), (8, 8, 8, 16))
    )
    with pytest.raises(CheckpointError, match="recogniser"):
        train_recogniser(people, other)


def test_recogniser_resumes_bit_for_bit(people: MemorySet, tmp_path: Path) -> None:
    settings = RecogniserTraining(
        tmp_path / "whole", EYE, Budget(steps=4), batch=8, bf16=False, checkpoint_every=2
    )
    whole = train_recogniser(people, settings).state_dict()
    broken = dataclasses.replace(settings, out=tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        train_recogniser(people, broken, say=_interrupt_at(3))
    resumed = train_recogniser(people, broken).state_dict()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def _interrupt_at(step: int):  # type: ignore[no-untyped-def]
    def say(line: str) -> None:
        if int(line.split()[1]) >= step:
            raise KeyboardInterrupt

    return say


def test_order_is_a_permutation_per_epoch() -> None:
    rows = np.concatenate([rows_of_step(3, step, 4, 10) for step in range(5)])
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))
    assert rows[:10].tolist() != rows[10:].tolist()
    assert rows_of_step(3, 2, 4, 10).tolist() == rows[8:12].tolist()


def test_loop_by_the_clock_ends(tmp_path: Path) -> None:
    loop = Loop(Budget(minutes=1e-9), tmp_path, 1)
    assert loop.done


def test_embedding_writes_what_loads(
    people: MemorySet, recogniser: IResNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(600, 512)).astype(np.float32)
    images = people.images[np.arange(600) % len(people)].copy()
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.divmod(np.arange(600), 256)  # each says its number
    data = MemorySet(images, np.repeat(np.arange(300), 2), features)
    looked: list[tuple[np.ndarray, StripeResponse]] = []

    def look(model: IResNet, faces: np.ndarray) -> StripeResponse:
        looked.append((faces, stripe_response(model, faces, periods=(4,))))
        return looked[-1][1]

    monkeypatch.setattr("v2f_engine.train.embed.stripe_response", look)
    drawing, reading = tmp_path / "generator", tmp_path / "recogniser"
    settings = GeneratorTraining(drawing, TINY, weights=ALL, budget=Budget(steps=1), batch=2, bf16=False)
    train_generator(people, recogniser, settings)
    train_recogniser(people, RecogniserTraining(reading, EYE, Budget(steps=1), batch=4, bf16=False))
    folder = tmp_path / "tiny"
    measured = embed(
        folder, drawing / "generator.safetensors", reading / "recogniser.safetensors", data, {"x": 1}
    )
    card = json.loads((folder / CARD).read_text())
    assert set(card["files"]) == {f"{n}.safetensors" for n in ("generator", "recogniser", "statistics")}
    assert card["x"] == 1
    assert card["features"] == measured
    ((faces, response),) = looked
    assert card["features"]["stripes"] == response.to_json()
    assert set(response.to_json()) >= {"levels", "images", "cosine_by_period_px", "worst"}
    numbers = faces[:, 0, 0, 0].astype(int) * 256 + faces[:, 0, 0, 1]
    assert (len(numbers), numbers[0], numbers[-1]) == (64, 0, 599)
    assert set(np.diff(numbers)) <= {9, 10}  # from all over the set, each image once
    assert load_generator(folder / "generator.safetensors").statistics == folder / "statistics.safetensors"
    mean = load_statistics(folder / "statistics.safetensors").mean
    np.testing.assert_allclose(mean, identity_vectors(features, data.labels).mean(0), atol=1e-5)
    # Two independent normals: the cosine of one to their mean is about sqrt(1/2).
    assert spread_of(features, data.labels).cosine_mean == pytest.approx(0.707, abs=0.02)
