"""The rungs of training: ways to run the step, each judged by the corrected fp32 rung's first losses, then timed."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench import protocol
from bench.training.published import PublishedLoop, PublishedTrainer
from bench.training.setup import Size, pictures, published_start, recogniser_of, sized
from v2f_engine.backends import function
from v2f_engine.models import bind_ops
from v2f_engine.train.distributed import Ranks
from v2f_engine.train.generator import AsPublished, GeneratorTrainer, GeneratorTraining
from v2f_engine.train.graphed import GraphedTrainer

TOLERANCE = 0.03
"""Of a rung's first losses against fp32's: bf16 has 8 bits, and terms are means of many values."""
LATE = 0.9
"""Progress at which the discriminator runs (it enters at 80 %)."""


@dataclass(frozen=True)
class Rung:
    """A way to run the step.

    Args:
        name: as printed.
        published: as the published code runs it.
        precision: `fp32`; `bf16` by autocast; `fp16` by the published loop's autocast and gradient scaler.
        ours: our kernels (on a CPU, the quick forms); plain torch ops otherwise.
        stepping: of `GeneratorTraining`.
        gpu: needs one.
    """

    name: str
    published: bool = False
    precision: str = "fp32"
    ours: bool = False
    stepping: str = "eager"
    gpu: bool = False

    def __post_init__(self) -> None:
        if self.precision not in ("fp32", "bf16", "fp16") or (
            self.precision == "fp16" and not self.published
        ):
            raise ValueError(f"{self.name}: fp16 belongs to the published loop, found {self.precision}")


RUNGS = (
    Rung("1 as published, fp32", published=True),
    Rung("2 as published, autocast", published=True, precision="bf16"),
    Rung("2b published loop: fp16, scaler, fp32 blocks", published=True, precision="fp16"),
    Rung("3 corrected, fp32"),
    Rung("4 bf16", precision="bf16"),
    Rung("5 our kernels", precision="bf16", ours=True),
    Rung("6 one CUDA graph", precision="bf16", ours=True, stepping="graph", gpu=True),
    Rung("7 convolutions compiled", precision="bf16", ours=True, stepping="compiled", gpu=True),
)
NAMED: Mapping[str, Rung] = {rung.name: rung for rung in RUNGS}
ORACLE = "3 corrected, fp32"
"""Losses are judged by this rung's."""


def baseline(device: str) -> str:
    """Speed-ups are quoted against the published loop; on a CPU, whose fp16 is emulated, against rung 2's bf16."""
    return RUNGS[1].name if device == "cpu" else RUNGS[2].name


def rung_named(name: str) -> Rung:
    """Raises KeyError for a name nobody knows."""
    if name not in NAMED:
        raise KeyError(f"training rung {name!r} is not known. Known: {', '.join(NAMED)}.")
    return NAMED[name]


def trainer_of(rung: Rung, size: Size, device: str, **changes: Any) -> GeneratorTrainer:
    """A trainer as the rung says; weights, data and masks are the same for every rung."""
    settings = GeneratorTraining.named(
        "mended-2025", Path("unused"), model=size.model, batch=size.batch, critic_width=size.critic_width,
        perceptual="recogniser",
        bf16=rung.precision == "bf16", stepping=rung.stepping, device=device,
        as_published=AsPublished(critic_leak=rung.published, critic_always=rung.published), **changes,
    )  # fmt: skip
    kind: type[GeneratorTrainer] = GeneratorTrainer
    if rung.stepping == "graph":
        kind = GraphedTrainer
    elif rung.published:
        kind = PublishedLoop if rung.precision == "fp16" else PublishedTrainer
    trainer = kind(pictures(size.batch), recogniser_of(size, device), settings, Ranks(device=device))
    if not (rung.ours or rung.published):
        for module in (trainer.model, trainer.critic):
            bind_ops(module, {})
        trainer.ssim = function("ssim", "torch")
        trainer.view = trainer.view_by(trainer.judge)
    published_start(trainer.model)
    return trainer


@contextmanager
def opened(trainer: GeneratorTrainer) -> Iterator[GeneratorTrainer]:
    try:
        yield trainer
    finally:
        trainer.batches.close()


def timed(step: Callable[[], object], device: str, rounds: int, budget_s: float) -> protocol.Timing:
    """Seconds of a step, the device waited for at both ends, after warm-up.

    On one thread of a CPU they are seconds of that thread's time, which other work on the machine does not change.
    """
    alone = device == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter

    def wait() -> None:
        if device != "cpu":
            torch.cuda.synchronize(torch.device(device))

    for _ in range(1 if device == "cpu" else 3):
        step()
    seconds: list[float] = []
    end = time.perf_counter() + budget_s
    calls = 1 if device == "cpu" else 5  # steps run on without waiting for each other, as in training
    while len(seconds) < rounds and (time.perf_counter() < end or not seconds):
        wait()
        start = clock()
        for _ in range(calls):
            step()
        wait()
        seconds.append((clock() - start) / calls)
    return protocol.Timing.of(seconds, calls, clock.__name__)


def stepper(trainer: GeneratorTrainer, first: int = 0) -> Callable[[], object]:
    """The trainer's late steps, one a call, numbered from `first`."""
    numbers = itertools.count(first)
    return lambda: trainer.step(next(numbers), LATE)


def oracle(size: str, device: str, batch: int | None = None) -> dict[str, float]:
    """Loss terms of the corrected fp32 rung's first step: plain numbers, to be handed to other processes as JSON."""
    with opened(trainer_of(NAMED[ORACLE], sized(size, batch), device)) as trainer:
        return first_losses(trainer)


def first_losses(trainer: GeneratorTrainer) -> dict[str, float]:
    """Loss terms of a trainer's first step, discriminator and all."""
    terms, _ = trainer.step(0, LATE)
    return {name: float(value) for name, value in terms.items() if name != "gradient"}


def agree(found: Mapping[str, float], expected: Mapping[str, float]) -> tuple[bool, str]:
    """Whether a rung computes what fp32 computes; a term that is not finite agrees with nothing."""
    wild = [name for name in expected if not (math.isfinite(found[name]) and math.isfinite(expected[name]))]
    if wild:
        return False, f"not finite: {', '.join(f'{n} {found[n]} (fp32: {expected[n]})' for n in wild)}"
    off = {name: abs(found[name] - value) / max(abs(value), 1e-3) for name, value in expected.items()}
    worst = max(off, key=lambda name: off[name])
    return off[worst] <= TOLERANCE, f"loss terms within {100 * off[worst]:.2f} % of fp32's ({worst})"


def run_rung(
    name: str,
    size: str,
    device: str,
    batch: int | None = None,
    rounds: int = 5,
    budget_s: float = 20.0,
    *,
    expected: Mapping[str, float] | None = None,
) -> protocol.Row:
    """One rung, alone: its first losses judged, then its step timed with the same trainer.

    Args:
        name: of a rung in `RUNGS`.
        size: `tiny`, `mini` or `base`.
        device: `cpu` or a CUDA device.
        batch: images a step; the size's own where None.
        rounds, budget_s: at most so many rounds, and seconds of timing.
        expected: what `oracle` gave for this size and batch, from this process or another; computed where None.

    Raises:
        KeyError: a rung or size nobody knows.
        Exception: whatever the rung dies of; the caller decides what that costs.
    """
    rung, wanted = rung_named(name), sized(size, batch)
    reference = oracle(size, device, batch) if expected is None else expected
    with opened(trainer_of(rung, wanted, device)) as trainer:
        passed, words = agree(first_losses(trainer), reference)
        timing = timed(stepper(trainer, 1), device, rounds, budget_s)
    return protocol.Row(
        "training step", f"{size}, batch {wanted.batch}", name, passed, words, timing,
        items=wanted.batch, baseline=baseline(device),
    )  # fmt: skip


def rungs(
    name: str,
    device: str,
    *,
    batch: int | None = None,
    rounds: int = 5,
    budget_s: float = 60.0,
    chosen: tuple[Rung, ...] = RUNGS,
    on_row: Callable[[list[protocol.Row], list[str]], object] = lambda rows, notes: None,
) -> tuple[list[protocol.Row], list[str]]:
    """(a row a rung, what could not run); `on_row` gets both after each rung, and a rung that dies is a failed row."""
    size = sized(name, batch)
    rows: list[protocol.Row] = []
    notes: list[str] = []
    reference = oracle(name, device, batch)
    for rung in chosen:
        if rung.gpu and device == "cpu":
            notes.append(f"training rung {rung.name}: needs a GPU")
            continue
        try:
            row = run_rung(rung.name, name, device, batch, rounds, budget_s / len(chosen), expected=reference)
        except Exception as error:
            words = f"{type(error).__name__}: {str(error)[:200]}"
            row = protocol.Row("training step", f"{name}, batch {size.batch}", rung.name, False, words)
        rows.append(row)
        on_row(rows, notes)
    return rows, notes
