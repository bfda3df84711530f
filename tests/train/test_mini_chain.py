"""The embedded model's chain of trainings: what each is asked for, and the whole of it at toy size."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from small_networks import generator, posed_generator

from v2f_engine.data.training.memory_set import MemorySet
from v2f_engine.models import registry
from v2f_engine.pipeline import Engine
from v2f_engine.rendered import WORLD_VERSION
from v2f_engine.train import mini

ASKED = {
    "identities": 20,
    "images": 3,
    "held_out": 4,
    "processes": 5,
    "recogniser_minutes": (1.0, 2.0),
    "second_minutes": 3.0,
    "generator_minutes": 4.0,
    "pose_minutes": 5.0,
    "recogniser_from": Path("earlier/recogniser.safetensors"),
    "generator_from": Path("earlier/generator.safetensors"),
    "pose_from": Path("earlier/pose.safetensors"),
    "batch": 6,
    "recogniser_batch": 7,
    "base_lr": 0.25,
    "watch_every": 9,
    "seed": 1000,
    "device": "cuda",
    "renderer": "torch",
}
"""An odd value for every option but `--out`, `--assets`, and those that other tests here give."""
OTHERS = {"out", "assets", "minutes", "recogniser", "second", "bf16"}
Calls = dict[str, list[Any]]


def typed(asked: dict[str, Any]) -> list[str]:
    words = []
    for name, value in asked.items():
        values = value if isinstance(value, tuple) else (value,)
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return words


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Calls:
    """The chain with every training and rendering replaced by a note of what it was asked for."""
    labels = np.repeat(np.arange(20), 3)
    people = MemorySet(np.zeros((60, 112, 112, 3), np.uint8), labels)
    network = SimpleNamespace()
    calls: Calls = {}
    network.to = lambda device: network
    earlier, pose = posed_generator()
    known = {"earlier/pose.safetensors": SimpleNamespace(model=earlier, pose=pose)}

    def noting(name: str, answer: Any = None) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            calls.setdefault(name, []).append((*given, *named.values()))
            return answer

        return call

    for name, answer in {
        "rendered_set": people,
        "train_recogniser": network,
        "load_recogniser": SimpleNamespace(model=network),
        "extract_features": np.zeros((60, 512), np.float32),
        "train_generator": None,
        "train_pose": None,
        "embed": {},
        "embed_pose": None,
        "read_pose_data": "poses",
        "persons": "persons",
        "file_sha256": "ab" * 32,
    }.items():
        monkeypatch.setattr(mini, name, noting(name, answer))
    fresh = SimpleNamespace(model=generator(), pose=None)
    monkeypatch.setattr(mini, "load_generator", lambda path: known.get(str(path), fresh))
    return calls


def test_defaults_are_of_the_device_and_shares_are_of_all_minutes() -> None:
    for device, expected in (("cpu", (16, 64, 2.8e-3)), ("cuda:1", (256, 512, 7e-4))):
        o = mini.options(["--device", device])
        assert (o.batch, o.recogniser_batch, o.base_lr) == expected
    usual, timed = mini.options([]), mini.options(["--minutes", "50"])
    for o, total in ((usual, 350.0), (timed, 50.0)):
        each = (*o.recogniser_minutes, o.second_minutes, o.generator_minutes, o.pose_minutes)
        assert min(each) > 0
        assert sum(each) == pytest.approx(total)


def test_every_option_reaches_its_training(faked: Calls, tmp_path: Path) -> None:
    assert ASKED.keys() | OTHERS == vars(mini.options([])).keys()
    o = SimpleNamespace(**ASKED)
    mini.main(["--out", str(tmp_path), "--assets", str(tmp_path / "mini"), *typed(ASKED)])

    seeds = {name: (tmp_path / f"people-{name}", seed) for name, seed in mini.SEEDS.items()}
    assert sorted(faked["rendered_set"]) == sorted(
        (*seeds[name], 20, 3, 5, "torch", "cuda") for name in seeds
    )

    (few, first), (everyone, second), (half, judge) = faked["train_recogniser"]
    assert (few.classes, everyone.classes, half.classes) == (12, 20, 10)
    assert [one.budget.minutes for one in (first, second, judge)] == [1.0, 2.0, 3.0]
    assert {(one.batch, one.device, one.augment) for one in (first, second, judge)} == {
        (7, "cuda", "hardened")
    }
    assert (first.start_from, judge.start_from) == (o.recogniser_from, None)
    assert second.start_from == first.out / "recogniser.safetensors"
    assert (second.steady, second.lr, second.m, first.steady) == (6.0, 1e-3, 0.2, 0.0)
    assert len({one.seed for one in (first, second, judge)} | {1000}) == 3

    ((others, _, drawing, held_out),) = faked["train_generator"]
    assert (others.classes, held_out.classes) == (16, 4)
    assert (drawing.budget.minutes, drawing.batch, drawing.base_lr, drawing.device) == (4.0, 6, 0.25, "cuda")
    assert (drawing.picture_every, drawing.start_from) == (9, o.generator_from)
    assert (drawing.second, drawing.loss_weights.second) == (judge.out / "recogniser.safetensors", 0.1)

    ((data, base, _, posing, group, pose),) = faked["train_pose"]
    assert (data, faked["read_pose_data"][0][0]) == ("persons", seeds["generator"][0])
    assert (posing.budget.minutes, posing.batch, posing.rank, group.device) == (5.0, 6, 2, "cuda")
    earlier, turning = posed_generator()
    learned = {name: p for name, p in base.named_parameters() if name.endswith((".A", ".B"))}
    assert learned
    for name, p in learned.items():
        assert torch.equal(p, earlier.get_parameter(name)), name
    assert torch.equal(pose.linear.weight, turning.linear.weight)

    ((assets, made, weights, shown, card),) = faked["embed"]
    assert (assets, made) == (tmp_path / "mini", drawing.out / "generator.safetensors")
    assert (weights, shown.classes) == (second.out / "recogniser.safetensors", 16)
    assert len(card["recogniser_training"]) == 3
    json.dumps(card)
    assert faked["embed_pose"][0][2]["went_on_from"] == {"sha256": "ab" * 32}


@pytest.mark.parametrize("hardware", [True, False])
def test_everything_trains_in_bf16_where_the_machine_multiplies_it(
    hardware: bool, faked: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mini, "bf16_here", {"cpu": hardware}.__getitem__)
    mini.main(["--out", str(tmp_path), *typed({**ASKED, "device": "cpu"})])
    settings = [given[1] for given in faked["train_recogniser"]]
    settings += [faked["train_generator"][0][2], faked["train_pose"][0][3]]
    assert [one.bf16 for one in settings] == [hardware] * 5
    assert faked["extract_features"][0][2] is hardware


def test_pictures_of_another_renderer_are_another_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Numba's is the set that there always was; to go on with another renderer is refused by its manifest."""
    told: list[Any] = []
    monkeypatch.setattr(mini, "write_dataset", lambda *given, **named: told.append((given[1], given[3])))
    monkeypatch.setattr(mini, "open_training_set", lambda *given, **named: None)
    monkeypatch.setattr(MemorySet, "load", lambda read: None)
    asked: dict[str, Any] = {}
    monkeypatch.setattr(mini, "render_people", lambda *given, **named: asked.update(named))
    for how in ((), ("torch", "cuda:1")):
        mini.rendered_set(tmp_path, 7, 2, 1, 1, *how)
        told[-1][1](range(2))
    plain = {"world": WORLD_VERSION, "seed": 7}
    assert [settings for settings, _ in told] == [plain, plain | {"renderer": "torch"}]
    assert asked == {"renderer": "torch", "device": "cuda:1"}


def test_finished_recognisers_are_not_trained_again(faked: Calls, tmp_path: Path) -> None:
    given = {"recogniser": tmp_path / "r.safetensors", "second": tmp_path / "s.safetensors"}
    mini.main(["--out", str(tmp_path), *typed(given), "--device", "cpu", "--held-out", "2"])
    assert "train_recogniser" not in faked
    assert [call[1] for call in faked["rendered_set"]] == [mini.SEEDS["generator"]]
    assert faked["rendered_set"][0][5:] == ("numba", "cpu")
    assert faked["train_generator"][0][2].second == given["second"]
    assert faked["embed"][0][2] == given["recogniser"]
    assert faked["train_pose"][0][-1] is None
    assert "went_on_from" not in faked["embed_pose"][0][2]


@pytest.mark.slow
def test_the_whole_chain_at_toy_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that loads as the embedded model; again, and nothing is done again."""
    words = ["--out", str(tmp_path / "run"), "--assets", str(tmp_path / "mini"), "--device", "cpu"]
    few = {"identities": 14, "images": 4, "held_out": 2, "processes": 2, "batch": 4, "recogniser_batch": 8}
    words += [*typed(few), "--minutes", "0.2"]  # twelve people make the 1,000 pairs that a limit needs
    mini.main(words)
    folder = tmp_path / "mini"
    monkeypatch.setattr(registry, "MINI", folder)
    for name in ("mini", "mini-pose"):
        engine = Engine.load(name, device="cpu", precision="fp32", compute_batch=2)
        people = engine.sample_identities(2, seed=0, max_cosine=0.9999)
        batch = next(iter(engine.images(people, 1, seed=0)))
        assert batch.images.shape == (2, 112, 112, 3)
        assert batch.images.std() > 0
    card = json.loads((folder / registry.CARD).read_text())
    assert {"stripes", "spread", "max_cosine", "effective_dimension"} == card["features"].keys()
    assert len(card["recogniser_training"]) == 3
    assert card["pose_model"]["training"]["steps"] >= 1

    def hashes() -> dict[str, str]:
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.safetensors")
        }

    before = hashes()
    assert len(before) == 4
    mini.main(words)
    assert hashes() == before
