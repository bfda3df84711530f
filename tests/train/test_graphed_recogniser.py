"""What a capture does to a recogniser's training, on a CPU: the graph is imitated operator by operator (`tape.py`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tape import Tape
from test_halved import Casts
from train_harness import EYE, people

from v2f_engine.errors import BackendUnavailable, ConfigError
from v2f_engine.train import graphed, recogniser, recogniser_step
from v2f_engine.train.checkpoint import restore, training_state
from v2f_engine.train.distributed import Ranks
from v2f_engine.train.graphed_recogniser import GraphedRecogniserTrainer
from v2f_engine.train.loop import Budget
from v2f_engine.train.recogniser import RecogniserTraining, open_trainer, train_recogniser
from v2f_engine.train.recogniser_step import RecogniserTrainer

PROGRESS = (0.02, 0.25, 0.3, 0.5, 0.6, 0.9)
"""Another rate and another share of the margin at nearly every step."""
WAYS = {
    "sgd, arcface, bf16": {"margin": "arcface", "m": 0.5},
    "adamw, cosface, eased": {"optimiser": "adamw", "lr": 1e-3, "margin": "cosface", "m": 0.2, "ease": True},
    "sgd, adaface, eased, fp32": {"margin": "adaface", "m": 0.4, "ease": True, "bf16": False},
}
Steps = list[dict[str, torch.Tensor]]


@pytest.fixture
def tape(monkeypatch: pytest.MonkeyPatch) -> Tape:
    """Graphs of this test are recorded here."""
    made = Tape()
    monkeypatch.setattr(graphed, "open_recorder", lambda device: made)
    return made


def wanted(out: Path = Path("unused"), **changes: Any) -> RecogniserTraining:
    own = {
        "model": EYE, "budget": Budget(steps=6), "batch": 8, "lr": 0.05, "scale": 16.0, "augment": "none",
        "milestones": (), "checkpoint_every": 2, "log_every": 1, "stepping": "graph",
    }  # fmt: skip
    return RecogniserTraining.named("mended", out, **{**own, **changes})


def run(trainer: RecogniserTrainer, steps: range = range(len(PROGRESS))) -> Steps:
    """Weights, running statistics and terms after each step."""
    made = []
    for number in steps:
        batch = trainer.prepare(number, trainer.data.read(trainer.rows(number)))
        terms = trainer.step(batch, number, PROGRESS[number])
        modules = {"recogniser": trainer.model, "head": trainer.head}
        state = {f"{n}/{k}": v.clone() for n, m in modules.items() for k, v in m.state_dict().items()}
        made.append({**state, **{name: value.detach().clone() for name, value in terms.items()}})
    return made


def equal(found: Steps, expected: Steps) -> list[bool]:
    return [
        a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())
        for a, b in zip(found, expected, strict=True)
    ]


@pytest.mark.parametrize("way", WAYS)
def test_replays_give_the_eager_trainers_weights_bit_for_bit(way: str, tape: Tape) -> None:
    settings = wanted(**WAYS[way])
    eagerly = run(RecogniserTrainer(people(), settings))
    found = run(GraphedRecogniserTrainer(people(), settings))
    assert (tape.recorded, tape.replays) == (1, len(PROGRESS))
    assert equal(found, eagerly) == [True] * len(PROGRESS)
    still = [name for name, value in found[0].items() if torch.equal(value, found[-1][name])]
    assert all(name.endswith("features.weight") for name in still), still  # frozen at 1


def test_weights_are_cast_in_one_call(tape: Tape) -> None:
    """Those that autocast rounds: of convolutions, not of `fc`, which computes in fp32."""
    trainer = GraphedRecogniserTrainer(people(), wanted())
    batch = trainer.prepare(0, trainer.data.read(trainer.rows(0)))
    names = trainer._cast
    assert {name.rpartition(".")[0] for name in names} == {
        name for name, module in trainer.model.named_modules() if isinstance(module, torch.nn.Conv2d)
    }
    shapes = {trainer.model.get_parameter(name).shape for name in names}
    with Casts(shapes) as together:
        trainer.update(batch[0], batch[1], 0, 1.0)
    trainer._cast = []
    with Casts(shapes) as apart:
        trainer.update(batch[0], batch[1], 0, 1.0)
    assert (together.many, apart.many) == (2, 0)
    assert apart.single - together.single == 2 * len(names)
    assert GraphedRecogniserTrainer(people(), wanted(bf16=False))._cast == []


def test_capturable_optimisers_compute_what_the_others_do() -> None:
    """The eager trainer that graphs are compared with has their optimisers; this one has its own."""
    for way in WAYS.values():
        ours = run(RecogniserTrainer(people(), wanted(**way)))[-1]
        own = run(RecogniserTrainer(people(), wanted(**{**way, "stepping": "eager"})))[-1]
        for name in ("recogniser/conv1.weight", "head/weight"):
            assert torch.allclose(ours[name], own[name], rtol=1e-3, atol=1e-4), name


def _frozen_rate(patch: pytest.MonkeyPatch) -> None:
    made = recogniser_step.sgd

    def plain(modules: Any, lr: float, *rest: float, capturable: bool = False) -> torch.optim.SGD:
        groups = [
            {"params": g["params"], "weight_decay": g["weight_decay"]}
            for g in made(modules, lr, *rest).param_groups
        ]
        return torch.optim.SGD(groups, lr=lr, momentum=rest[0], fused=True)

    patch.setattr(recogniser_step, "sgd", plain)


def _forgotten(ending: str) -> Callable[[pytest.MonkeyPatch], None]:
    def inject(patch: pytest.MonkeyPatch) -> None:
        changed = GraphedRecogniserTrainer.changed
        patch.setattr(
            GraphedRecogniserTrainer,
            "changed",
            lambda self: {name: t for name, t in changed(self).items() if not name.endswith(ending)},
        )

    return inject


FAULTS = {
    "momentum not restored": (_forgotten("momentum_buffer"), 0),
    "running statistics not restored": (_forgotten("running_mean"), 0),
    "a counter not restored": (_forgotten("num_batches_tracked"), 0),
    "AdaFace's statistics not restored": (_forgotten("margin.mean"), 0),
    "the head's weight not restored": (_forgotten("head/weight"), 0),
    "rate not on the device": (_frozen_rate, 1),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_shows(fault: str, tape: Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    inject, first = FAULTS[fault]
    settings = wanted(**WAYS["sgd, adaface, eased, fp32"])
    eagerly = run(RecogniserTrainer(people(), settings))
    inject(monkeypatch)
    same = equal(run(GraphedRecogniserTrainer(people(), settings)), eagerly)
    assert same == [True] * first + [False] * (len(PROGRESS) - first)


def test_a_share_that_stands_still_shows(tape: Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = wanted(**WAYS["adamw, cosface, eased"])
    eagerly = run(RecogniserTrainer(people(), settings))
    capture = GraphedRecogniserTrainer._capture

    def frozen(self: GraphedRecogniserTrainer, images: torch.Tensor, labels: torch.Tensor) -> Any:
        made = capture(self, images, labels)
        made.share = made.share.clone()
        return made

    monkeypatch.setattr(GraphedRecogniserTrainer, "_capture", frozen)
    assert not all(equal(run(GraphedRecogniserTrainer(people(), settings)), eagerly))


def test_a_restored_optimiser_is_captured_anew(tape: Tape) -> None:
    settings = wanted()
    eagerly = run(RecogniserTrainer(people(), settings))
    trainer = GraphedRecogniserTrainer(people(), settings)
    run(trainer, range(3))
    modules = {"recogniser": trainer.model, "head": trainer.head}
    optimisers = {"optimizer": trainer.optimizer, "head_optimizer": trainer.head_optimizer}
    state = {name: value.clone() for name, value in training_state(modules, optimisers).items()}
    run(trainer, range(3, 4))
    restore(state, modules, optimisers)
    found = run(trainer, range(3, 6))
    assert tape.recorded == 2
    assert all(equal(found, eagerly[3:]))


def test_a_training_goes_on_after_a_stop(tape: Tape, tmp_path: Path) -> None:
    """Stopped after four of six steps, and gone on with: the undisturbed training's weights."""
    whole = train_recogniser(people(), wanted(tmp_path / "whole"), say=lambda line: None)
    train_recogniser(
        people(), wanted(tmp_path / "cut", budget=Budget(steps=4), milestones=(0.9,)), say=lambda _: None
    )
    other = train_recogniser(people(), wanted(tmp_path / "two", milestones=(0.9,)), say=lambda line: None)
    again = train_recogniser(people(), wanted(tmp_path / "cut", milestones=(0.9,)), say=lambda line: None)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in other.state_dict().items())
    assert not torch.equal(whole.conv1.weight, other.conv1.weight)  # other rates: the comparison can fail


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dropout": 0.4}, "dropout"),
        ({"sample_rate": 0.5}, "sample_rate"),
        ({"fp16_amp": True, "bf16": False}, "fp16_amp"),
        ({"stepping": "graphs"}, "graph"),
    ],
)
def test_what_a_graph_cannot_hold_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        wanted(**changes)


def test_a_graph_needs_a_gpu_one_rank_and_its_settings() -> None:
    with pytest.raises(BackendUnavailable, match="needs a GPU"):
        open_trainer(people(), wanted())
    assert type(open_trainer(people(), wanted(stepping="eager"))) is RecogniserTrainer
    with pytest.raises(ConfigError, match="expects stepping='graph', found 'eager'"):
        GraphedRecogniserTrainer(people(), wanted(stepping="eager"))
    with pytest.raises(ConfigError, match="one rank"):
        GraphedRecogniserTrainer(people(), wanted(), Ranks(rank=0, world=2))


def test_the_eager_step_asks_the_device_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one rank the head takes all rows: no `nonzero`, whose size the host would wait for."""
    trainer = RecogniserTrainer(people(), wanted(stepping="eager"))
    monkeypatch.setattr(torch.Tensor, "nonzero", lambda self: pytest.fail("asked for a size"))
    assert np.isfinite(float(run(trainer, range(1))[0]["margin_softmax"]))
    assert recogniser.open_trainer is open_trainer
