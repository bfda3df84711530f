"""Validation on verification sets while a recogniser trains: each epoch, the best kept, nothing lost on the way."""

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
from test_recogniser_training import EACH, PEOPLE, faces, interrupt_at, settings
from typer.testing import CliRunner

from v2f_engine.cli.main import app
from v2f_engine.data import Encoder, MemorySet
from v2f_engine.data.verification import write_bin
from v2f_engine.errors import ConfigError, DatasetError, OutputFolderError, VectorError
from v2f_engine.evaluate.validation import VerificationSets
from v2f_engine.models.iresnet import IResNet
from v2f_engine.models.weights import load_recogniser
from v2f_engine.train.loop import Budget
from v2f_engine.train.recogniser import train_recogniser
from v2f_engine.train.recogniser_best import stored

PAIRS = 30


@pytest.fixture(scope="module")
def people() -> MemorySet:
    return MemorySet(faces().reshape(-1, 112, 112, 3), np.repeat(np.arange(PEOPLE), EACH))


def write_set(path: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    images, encoder = faces(), Encoder("png")
    encoded, same = [], []
    for number in range(PAIRS):
        one, other = rng.choice(PEOPLE, 2, replace=False)
        other = one if number % 2 else other
        encoded += [encoder.encode(images[who, rng.integers(EACH)]) for who in (one, other)]
        same.append(bool(number % 2))
    write_bin(path, encoded, same)
    return path


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    write_set(folder / "lfw.bin", 1)
    write_set(folder / "agedb_30.bin", 2)
    return folder


class Scripted:
    """A validation whose means are given, one a call."""

    def __init__(self, means: dict[int, float]) -> None:
        self.means, self.seen = means, []  # type: ignore[var-annotated]

    def described(self) -> dict[str, object]:
        return {"scripted": 1}

    def measure(
        self, model: torch.nn.Module, precision: torch.dtype | None
    ) -> dict[str, tuple[float, float]]:
        assert not model.training
        self.seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"one": (self.means[len(self.seen)], 0.01)}


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "validation.jsonl").read_text().splitlines()]


def same_weights(path: Path, wanted: dict[str, torch.Tensor]) -> bool:
    found = load_recogniser(path).model.state_dict()
    return all(torch.equal(found[name], value) for name, value in wanted.items())


def test_sets_are_measured_each_epoch_and_the_best_is_kept(
    people: MemorySet, sets: Path, tmp_path: Path
) -> None:
    opened = VerificationSets.opened([sets])
    recipe = settings(tmp_path, budget=Budget(epochs=2), checkpoint_every=100)
    model = train_recogniser(people, recipe, validation=opened)
    found = lines(tmp_path)
    assert [line["step"] for line in found] == [5, 10]  # 40 rows, 8 a step
    for line in found:
        assert line["mean"] == pytest.approx((line["lfw"] + line["agedb_30"]) / 2, abs=1e-6)  # type: ignore[operator]
        assert set(line["deviations"]) == {"lfw", "agedb_30"}  # type: ignore[call-overload]
    last = opened.measure(model.eval(), None)
    assert found[1]["lfw"] == round(last["lfw"][0], 5)
    best = max(found, key=lambda line: line["mean"])  # type: ignore[arg-type, return-value]
    assert stored(tmp_path) == (best["step"], pytest.approx(best["mean"], abs=1e-6))
    assert (tmp_path / "curves.png").exists()
    reopened = load_recogniser(tmp_path / "recogniser-best.safetensors").model
    assert round(opened.measure(reopened, None)["lfw"][0], 5) == best["lfw"]


def test_only_a_higher_mean_takes_the_place(people: MemorySet, tmp_path: Path) -> None:
    scripted = Scripted({1: 0.5, 2: 0.8, 3: 0.8, 4: 0.7})
    recipe = settings(tmp_path, budget=Budget(steps=8), validate_every=2)
    model = train_recogniser(people, recipe, validation=scripted)
    assert [line["best"]["step"] for line in lines(tmp_path)] == [2, 4, 4, 4]  # type: ignore[index]
    assert same_weights(tmp_path / "recogniser-best.safetensors", scripted.seen[1])
    assert same_weights(tmp_path / "recogniser.safetensors", model.state_dict())
    assert not same_weights(tmp_path / "recogniser-best.safetensors", model.state_dict())


def test_resuming_keeps_the_best_and_measures_what_a_kill_left_out(people: MemorySet, tmp_path: Path) -> None:
    means = {1: 0.5, 2: 0.8, 3: 0.6, 4: 0.9}
    whole, broken = (
        settings(tmp_path / n, budget=Budget(steps=8), validate_every=2) for n in ("whole", "broken")
    )
    train_recogniser(people, whole, validation=Scripted(means))

    class Killed(Scripted):
        def measure(
            self, model: torch.nn.Module, precision: torch.dtype | None
        ) -> dict[str, tuple[float, float]]:
            if len(self.seen) == 2:
                raise KeyboardInterrupt  # at step 6, between its checkpoint and its line
            return super().measure(model, precision)

    with pytest.raises(KeyboardInterrupt):
        train_recogniser(people, broken, validation=Killed(means))
    assert stored(tmp_path / "broken") == (4, 0.8)
    with pytest.raises(OutputFolderError, match="validated on scripted, and none is given now"):
        train_recogniser(people, broken)
    going_on = Scripted({1: 0.6, 2: 0.9})
    train_recogniser(people, broken, validation=going_on)
    assert len(going_on.seen) == 2  # step 6, made up for, and 8
    assert lines(tmp_path / "broken") == lines(tmp_path / "whole")
    assert stored(tmp_path / "broken") == stored(tmp_path / "whole") == (8, 0.9)
    # the last checkpoint is lost, and with it what was best at it: the one before knows what was best then
    for path in (tmp_path / "broken" / "checkpoints").glob("00000008.*"):
        path.unlink()
    further = Scripted({1: 0.7})
    train_recogniser(people, broken, validation=further)
    assert [line["best"] for line in lines(tmp_path / "broken")][-1] == {"step": 4, "mean": 0.8}
    assert stored(tmp_path / "broken") == (4, 0.8)
    other = Scripted({})
    other.described = lambda: {"scripted": 2}  # type: ignore[method-assign]
    with pytest.raises(OutputFolderError, match=r"validation\.scripted"):
        train_recogniser(people, broken, validation=other)


def test_a_training_begun_by_an_earlier_version_goes_on(people: MemorySet, tmp_path: Path) -> None:
    """Its notes know none of the newer settings: as they were then it goes on, otherwise it is another training."""
    recipe = dataclasses.replace(
        settings(tmp_path, budget=Budget(steps=4)), drops=(), dropout=0.0, whole_epochs=False
    )
    train_recogniser(people, recipe)
    notes = json.loads((tmp_path / "settings.json").read_text())
    for name in (
        "drops",
        "dropout",
        "whole_epochs",
        "batch_per_gpu",
        "fp16_amp",
        "erase_share",
        "augment_share",
    ):
        del notes[name]
    (tmp_path / "settings.json").write_text(json.dumps(notes))
    with pytest.raises(OutputFolderError, match=r"dropout is 0\.0 there, 0\.4 now"):
        train_recogniser(people, dataclasses.replace(recipe, dropout=0.4))
    train_recogniser(people, dataclasses.replace(recipe, budget=Budget(steps=5)))


def test_sets_that_are_missing_or_damaged_are_refused_before_anything_begins(
    sets: Path, tmp_path: Path
) -> None:
    whole = (sets / "lfw.bin").read_bytes()
    (tmp_path / "cut.bin").write_bytes(whole[: len(whole) // 2])
    picture = whole.rfind(b"IDAT")  # of the last picture: only decoding all of them finds it
    (tmp_path / "late.bin").write_bytes(whole[: picture + 60] + bytes(40) + whole[picture + 100 :])
    images = [Encoder("png").encode(faces()[0, 0])] * 24
    write_bin(tmp_path / "one_kind.bin", images, [True] * 12)
    write_bin(tmp_path / "short.bin", images[:4], [True, False])
    (tmp_path / "empty").mkdir()
    (tmp_path / "again").mkdir()
    write_set(tmp_path / "again" / "lfw.bin", 3)
    for paths, error, message in (
        (["none.bin"], DatasetError, "none.bin does not exist"),
        (["cut.bin"], DatasetError, "cut.bin"),
        (["late.bin"], DatasetError, "late: image 59"),
        (["one_kind.bin"], VectorError, "one person"),
        (["short.bin"], VectorError, "10 folds need at least 10"),
        (["empty"], DatasetError, "expected verification sets"),
        ([str(sets), "again"], ConfigError, "Give the file another name"),
    ):
        with pytest.raises(error, match=message):
            VerificationSets.opened([tmp_path / path for path in paths])
    out = tmp_path / "out"
    said = CliRunner().invoke(
        app,
        ["train", "recogniser", "nothing-there", "--validate", str(tmp_path / "late.bin"), "--out", str(out)],
    )
    assert said.exit_code != 0
    assert "image 59" in said.output + str(said.exception)  # before the data is even looked for
    assert not (out / "settings.json").exists()


def test_fp16_training_keeps_its_scale(people: MemorySet, tmp_path: Path) -> None:
    """The published precision on a CPU: it learns, and its scaler is a part of what is resumed."""
    own = {"fp16_amp": True, "budget": Budget(steps=4), "dropout": 0.0}
    whole = train_recogniser(people, settings(tmp_path / "whole", **own)).state_dict()
    with pytest.raises(KeyboardInterrupt):
        train_recogniser(people, settings(tmp_path / "broken", **own), say=interrupt_at(3))
    resumed = train_recogniser(people, settings(tmp_path / "broken", **own)).state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert all(torch.isfinite(value).all() for value in whole.values())


RANKS = """
import sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_recogniser_training import PEOPLE, EACH, faces, settings
from v2f_engine.cli.train import ValidationFlags
from v2f_engine.data import MemorySet
from v2f_engine.errors import V2FError
from v2f_engine.train.distributed import joined
from v2f_engine.train.loop import Budget
from v2f_engine.train.recogniser import train_recogniser
people = MemorySet(faces().reshape(-1, 112, 112, 3), np.repeat(np.arange(PEOPLE), EACH))
out = Path(sys.argv[2])
with joined("cpu") as group:
    try:
        ValidationFlags([Path(sys.argv[3]) / "none.bin"]).opened(group)
    except V2FError as error:
        (out / f"refused-{group.rank}").write_text(str(error))
    sets = ValidationFlags([Path(sys.argv[3])]).opened(group)
    recipe = settings(out / "run", batch_per_gpu=4, budget=Budget(epochs=2), fp16_amp=True, checkpoint_every=100)
    train_recogniser(people, recipe, group=group, validation=sets)
"""


@pytest.mark.slow
def test_two_ranks_refuse_together_and_wait_for_the_validation(sets: Path, tmp_path: Path) -> None:
    script = tmp_path / "ranks.py"
    script.write_text(RANKS)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29617"]
    run = [*command, str(script), str(Path(__file__).parent), str(tmp_path), str(sets)]
    subprocess.run(run, check=True, env={**os.environ}, timeout=300)
    for rank in range(2):
        assert "none.bin does not exist" in (tmp_path / f"refused-{rank}").read_text()
    found = lines(tmp_path / "run")
    assert [line["step"] for line in found] == [5, 10]  # 40 rows, 4 images on each of 2 ranks
    assert stored(tmp_path / "run")[1] == pytest.approx(max(line["mean"] for line in found), abs=1e-6)  # type: ignore[type-var]
    assert isinstance(load_recogniser(tmp_path / "run" / "recogniser-best.safetensors").model, IResNet)
