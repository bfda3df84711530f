"""The published training of a pose model, against a computation of its own: plain torch, formulas written out.

Written from what pose_training.py of HaiyuWu/Vec2Face_plus 7aea100 does under the command of its README. Shared with
the engine are the networks' forward passes (held by tests/golden) and the batches.
"""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published_recipe import lpips, structural_distance
from safetensors.torch import save_file
from train_harness import TINY, people, small_recogniser

from v2f_engine.data.formats.lmdb.entries import write_training_lmdb
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.errors import ConfigError, DatasetError, ModelNotFound
from v2f_engine.models import landmarks
from v2f_engine.models.vec2face import Vec2Face
from v2f_engine.models.weights import load_generator
from v2f_engine.train.loop import Budget
from v2f_engine.train.pose import PoseTrainer, train_pose
from v2f_engine.train.pose_data import PoseBatches, PoseData, read_pose_data
from v2f_engine.train.pose_settings import PoseTraining

ROWS, BATCH, EPOCHS = 11, 2, 10
"""Five whole batches an epoch, one row left over."""


WIDTHS = ((3, 2), (4, 2), (5, 3), (6, 3), (6, 3))
"""VGG16 with few channels: the published widths took 11 s for eight steps."""


@pytest.fixture
def vgg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Random VGG16 and linear layers under the published names; biases keep every map from being cut to nothing."""
    monkeypatch.setattr("v2f_engine.models.perceptual.VGG_WIDTHS", WIDTHS)
    torch.manual_seed(3)
    weights, channels, place = {}, 3, 0
    for level, (width, count) in enumerate(WIDTHS):
        place += bool(level)  # a maximum between stages has no weights
        for _ in range(count):
            weights[f"features.{place}.weight"] = torch.randn(width, channels, 3, 3) / (4.5 * channels) ** 0.5
            weights[f"features.{place}.bias"] = torch.rand(width) + 0.5
            channels, place = width, place + 2
        weights[f"lin{level}.model.1.weight"] = torch.rand(1, width, 1, 1)
    save_file(weights, tmp_path / "vgg.safetensors")
    return tmp_path / "vgg.safetensors"


def data(rows: int = ROWS) -> PoseData:
    rng = np.random.default_rng(1)
    images = people(6, 4).images[:rows]
    yaw = rng.uniform(-60, 60, rows).astype(np.float32)
    pictures = landmarks.draw(landmarks.project(yaw, np.zeros(rows, np.float32), heights="published"))
    return PoseData(images, rng.standard_normal((rows, 512)).astype(np.float32), pictures=pictures)


def base() -> Vec2Face:
    torch.manual_seed(0)
    model = Vec2Face(TINY)
    model.initialise(torch.Generator().manual_seed(0))
    return model.eval()


def rate_at(step: int, per_epoch: int) -> float:
    """A line from a thousandth over the first epoch, then half a cosine to 1e-6 over the other nine."""
    if step < per_epoch:
        return 1e-4 * (0.001 + 0.999 * step / per_epoch)
    done = (step - per_epoch) / (9 * per_epoch)
    return 1e-6 + (1e-4 - 1e-6) * (1 + math.cos(math.pi * done)) / 2


class Recomputed:
    """The training again, with AdamW written out: decay 0.05 of every trained tensor, betas 0.9 and 0.999."""

    def __init__(self, model: Any, weights: dict[str, torch.Tensor]) -> None:
        self.model, self.weights = copy.deepcopy(model), weights
        self.eye = small_recogniser()
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.first = [torch.zeros_like(p) for p in self.trained]
        self.second = [torch.zeros_like(p) for p in self.trained]

    def begin(self, model: Any) -> None:
        """At the same weights: Adam divides a gradient by its size, so where it is all rounding the two would part."""
        self.model.load_state_dict(model.state_dict())

    def step(self, number: int, part: Any) -> float:
        real = part.images.permute(0, 3, 1, 2).float() / 127.5 - 1
        fake = self.model(part.features, part.noise, part.n_masked, part.n_dropped, part.pictures)
        seen = self.eye(fake)
        cosine = (seen * part.features).sum(1) / (seen.norm(dim=1) * part.features.norm(dim=1))
        wide, truth = fake.double(), real.double()
        loss = (wide - truth).square().mean() + 0.4 * lpips(wide, truth, self.weights, 5).mean()
        loss = loss + structural_distance(wide, truth) + (1 - cosine).mean()
        gradients = torch.autograd.grad(loss, self.trained)
        rate, count = rate_at(number, ROWS // BATCH), number + 1
        with torch.no_grad():
            for p, g, m, v in zip(self.trained, gradients, self.first, self.second, strict=True):
                m.mul_(0.9).add_(g, alpha=0.1)
                v.mul_(0.999).add_(g * g, alpha=0.001)
                p.mul_(1 - rate * 0.05)
                p.sub_(rate * (m / (1 - 0.9**count)) / ((v / (1 - 0.999**count)).sqrt() + 1e-8))
        return float(loss.detach())


def follow(steps: int, vgg: Path) -> tuple[list[float], list[float], PoseTrainer, Recomputed]:
    settings = PoseTraining.named("published", Path("unused"), vgg=vgg, batch_per_gpu=BATCH, seed=5)
    trainer = PoseTrainer(data(), base(), small_recogniser(), settings)
    budget = trainer.settings.ends(ROWS)
    assert budget == Budget(steps=EPOCHS * (ROWS // BATCH))
    from safetensors.torch import load_file

    named = {name.removeprefix("features."): value.double() for name, value in load_file(vgg).items()}
    again = Recomputed(trainer.model, named)
    ours, theirs = [], []
    for number in range(steps):
        part = trainer.batches._read(number)
        assert len(set(part.n_masked.tolist())) == 1  # one ratio for the whole batch
        again.begin(trainer.model)
        theirs.append(again.step(number, part))
        terms, _ = trainer.step(number, number / (budget.steps or 1))
        ours.append(float(trainer.settings.weights.total(terms).detach()))
        trained = [p for p in trainer.model.parameters() if p.requires_grad]
        apart = torch.cat(
            [(a - b).detach().abs().flatten() for a, b in zip(trained, again.trained, strict=True)]
        )
        assert float((apart > 0.01 * rate_at(number, ROWS // BATCH)).float().mean()) < 0.02
        assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(
            rate_at(number, ROWS // BATCH), rel=1e-9
        )
    trainer.batches.close()
    return ours, theirs, trainer, again


def test_seven_steps_of_the_published_training(vgg: Path) -> None:
    """Past the warm-up: the loss of each step, the rate, and what AdamW makes of every tensor that is trained."""
    ours, theirs, _, _ = follow(7, vgg)
    np.testing.assert_allclose(ours, theirs, rtol=2e-5)


@pytest.mark.slow
def test_fifty_steps_of_the_published_training(vgg: Path) -> None:
    """The whole of its ten epochs here, so the rate goes up and all the way down."""
    ours, theirs, _, _ = follow(50, vgg)
    print(f"loss {ours[0]:.4f} to {ours[-1]:.4f}, at most {max(abs(np.array(ours) / theirs - 1)):.1e} apart")
    np.testing.assert_allclose(ours, theirs, rtol=2e-5)


def test_what_the_recipe_says(vgg: Path) -> None:
    settings = PoseTraining.named("published", Path("x"), vgg=vgg)
    told = (settings.rank, settings.alpha, settings.weight_decay, settings.lr, settings.bf16, settings.masks)
    assert told == (8, 32.0, 0.05, 1e-4, False, "plus-train")
    assert settings.on(4).batch == 256
    assert PoseTraining.named("published", Path("x"), vgg=vgg, batch=7).on(4).batch == 7
    trainer = PoseTrainer(
        data(), base(), small_recogniser(), PoseTraining.named("published", Path("x"), vgg=vgg, batch=4)
    )
    assert {group["weight_decay"] for group in trainer.optimizer.param_groups} == {0.05}
    ours = PoseTrainer(data(), base(), small_recogniser(), PoseTraining(Path("x"), batch=4))
    assert [group["weight_decay"] for group in ours.optimizer.param_groups] == [0.05, 0.0]
    with pytest.raises(ModelNotFound, match="--vgg"):
        PoseTraining.named("published", Path("x")).require_vgg()
    with pytest.raises(ModelNotFound, match="LPIPS"):
        PoseTrainer(data(), base(), small_recogniser(), PoseTraining.named("published", Path("x")))
    with pytest.raises(DatasetError, match="whole batches"):
        settings.on(1).ends(60)
    with pytest.raises(ConfigError, match="would not be read"):
        PoseTraining(Path("x"), perceptual="recogniser", vgg=vgg)
    with pytest.raises(ConfigError, match="did you mean 'published'"):
        PoseTraining.named("publised", Path("x"))


def lmdb_of(path: Path, rows: int) -> Path:
    """Records of the published layout, each of noise: 15 KB an image."""
    rng = np.random.default_rng(0)
    encoder, noise = Encoder(quality=75), rng.integers(0, 255, (8, 112, 112, 3)).astype(np.uint8)
    pictures = [encoder.encode(noise[k]) for k in range(8)]
    drawn = landmarks.draw(landmarks.project(np.linspace(-50, 50, 8), np.zeros(8)))
    marks = [encoder.encode(picture) for picture in drawn]
    feature = rng.standard_normal(512).astype(np.float32)
    records = ((pictures[k % 8], feature * (1 + k % 5), k // 4, marks[k % 8]) for k in range(rows))
    write_training_lmdb(path, records, rows // 4)
    return path


def test_a_set_on_disk_is_read_by_the_batch(tmp_path: Path) -> None:
    """The same rows as all of them held, in the order of the seed, and no picture before it is asked for."""
    stored = read_pose_data(lmdb_of(tmp_path / "a.lmdb", 40), small_recogniser())
    held = PoseData(*stored.read(np.arange(40))[:2], pictures=stored.read(np.arange(40)).pictures)
    assert (stored.heights, held.heights) == ("published", "published")
    settings = PoseTraining(Path("x"), batch=6, seed=3)
    from v2f_engine.train.distributed import Ranks

    left, right = (PoseBatches(source, settings, Ranks()) for source in (stored, held))
    seen = []
    for step in (0, 1, 2, 9, 3):  # a resumed training asks for any step
        a, b = left(step), right(step)
        for one, other in ((a.images, b.images), (a.features, b.features), (a.pictures, b.pictures)):
            assert torch.equal(one, other)
        seen += a.rows.tolist()
    assert seen[:18] != sorted(seen[:18])
    left.close(), right.close()
    assert len(read_pose_data(tmp_path / "a.lmdb", small_recogniser(), limit=10)) == 10


def test_weights_note_the_heights_of_their_landmarks(tmp_path: Path) -> None:
    stored = read_pose_data(lmdb_of(tmp_path / "a.lmdb", 16), small_recogniser())
    settings = PoseTraining(tmp_path / "out", Budget(steps=2), 4, bf16=False, log_every=1)
    train_pose(stored, base(), small_recogniser(), settings, say=lambda _: None)
    assert load_generator(tmp_path / "out/pose.safetensors").landmark_heights == "published"


READ_ALL = """
import sys, numpy as np, resource
from pathlib import Path
from v2f_engine.train.pose_data import PoseBatches, read_pose_data
from v2f_engine.train.pose_settings import PoseTraining
from v2f_engine.train.distributed import Ranks
data = read_pose_data(Path(sys.argv[1]), None)
batches = PoseBatches(data, PoseTraining(Path("x"), batch=20), Ranks())
for step in range(len(data) // 20):
    batches(step)
batches.close()
import re
print(int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_memory_does_not_grow_with_the_set(tmp_path: Path) -> None:
    """Anonymous memory after a whole epoch over 200 and over 2,000 images: held, the latter would be 268 MB more."""
    used = []
    for rows in (200, 2000):
        lmdb_of(tmp_path / f"{rows}.lmdb", rows)
        ended = subprocess.run(
            [sys.executable, "-c", READ_ALL, str(tmp_path / f"{rows}.lmdb")],
            capture_output=True,
            text=True,
            check=True,
        )
        used.append(int(ended.stdout.split()[-1]) / 1024)
    print(f"{used[0]:.0f} MB after 200 images, {used[1]:.0f} MB after 2,000")
    assert used[1] - used[0] < 15


def test_persons_come_up_at_every_yaw_with_their_mean_feature(tmp_path: Path) -> None:
    from v2f_engine.train.pose_data import StoredPoses
    from v2f_engine.train.pose_persons import persons

    stored = read_pose_data(lmdb_of(tmp_path / "a.lmdb", 400), small_recogniser()).stored
    rng = np.random.default_rng(0)
    angles = np.stack([rng.normal(0, 25, 400), np.zeros(400), np.zeros(400)]).astype(np.float32)
    features = rng.standard_normal((400, 8)).astype(np.float32)
    made = persons(StoredPoses(stored, features, angles))
    yaw = angles[0, made.rows]
    assert np.abs(yaw).max() <= 65
    assert (np.abs(yaw) > 40).mean() > 2 * (np.abs(angles[0]) > 40).mean()
    read = made.read(np.arange(6))
    row = int(made.rows[0])
    own = features[stored.labels == stored.labels[row]]
    mean = (own / np.linalg.norm(own, axis=1, keepdims=True)).sum(0)
    np.testing.assert_allclose(
        read.features[0] / np.linalg.norm(read.features[0]), mean / np.linalg.norm(mean), atol=1e-5
    )
    np.testing.assert_array_equal(read.images[0], stored.read([row]).images[0])
    with pytest.raises(DatasetError, match="v2f render"):
        persons(StoredPoses(stored))


def test_only_the_index_of_a_set_is_held(tmp_path: Path) -> None:
    """What a set of ten times the size holds more, pickled: its labels, and no picture; held, 134 MB."""
    import pickle

    size = []
    for rows in (100, 1000):
        source = read_pose_data(lmdb_of(tmp_path / f"{rows}.lmdb", rows), small_recogniser())
        for step in range(3):
            source.read(np.arange(step * 8, step * 8 + 8))
        held = {
            name: value for name, value in vars(source.stored).items() if name not in ("dataset", "_reader")
        }
        size.append(len(pickle.dumps(held)))
    assert size[1] - size[0] < 900 * 32
