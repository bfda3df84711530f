"""Training of estimators and of the pose model: labels are exact, LoRA begins as nothing, ranks agree."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from v2f_engine.attributes.estimators import EstimatorConfig, load_estimator
from v2f_engine.batch import ImageBatch
from v2f_engine.data import Encoder, Plan, write_dataset
from v2f_engine.errors import CheckpointError, ConfigError, DatasetError
from v2f_engine.models import landmarks
from v2f_engine.models.fmae import LoRALinear
from v2f_engine.models.fold import freeze
from v2f_engine.models.iresnet import IResNet, IResNetConfig
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig
from v2f_engine.models.weights import load_generator
from v2f_engine.train.distributed import Ranks, joined
from v2f_engine.train.estimators import (
    EstimatorTraining,
    Labelled,
    degrade,
    exact,
    measure_estimator,
    quality_of,
    read_labelled,
    train_estimator,
)
from v2f_engine.train.loop import Budget
from v2f_engine.train.pose import (
    PoseData,
    PoseTrainer,
    PoseTraining,
    train_pose,
    with_learned_lora,
    with_lora,
)

SMALL = Vec2FaceConfig(
    width=48, encoder_blocks=1, encoder_heads=1, decoder_blocks=1, decoder_heads=1, z_channels=8,
    base_channels=8, multipliers=(1, 1, 1, 1, 1), residual_blocks=1, norm_groups=4, dropout=0.0,
)  # fmt: skip
TINY = IResNetConfig(layers=(1, 1, 1, 1), widths=(4, 4, 8, 8), stem_stride=2)
SHAPE = EstimatorConfig(("yaw",), (25.0,), (0.0,), (8, 16, 16), shrink=4)


def bars(count: int) -> Labelled:
    """A bright bar whose place is the yaw."""
    yaw = np.random.default_rng(0).uniform(-50, 50, count).astype(np.float32)
    images = np.full((count, 112, 112, 3), 60, np.uint8)
    for image, angle in zip(images, yaw, strict=True):
        middle = round(56 + float(angle))
        image[20:90, max(0, middle - 8) : middle + 8] = 200
    return Labelled(images, {"yaw": yaw})


def test_an_estimator_learns_and_mirrors_its_labels(tmp_path: Path) -> None:
    settings = EstimatorTraining(
        tmp_path / "e.safetensors", "pose", SHAPE, Budget(steps=60), 16, lr=5e-3, bf16=False
    )
    lines: list[str] = []
    estimator = train_estimator(bars(256), settings, say=lines.append)
    test = bars(64)
    error = measure_estimator(estimator, test)["yaw"]
    assert error < 8  # 25 for one that says nothing
    assert measure_estimator(load_estimator(settings.out).model, test)["yaw"] == pytest.approx(error, abs=0.3)
    assert lines


def test_labels_after_mirroring_blur_and_noise_are_exact() -> None:
    labels = {"yaw": np.array([10.0, 20.0], np.float32), "pitch": np.array([1.0, 2.0], np.float32)}
    mirrored = np.array([True, False])
    none = np.zeros(2, np.float32)
    both = EstimatorConfig(("yaw", "pitch"), (1.0, 1.0), (0.0, 0.0), (2, 2))
    assert exact(both, labels, mirrored, none, none).tolist() == [[-10.0, 1.0], [20.0, 2.0]]
    points = quality_of(
        np.array([0.0, 1.0, 3.0, 9.0], np.float32), np.array([0.0, 5.0, 0.0, 9.0], np.float32)
    )
    assert points.tolist() == [30.0, 22.0, 12.0, 0.0]


def test_degrading_blurs_by_what_it_says() -> None:
    rng = np.random.default_rng(0)
    images = np.repeat(rng.integers(0, 255, (1, 112, 112, 3), np.uint8), 64, 0)
    seen, sigma, noise = degrade(images, np.random.default_rng(1))
    assert seen.shape == (64, 3, 112, 112)
    assert float(seen.abs().max()) <= 1.0
    assert 0.3 < (sigma > 0).mean() < 0.9
    clean = (noise == 0) & (sigma == 0)
    soft = (noise == 0) & (sigma > 1.5)
    rough = seen.diff(dim=3).abs().mean((1, 2, 3)).numpy()
    assert rough[soft].max() < rough[clean].min()


def test_a_set_without_the_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        read_labelled(tmp_path / "none", ("yaw",))
    images = np.arange(2 * 112 * 112 * 3, dtype=np.uint32).astype(np.uint8).reshape(2, 112, 112, 3)

    def people(chosen: range) -> Iterator[ImageBatch]:
        yield ImageBatch(images, np.zeros(2, np.int64), np.arange(2), {"pitch": np.float32([1, 2])})

    encoder = Encoder(codec="png")
    write_dataset(tmp_path / "set", {}, Plan.of(1, 2), people, format="webdataset", encoder=encoder)
    with pytest.raises(DatasetError, match=r"\['yaw'\]"):
        read_labelled(tmp_path / "set", ("yaw", "pitch"))
    faces = read_labelled(tmp_path / "set", ("pitch",), limit=1)
    assert np.array_equal(faces.images, images[:1])
    assert faces.attributes["pitch"].tolist() == [1.0]
    with pytest.raises(ConfigError, match="did you mean 'pose'"):
        EstimatorTraining(tmp_path / "x", "poes")


def small_base() -> Vec2Face:
    torch.manual_seed(0)
    base = Vec2Face(SMALL)
    base.initialise(torch.Generator().manual_seed(0))
    return base.eval()


def pose_data(count: int = 8) -> PoseData:
    rng = np.random.default_rng(0)
    yaw = np.linspace(-40, 40, count).astype(np.float32)
    points = landmarks.project(yaw, np.zeros(count, np.float32))
    # The picture to be made is a function of the pose alone, so only the condition can tell it.
    images = np.repeat((127 + yaw * 2).astype(np.uint8)[:, None, None, None], 112, 1)
    images = np.ascontiguousarray(np.broadcast_to(images, (count, 112, 112, 3)))
    return PoseData(images, rng.standard_normal((count, 512)).astype(np.float32), points=points)


def test_lora_begins_as_nothing_and_goes_on_from_itself() -> None:
    base = small_base()
    model = with_lora(base, 2, 8.0)
    arrays = (torch.randn(2, 512), torch.rand(2, 49), torch.tensor([10, 20]), 5)
    torch.testing.assert_close(model(*arrays).images, base(*arrays).images)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 2 * 2  # A and B of qkv and proj of two blocks
    assert all(name.endswith((".A", ".B")) for name in trained)
    layer = next(m for m in model.modules() if isinstance(m, LoRALinear))
    with torch.no_grad():
        layer.B.normal_()
    again = with_lora(model, 2, 8.0)
    torch.testing.assert_close(again(*arrays).images, model(*arrays).images)
    # On another generator: its weights, the learned update; what has none to give is refused.
    other = Vec2Face(SMALL).eval()
    moved = with_learned_lora(other, model)
    state = {
        **with_lora(other, 2, 8.0).state_dict(),
        **{n: p for n, p in model.named_parameters() if n in trained},
    }
    assert all(torch.equal(value, state[name]) for name, value in moved.state_dict().items())
    assert {name for name, p in moved.named_parameters() if p.requires_grad} == trained
    for foreign in (other, with_lora(Vec2Face(replace(SMALL, z_channels=16)), 2, 8.0)):
        with pytest.raises(CheckpointError, match="expected LoRA on a generator of"):
            with_learned_lora(base, foreign)
    # Merged into the base weights: exact in double precision.
    double = model.double()
    wide = tuple(a.double() if isinstance(a, torch.Tensor) and a.is_floating_point() else a for a in arrays)
    torch.testing.assert_close(freeze(double)(*wide).images, double(*wide).images, atol=1e-11, rtol=1e-11)


def test_the_pose_model_learns_only_what_it_may_and_loads_strictly(tmp_path: Path) -> None:
    base, recogniser = small_base(), IResNet(TINY).eval()
    settings = PoseTraining(
        tmp_path, Budget(steps=25), 8, lr=3e-3, rank=2, alpha=8.0, bf16=False, log_every=5, floor=1.0
    )
    before = {name: value.clone() for name, value in base.state_dict().items()}
    trainer = train_pose(pose_data(), base, recogniser, settings, say=lambda _: None)
    after = trainer.model.generator.state_dict()
    for name, value in before.items():
        place = (
            name if name in after else name.replace(".weight", ".base.weight").replace(".bias", ".base.bias")
        )
        torch.testing.assert_close(after[place], value, rtol=0, atol=0)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    pixel = [json.loads(line)["pixel"] for line in lines]
    assert pixel[-1] < pixel[0]
    loaded = load_generator(tmp_path / "pose.safetensors")
    assert loaded.config.lora_rank == 2
    assert loaded.pose is not None
    torch.testing.assert_close(loaded.pose.linear.weight, trainer.model.pose.linear.weight.detach())


def test_a_pose_training_that_stops_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def until(line: str) -> None:
        if line.startswith("step      7"):
            raise Stopped

    def run(out: Path, say: Any) -> dict[str, torch.Tensor]:
        base = small_base()
        torch.manual_seed(0)
        recogniser = IResNet(TINY).eval()
        settings = PoseTraining(
            out, Budget(steps=10), 4, lr=1e-3, rank=2, alpha=8.0, bf16=False, log_every=1, checkpoint_every=3
        )
        return train_pose(pose_data(), base, recogniser, settings, say=say).model.state_dict()

    whole = run(tmp_path / "whole", lambda _: None)
    with pytest.raises(Stopped):
        run(tmp_path / "cut", until)
    said: list[str] = []
    cut = run(tmp_path / "cut", said.append)
    assert said[0] == "resumed at step 6"
    for name, value in whole.items():
        torch.testing.assert_close(cut[name], value, rtol=0, atol=0)
    curves = [
        [{k: v for k, v in json.loads(line).items() if k != "images_per_second"} for line in lines]
        for lines in ((tmp_path / n / "log.jsonl").read_text().splitlines() for n in ("whole", "cut"))
    ]
    assert curves[0] == curves[1]
    assert len(curves[0]) == 10


def _rank(rank: int, port: int, out: str, queue: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    torch.set_num_threads(1)
    with joined("cpu") as group:
        torch.manual_seed(100 + rank)  # ranks that start from other LoRA would be made equal
        trainer = _two_steps(group, Path(out))
        state = {n: p.detach().numpy() for n, p in trainer.model.named_parameters() if p.requires_grad}
        queue.put((rank, state))


def _two_steps(group: Ranks, out: Path) -> PoseTrainer:
    settings = PoseTraining(out, Budget(steps=2), 4, lr=1e-3, rank=2, alpha=8.0, bf16=False)
    torch.manual_seed(0)
    recogniser = IResNet(TINY).eval()
    trainer = PoseTrainer(pose_data(), small_base(), recogniser, settings, group)
    for number in range(2):
        trainer.step(number, 0.5)
    return trainer


def test_lora_is_the_same_on_every_rank_and_as_on_one(tmp_path: Path) -> None:
    """The published code left LoRA out of what the ranks average, and saved rank 0's."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue = context.Queue()  # type: ignore[type-arg]
    ranks = [context.Process(target=_rank, args=(r, port, str(tmp_path), queue)) for r in range(2)]
    for process in ranks:
        process.start()
    found = dict(queue.get(timeout=300) for _ in ranks)
    for process in ranks:
        process.join(60)
    alone = _two_steps(Ranks(), tmp_path)
    moved = 0.0
    fresh = dict(with_lora(small_base(), 2, 8.0).named_parameters())
    for name, parameter in alone.model.named_parameters():
        if not parameter.requires_grad:
            continue
        np.testing.assert_array_equal(found[0][name], found[1][name], err_msg=name)
        # Adam's first steps are signs: where a gradient is all rounding, an element may go either way.
        apart = np.abs(found[0][name] - parameter.detach().numpy()) > 2e-4
        assert apart.mean() < 0.01, name
        if name.endswith(".B"):
            moved += float((parameter.detach() - fresh[name.removeprefix("generator.")].detach()).abs().sum())
    assert moved > 0


def test_pose_data_needs_landmarks() -> None:
    images, features = np.zeros((2, 112, 112, 3), np.uint8), np.zeros((2, 512), np.float32)
    with pytest.raises(DatasetError, match="learns from landmarks"):
        PoseData(images, features)
    with pytest.raises(DatasetError, match="as many of each"):
        PoseData(images, features[:1], pictures=images)


def test_landmarks_of_a_turned_head() -> None:
    front, right, down = landmarks.project(np.array([0.0, 40.0, 0.0]), np.array([0.0, 0.0, 20.0]))
    assert np.abs(front - landmarks.TEMPLATE).max() < 4
    assert right[2, 0] > front[2, 0] + 8  # yaw > 0: the nose goes to image right
    assert right[1, 0] - right[0, 0] < front[1, 0] - front[0, 0]
    assert down[2, 1] > front[2, 1] + 2
    mirrored = landmarks.project(np.array([-40.0]), np.zeros(1))[0]
    middle = landmarks.TEMPLATE[:, 0].mean()
    np.testing.assert_allclose(2 * middle - mirrored[[1, 0, 2, 4, 3], 0], right[:, 0], atol=0.5)
    picture = landmarks.draw(front[None])[0]
    discs = [(picture == colour).all(-1).sum() for colour in np.unique(landmarks.COLOURS, axis=0)]
    assert sorted(discs)[0] in range(25, 33)  # pi 3^2
    assert (picture.any(-1)).sum() in range(5 * 25, 5 * 33)
    with pytest.raises(ConfigError, match=r"\[B, 5, 2\]"):
        landmarks.draw(front)


def test_the_mean_head_is_that_of_rendered_people() -> None:
    pytest.importorskip("numba")
    from v2f_engine.rendered.camera import PIVOT, TEMPLATE, Camera
    from v2f_engine.rendered.camera import landmarks as marks_of
    from v2f_engine.rendered.person import draw_person

    np.testing.assert_array_equal(TEMPLATE, landmarks.TEMPLATE)
    marks = np.mean([marks_of(draw_person(7, i, world=1).neutral) for i in range(6)], 0)
    assert np.abs(marks - PIVOT - landmarks.HEAD).max() < 0.08  # 8 mm, six people
    for yaw, pitch in ((0.0, 0.0), (35.0, -10.0), (-50.0, 15.0)):
        camera = Camera(yaw, pitch, 0.0, 0.0, landmarks.DISTANCE)
        flat, depth = camera.project(landmarks.HEAD + PIVOT)
        aligned = camera.align(landmarks.HEAD + PIVOT)
        expected = (flat / depth[:, None]) @ aligned[:, :2].T + aligned[:, 2]
        found = landmarks.project(np.array([yaw]), np.array([pitch]))[0]
        np.testing.assert_allclose(found, expected, atol=1e-3)
