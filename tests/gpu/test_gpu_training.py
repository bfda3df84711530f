"""On a GPU: the step as a CUDA graph trains as the eager step does, and neither waits for the device."""

import dataclasses
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "train"))
from train_harness import eye, people, settings

from v2f_engine.train.generator import GeneratorTrainer, GeneratorTraining
from v2f_engine.train.graphed import GraphedTrainer

pytestmark = pytest.mark.gpu


def _wanted(**changes: object) -> GeneratorTraining:
    return dataclasses.replace(settings(Path("unused"), batch=4), device="cuda:0", shift=0, **changes)


def test_a_captured_step_trains_as_the_eager_one() -> None:
    losses = {}
    for name, trainer in (
        ("eager", GeneratorTrainer(people(), eye(), _wanted())),
        ("graph", GraphedTrainer(people(), eye(), _wanted(stepping="graph"))),
    ):
        # Two mask schedules, with and without discriminator: four graphs, each used twice.
        terms = [trainer.step(n, 0.1 if n < 4 else 0.9)[0] for n in range(8)]
        losses[name] = [{k: float(v) for k, v in t.items()} for t in terms]
        trainer.batches.close()
    for one, other in zip(losses["eager"], losses["graph"], strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert other[name] == pytest.approx(value, rel=0.05), name


def test_a_step_does_not_wait_for_the_device() -> None:
    trainer = GeneratorTrainer(people(), eye(), _wanted())
    for number in range(3):
        trainer.step(number, 0.9)
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.step(3, 0.9)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        trainer.batches.close()
