"""What a capture does to a training, on a CPU: the graph is imitated operator by operator (`tape.py`)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from graph_replay import FAULTS, GRAPHS, PROGRESS, Run, distances, equal_steps, excess, opened, run, wanted
from tape import NotCapturable, Tape
from train_harness import people, settings, small_recogniser

from v2f_engine.errors import BackendUnavailable, ConfigError
from v2f_engine.train import graphed
from v2f_engine.train.checkpoint import restore, training_state
from v2f_engine.train.emulated import bf16_here
from v2f_engine.train.generator import GeneratorTrainer
from v2f_engine.train.graphed import GraphedTrainer


@pytest.fixture
def tape(monkeypatch: pytest.MonkeyPatch) -> Tape:
    """Graphs of this test are recorded here."""
    made = Tape()
    monkeypatch.setattr(graphed, "open_recorder", lambda device: made)
    return made


@pytest.fixture(scope="module")
def eager() -> Run:
    """bf16, because oneDNN's fp32 weight gradient of the discriminator's 15x15 convolution is slow."""
    return run(opened(GeneratorTrainer, wanted(bf16=True)))


def test_replays_give_the_eager_trainers_weights_bit_for_bit(tape: Tape, eager: Run) -> None:
    found = run(opened(GraphedTrainer, wanted(bf16=True)))
    assert (tape.recorded, tape.replays) == (GRAPHS, len(PROGRESS))
    assert all(equal_steps(found, eager))
    assert found.terms == eager.terms
    assert any(name.startswith("ema/") for name in found.start)


FIRST, *OTHERS = FAULTS
EMULATED = [] if bf16_here("cpu") else [pytest.mark.slow]
"""Without bf16 in hardware each fault takes 40 s of a core."""


@pytest.mark.parametrize("fault", [FIRST, *(pytest.param(one, marks=EMULATED) for one in OTHERS)])
def test_a_fault_shows_in_the_weights(
    fault: str, tape: Tape, eager: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject, first = FAULTS[fault]
    inject(monkeypatch)
    equal = equal_steps(run(opened(GraphedTrainer, wanted(bf16=True))), eager)
    assert equal[:first] == [True] * first
    assert not any(equal[first:])


def test_accumulated_parts_in_fp32(tape: Tape) -> None:
    eagerly_made, found = (
        run(opened(kind, wanted(accumulate=2)), steps=5) for kind in (GeneratorTrainer, GraphedTrainer)
    )
    assert all(equal_steps(found, eagerly_made))
    assert found.terms == eagerly_made.terms


@pytest.mark.slow
def test_the_judgement_on_a_gpu_tells_faults_from_rounding(
    tape: Tape, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of tests/gpu/test_gpu_training.py: a third twin passes it, every fault fails it."""
    eagerly_made = run(opened(GeneratorTrainer, wanted()))
    first, second, third = (
        distances(run(opened(GeneratorTrainer, wanted()), nudged=seed), eagerly_made) for seed in (1, 2, 3)
    )
    assert max(excess(third, [first, second]))[0] < 0.5
    for name, (inject, step) in FAULTS.items():
        with monkeypatch.context() as patch:
            inject(patch)
            found = distances(run(opened(GraphedTrainer, wanted())), eagerly_made)
        worst = max(excess(found, [first, second])[step:])
        print(f"{name}: {worst}")
        assert worst[0] > 2, (name, worst)


def test_a_restored_optimiser_is_captured_anew(tape: Tape, eager: Run) -> None:
    """Its slots are other tensors than those that the graphs so far hold."""
    trainer = opened(GraphedTrainer, wanted(bf16=True))
    for number in range(3):
        trainer.step(number, PROGRESS[number])
    state = {
        name: value.clone() for name, value in training_state(trainer.modules(), trainer.optimizers()).items()
    }
    trainer.step(3, PROGRESS[3])
    restore(state, trainer.modules(), trainer.optimizers())
    trainer.step(3, PROGRESS[3])
    trainer.batches.close()
    assert tape.recorded == 3
    assert all(
        torch.equal(value, eager.weights[3][f"generator/{name}"])
        for name, value in trainer.model.named_parameters()
    )


def test_what_a_graph_cannot_hold_is_refused() -> None:
    with pytest.raises(NotCapturable, match="asked the device"):
        Tape().record(lambda: {"x": torch.ones(1) * float(torch.ones(1))})
    with pytest.raises(NotCapturable, match="random"):
        Tape().record(lambda: {"x": torch.rand(1)})


def test_a_graph_needs_a_gpu_and_optimisers_that_can_be_captured() -> None:
    with pytest.raises(BackendUnavailable, match="needs a GPU"):
        GraphedTrainer(people(), small_recogniser(), wanted())
    eagerly = dataclasses.replace(settings(Path("unused")), shift=0)
    with pytest.raises(ConfigError, match="expects stepping='graph', found 'eager'"):
        GraphedTrainer(people(), small_recogniser(), eagerly)
