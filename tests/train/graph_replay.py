"""Graphed against eager training, step by step, for CPUs (with `tape.Tape`) and GPUs: what differs, and by how much.

Two trainers with the same arithmetic need not end at the same weights: AdamW's first steps are nearly the sign of
the gradient, so an element whose gradient is rounding noise moves by a whole rate one way or the other. How much
that makes is measured, not guessed: `nudged` twins run the same eager steps with every weight moved by its last
bit before each. A tensor's distance is the median over its elements of the difference, relative to the median move
since the start. Rounding reaches few elements, so the median hardly sees it; a slot
that is not restored, or a rate that stands still, reaches all of a tensor (0.17 to 25 on some tensor).
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from train_harness import people, settings, small_recogniser

from v2f_engine.train import generator_step
from v2f_engine.train.generator import GeneratorTrainer, GeneratorTraining
from v2f_engine.train.graphed import GraphedTrainer

sys.path.append(str(Path(__file__).parents[2]))
from bench.training.setup import published_start

PROGRESS = (0.02, 0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.9)
"""Another rate at every step; two mask schedules in turn, the discriminator from 0.4: four graphs, each used twice."""
GRAPHS = 4
RATE = 0.005
"""With Xavier's start the loss is smooth at this rate: the last bit of the weights moves the gradient's norm by 6e-5
in eight steps. At 0.02 from N(0, 0.02) it moves it by 12 %, in bf16 by 61 %."""
TIMES, LEAST = 8.0, 0.01
"""A graph's distance may be so many times the twins' at that tensor and step; below `LEAST` it always may be."""
STILL = 1e-4
"""Share of a weight that counts as its move where it does not move (the critic before its start): 1,700 last bits."""

Weights = dict[str, torch.Tensor]
Distances = list[dict[str, float]]


def wanted(device: str = "cpu", *, bf16: bool = False, accumulate: int = 1) -> GeneratorTraining:
    """Settings whose optimisers can be captured: the eager trainer gets the same ones."""
    return dataclasses.replace(
        settings(Path("unused"), batch=4, bf16=bf16, accumulate=accumulate),
        shift=0, stepping="graph", critic_lr=None, base_lr=RATE, device=device,
    )  # fmt: skip


def opened(kind: type[GeneratorTrainer], wanted: GeneratorTraining) -> GeneratorTrainer:
    trainer = kind(people(), small_recogniser(), wanted)
    published_start(trainer.model)
    return trainer


@dataclasses.dataclass
class Run:
    """Weights at the start and after every step; terms of every step."""

    start: Weights
    weights: list[Weights]
    terms: list[dict[str, float]]


def weights_of(trainer: GeneratorTrainer) -> Weights:
    return {
        f"{name}/{key}": value.detach().clone()
        for name, module in trainer.modules().items()
        for key, value in module.named_parameters()
    }


@torch.no_grad()
def _nudge(trainer: GeneratorTrainer, generator: torch.Generator) -> None:
    for module in (trainer.model, trainer.critic):
        for parameter in module.parameters():
            up = (torch.rand(parameter.shape, generator=generator) < 0.5).to(parameter.device)
            towards = torch.where(up, torch.inf, -torch.inf).to(parameter.dtype)
            parameter.copy_(torch.nextafter(parameter, towards))


def run(trainer: GeneratorTrainer, *, steps: int = len(PROGRESS), nudged: int | None = None) -> Run:
    """The first steps; with every weight moved by its last bit before each where `nudged` is a seed."""
    made = Run(weights_of(trainer), [], [])
    generator = torch.Generator().manual_seed(nudged or 0)
    try:
        for number, progress in enumerate(PROGRESS[:steps]):
            if nudged is not None:
                _nudge(trainer, generator)
            terms, _ = trainer.step(number, progress)
            made.terms.append({name: float(value) for name, value in terms.items()})
            made.weights.append(weights_of(trainer))
    finally:
        trainer.batches.close()
    return made


def equal_steps(one: Run, other: Run) -> list[bool]:
    """Of each step, whether all weights are the same bits."""
    return [
        all(torch.equal(value, b[name]) for name, value in a.items())
        for a, b in zip(one.weights, other.weights, strict=True)
    ]


def distances(found: Run, other: Run) -> Distances:
    """By step and tensor; see the notes on this module. Averages are left out: they follow the weights."""
    return [
        {
            name: _median(own[name] - value)
            / (_median(value - other.start[name]) + STILL * _median(value) + 1e-12)
            for name, value in step.items()
            if not name.startswith("ema/")
        }
        for own, step in zip(found.weights, other.weights, strict=True)
    ]


def _median(values: torch.Tensor) -> float:
    return float(values.double().abs().median())


def excess(found: Distances, twins: list[Distances]) -> list[tuple[float, str]]:
    """Of each step, the worst distance over what is allowed there, and whose: above 1 it is no rounding."""
    worst = []
    for step, own in enumerate(found):
        over = {
            name: value / max(TIMES * max(twin[step][name] for twin in twins), LEAST)
            for name, value in own.items()
        }
        name = max(over, key=lambda n: over[n])
        worst.append((over[name], name))
    return worst


def _forget(forgotten: Callable[[str], bool]) -> Callable[[pytest.MonkeyPatch], None]:
    def inject(patch: pytest.MonkeyPatch) -> None:
        changed = GraphedTrainer.changed
        patch.setattr(
            GraphedTrainer,
            "changed",
            lambda self: {name: t for name, t in changed(self).items() if not forgotten(name)},
        )

    return inject


def _rate_in_python(patch: pytest.MonkeyPatch) -> None:
    """Optimisers that can be captured, but whose rate is a Python float: a graph keeps that of its capture."""
    adamw = generator_step.adamw

    def plain(modules, lr, weight_decay, *, capturable=False, decay_all=False):  # type: ignore[no-untyped-def]
        made = adamw(modules, lr, weight_decay, capturable=capturable, decay_all=decay_all)
        groups = [{"params": g["params"], "weight_decay": g["weight_decay"]} for g in made.param_groups]
        return torch.optim.AdamW(groups, lr=lr, betas=made.defaults["betas"], fused=True, capturable=True)

    patch.setattr(generator_step, "adamw", plain)
    rounded = (
        generator_step.set_lr
    )  # as the device would have it, so that standing still is all that is wrong
    patch.setattr(generator_step, "set_lr", lambda made, lr: rounded(made, float(torch.tensor(lr))))


FAULTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], int]] = {
    "one slot not restored": (_forget(lambda name: name == "optimizer/40/exp_avg_sq"), 0),
    "step counters not restored": (_forget(lambda name: name.endswith("/step")), 0),
    "the critic's slots not restored": (_forget(lambda name: name.startswith("critic_optimizer/")), 4),
    "one weight not restored": (_forget(lambda name: name == "generator/im_decoder.conv_out.weight"), 0),
    "rate not on the device": (_rate_in_python, 2),
}
"""What is injected, and the first step whose weights it changes."""
