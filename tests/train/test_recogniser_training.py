"""Training a recogniser: the published recipe, every format, ranks, kills and bad data."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from v2f_engine.batch import ImageBatch
from v2f_engine.data import Encoder, MemorySet, Plan, open_training_set, write_dataset
from v2f_engine.data.formats.lmdb.entries import write_training_lmdb
from v2f_engine.data.writing.lock import exclusive
from v2f_engine.errors import ConfigError, OutputFolderError
from v2f_engine.models.iresnet import LAYERS, IResNet, IResNetConfig
from v2f_engine.models.weights import load_recogniser
from v2f_engine.train.checkpoint import Checkpoints
from v2f_engine.train.loop import Budget
from v2f_engine.train.optim import sgd
from v2f_engine.train.published_augment import augment_published
from v2f_engine.train.recogniser import RecogniserTraining, train_recogniser
from v2f_engine.train.recogniser_values import BY_OPTIONS, with_values

EYE = IResNetConfig((1, 1, 1, 1), (8, 8, 8, 16), stem_stride=4, se=False)
PEOPLE, EACH = 5, 8


def faces() -> np.ndarray:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 255, (PEOPLE, 1, 7, 7, 3)).repeat(16, 2).repeat(16, 3)
    return np.clip(base + rng.normal(0, 12, (PEOPLE, EACH, 112, 112, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def people() -> MemorySet:
    return MemorySet(faces().reshape(-1, 112, 112, 3), np.repeat(np.arange(PEOPLE), EACH))


def settings(out: Path, **changes: object) -> RecogniserTraining:
    own = {
        "model": EYE, "budget": Budget(steps=6), "batch": 8, "lr": 0.05, "scale": 16.0, "fp16_amp": False,
        "checkpoint_every": 2, "log_every": 1, "seed": 1,
    }  # fmt: skip
    return RecogniserTraining.named("published", out, **{**own, **changes})


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["margin_softmax"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_the_published_recipe_in_numbers() -> None:
    recipe = RecogniserTraining.named("published", Path("x"))
    assert recipe.model == IResNetConfig(LAYERS["iresnet50"], se=True)
    assert (recipe.optimiser, recipe.lr, recipe.momentum, recipe.weight_decay) == ("sgd", 0.1, 0.9, 5e-4)
    assert (recipe.margin, recipe.m, recipe.scale, recipe.batch, recipe.clip) == (
        "arcface-published",
        0.5,
        64.0,
        128,
        5.0,
    )
    assert (recipe.dropout, recipe.batch_per_gpu, recipe.on(4).batch, recipe.seed) == (0.4, 128, 512, 42)
    assert (recipe.precision, recipe.augment_share, recipe.erase_share) == (torch.float16, 0.3, 0.5)
    assert (recipe.augment, recipe.sample_rate, recipe.budget) == ("published", 1.0, Budget(epochs=26))
    assert RecogniserTraining.named("published-adaface", Path("x")).margin == "adaface"
    json.dumps(recipe.to_json())
    for wrong, message in (
        ({"margin": "arcfac"}, "did you mean 'arcface'"),
        ({"milestones": (0.5, 0.2)}, "rise"),
        ({"optimiser": "adam"}, "adamw"),
        ({"milestones": (0.5,), "drops": (3.0,)}, "give one of the two"),
        ({"drops": (3.0, 2.0)}, "rise"),
        ({"dropout": 1.0}, "dropout"),
        ({"fp16_amp": True}, "bf16=False"),
    ):
        with pytest.raises(ConfigError, match=message):
            RecogniserTraining(Path("x"), **wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="divided among 3 ranks"):
        recipe.part(3)


@pytest.mark.parametrize(("depth", "se"), [(depth, depth in ("iresnet18", "iresnet50")) for depth in LAYERS])
def test_batch_norms_alone_do_not_decay(depth: str, se: bool) -> None:
    with torch.device("meta"):
        model = IResNet(IResNetConfig.named(depth, se=se))
    decayed, plain = (group["params"] for group in sgd([model], 0.1, 0.9, 5e-4).param_groups)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert all(".bn" in (n := "." + names[id(p)]) or "downsample.1" in n or "features" in n for p in plain)
    assert len(decayed) + len(plain) == sum(p.requires_grad for p in model.parameters())
    assert not any("bn" in names[id(p)] for p in decayed)


def test_published_augmentation() -> None:
    images = np.full((400, 112, 112, 3), 128, np.uint8)
    images[:, :, :56] = 200  # left half brighter
    places = np.arange(400)
    x = augment_published(images, 5, 9, places)
    assert (x.shape, x.dtype) == ((400, 3, 112, 112), torch.float32)
    assert x.min() >= -1
    assert x.max() <= 1
    plain = torch.from_numpy(images[0]).permute(2, 0, 1).float() / 127.5 - 1
    left, right = plain[0, 0, 0], plain[0, 0, -1]
    whole = sum(bool(torch.equal(image, plain) or torch.equal(image, plain.flip(2))) for image in x)
    assert whole / 400 == pytest.approx(0.7**3 * 0.5, abs=0.09)  # low resolution keeps some flat halves
    mirrored = sum(bool(image[0, 0, 0] == right and image[0, 0, -1] == left) for image in x)
    straight = sum(bool(image[0, 0, 0] == left and image[0, 0, -1] == right) for image in x)
    assert abs(mirrored - straight) < 60
    erased = (x == 0).all(1).flatten(1).float().mean(1)
    assert (erased > 0.015).float().mean() == pytest.approx(0.5, abs=0.1)
    assert erased.max() < 0.4
    black = ((x == -1).all(1).flatten(1).float().mean(1) > 0.01).float().mean()
    assert black == pytest.approx(0.3, abs=0.08)
    # a function of (seed, step, place), not of the batch it stands in
    assert torch.equal(augment_published(images[:3], 5, 9, np.array([7, 0, 399])), x[[7, 0, 399]])
    assert not torch.equal(augment_published(images[:1], 5, 10, places[:1]), x[:1])
    assert not torch.equal(augment_published(images[:1], 6, 9, places[:1]), x[:1])


@pytest.mark.parametrize("margin", ["arcface", "cosface", "adaface"])
def test_the_recipe_learns(people: MemorySet, tmp_path: Path, margin: str) -> None:
    recipe = settings(
        tmp_path, budget=Budget(epochs=8), margin=margin, m=0.2, augment="mirror", checkpoint_every=50
    )
    model = train_recogniser(people, recipe, held_out=people)
    found = losses(tmp_path)
    assert len(found) == 40
    assert np.mean(found[-5:]) < 0.6 * np.mean(found[:5])
    assert json.loads((tmp_path / "validation.jsonl").read_text().splitlines()[-1])["eer"] < 0.3
    loaded = load_recogniser(tmp_path / "recogniser.safetensors").model.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())


def batches(chosen: range):  # type: ignore[no-untyped-def]
    for i in chosen:
        yield ImageBatch(faces()[i], np.full(EACH, i), np.arange(EACH))


@pytest.mark.parametrize(
    "format", ["imagefolder", "webdataset", "lmdb", "recordio", "parquet", "published lmdb"]
)
def test_every_format_gives_the_same_training(people: MemorySet, tmp_path: Path, format: str) -> None:
    encoder = Encoder("png")
    root = tmp_path / "set"
    if format == "published lmdb":
        root = tmp_path / "set.lmdb"
        feature = np.ones(512, np.float32)
        rows = (
            (encoder.encode(image), feature, int(label))
            for image, label in zip(people.images, people.labels, strict=True)
        )
        write_training_lmdb(root, rows, PEOPLE)
    else:
        write_dataset(root, {}, Plan.of(PEOPLE, EACH), batches, format=format, encoder=encoder)
    train_recogniser(people, settings(tmp_path / "memory", budget=Budget(steps=2)))
    train_recogniser(
        open_training_set(root), settings(tmp_path / "stored", budget=Budget(steps=2), threads=2)
    )
    assert losses(tmp_path / "stored") == losses(tmp_path / "memory")


def test_bad_rows_do_not_end_a_training(people: MemorySet, tmp_path: Path) -> None:
    encoder = Encoder("png")
    write_dataset(tmp_path / "set", {}, Plan.of(PEOPLE, EACH), batches, format="imagefolder", encoder=encoder)
    for path in sorted((tmp_path / "set" / "images").rglob("*.png"))[3:30:9]:
        path.write_bytes(b"\x89PNG\r\n\x1a\n broken")
    data = open_training_set(tmp_path / "set", on_bad="skip")
    train_recogniser(data, settings(tmp_path / "out", sample_rate=0.5))
    report = json.loads((tmp_path / "out" / "bad_rows.json").read_text())
    assert report["count"] == 3
    assert report["by_kind"] == {"image": 3}
    assert all(np.isfinite(losses(tmp_path / "out")))


def interrupt_at(step: int):  # type: ignore[no-untyped-def]
    def say(line: str) -> None:
        if line.startswith("step") and int(line.split()[1]) >= step:
            raise KeyboardInterrupt

    return say


def test_resumes_bit_for_bit_and_passes_over_damage(people: MemorySet, tmp_path: Path) -> None:
    own = {"margin": "adaface", "m": 0.4, "sample_rate": 0.6, "budget": Budget(steps=8)}
    whole = train_recogniser(people, settings(tmp_path / "whole", **own)).state_dict()
    broken = settings(tmp_path / "broken", **own)
    with pytest.raises(KeyboardInterrupt):
        train_recogniser(people, broken, say=interrupt_at(7))
    newest = tmp_path / "broken" / "checkpoints" / "heads" / "0-of-1" / "00000006.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1] + b"\0\1"[:1])  # cut and changed: the head of step 6 is lost
    newest.write_bytes(newest.read_bytes()[:-40])
    said: list[str] = []
    resumed = train_recogniser(people, broken, say=said.append).state_dict()
    assert "checkpoint of step 6 is not whole" in said[0]
    assert said[1] == "resumed at step 4"
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    with (
        exclusive(tmp_path / "broken" / ".lock", tmp_path / "broken"),
        pytest.raises(OutputFolderError, match="being written by process"),
    ):
        train_recogniser(people, broken)
    more = MemorySet(people.images, np.arange(len(people.labels)))
    with pytest.raises(OutputFolderError, match="data.classes is 5 there, 40 now"):
        train_recogniser(more, dataclasses.replace(broken, budget=Budget(steps=9)))


RANKS = """
import sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_recogniser_training import PEOPLE, EACH, faces, interrupt_at, settings
from v2f_engine.data import MemorySet
from v2f_engine.train.distributed import joined
from v2f_engine.train.loop import Budget
from v2f_engine.train.recogniser import train_recogniser
people = MemorySet(faces().reshape(-1, 112, 112, 3), np.repeat(np.arange(PEOPLE), EACH))
with joined("cpu") as group:
    for name, stop in (("whole", None), ("broken", int(sys.argv[3]))):
        recipe = settings(Path(sys.argv[2]) / name, sample_rate=0.6)
        try:
            train_recogniser(people, recipe, group=group, say=interrupt_at(stop) if stop else None)
        except KeyboardInterrupt:
            pass
"""


def test_two_ranks_train_resume_and_become_one(people: MemorySet, tmp_path: Path) -> None:
    """Under torchrun: both ranks hold one network; a run goes on on two ranks, or on one with the head joined."""
    script = tmp_path / "ranks.py"
    script.write_text(RANKS)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29613"]
    run = [*command, str(script), str(Path(__file__).parent), str(tmp_path)]
    subprocess.run([*run, "99"], check=True, env={**os.environ}, timeout=600)
    found = losses(tmp_path / "whole")
    assert len(found) == 6
    # the same training again, bit for bit: ranks change nothing from run to run
    assert found == losses(tmp_path / "broken")
    heads = tmp_path / "whole" / "checkpoints" / "heads"
    shapes = [Checkpoints(heads / f"{r}-of-2", print).load(6)[0]["head/weight"].shape[0] for r in range(2)]
    assert shapes == [2, 3]
    # two ranks see the rows that one sees; batch norms see half of them each
    train_recogniser(people, settings(tmp_path / "one", sample_rate=0.6))
    assert found[0] == pytest.approx(losses(tmp_path / "one")[0], rel=0.2)
    going_on = settings(tmp_path / "whole", sample_rate=0.6, budget=Budget(steps=8))
    said: list[str] = []
    train_recogniser(people, going_on, say=said.append)
    assert "resumed at step 6" in said
    assert len(losses(tmp_path / "whole")) == 8


def test_any_value_is_set_by_its_name() -> None:
    recipe = RecogniserTraining.named("published", Path("x"))
    texts = [
        "drops=18,28,35",
        "momentum=0",
        "erase_share=0.25",
        "batch_per_gpu=none",
        "fp16_amp=false",
        "margin=cosface",
    ]
    found = with_values(recipe, texts)
    assert (found.drops, found.momentum, found.erase_share) == ((18.0, 28.0, 35.0), 0.0, 0.25)
    assert (found.batch_per_gpu, found.fp16_amp, found.margin) == (None, False, "cosface")
    assert with_values(recipe, ["drops=none", "milestones=0.5"]).milestones == (0.5,)
    assert with_values(recipe, ["batch=64"]).on(4).batch == 64
    for field in dataclasses.fields(recipe):  # every value, as it is now
        value = getattr(recipe, field.name)
        if field.name not in (*BY_OPTIONS, "batch"):  # which unsets that of a GPU
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            assert with_values(recipe, [f"{field.name}={text.lower() or 'none'}"]) == recipe, field.name
    for text, message in (
        ("dropout", "expected NAME=VALUE"),
        ("dropuot=0.1", "did you mean 'dropout'"),
        ("dropout=much", "expected float, found 'much'"),
        ("dropout=true", "expected float"),
        ("drops=a,b", "expected float"),
        ("dropout=2", "dropout must lie"),
    ):
        with pytest.raises(ConfigError, match=message):
            with_values(recipe, [text])
