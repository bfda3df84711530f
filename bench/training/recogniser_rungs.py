"""A recogniser's training in images/s, rung by rung: SE-IResNet50 of the published recipe, 10,000 people, one card.

    python -m bench.training.recogniser_rungs                          CPU, a small network: proves the plumbing
    python -m bench.training.recogniser_rungs --device cuda:0 --out bench/results/<gpu>

Every rung sees the same batch and starts from the same weights; its first loss must agree with fp32's. Reading and
augmentation are left out (`bench.cpu.reading` has them); dropout is off in all rungs, since a graph must not hold
random numbers.

Predicted for batch 128 on an H200 as one graph, unmeasured (`python -m bench.training.trace --trainer recogniser`):
4.84 TFLOP of products, 9.0 ms at 690 TFLOP/s forward, 640 for gradients of maps, 490 for those of weights. 78 norms,
each with the PReLU or the residual behind it, write 8.7 M values an image in bf16; forward they read x twice and write
once, back they read x and its gradient twice and write once, 18.7 GB with what joins: 7.0 ms at 3.3 TB/s, 2.2 where
sums are made. Clipping and SGD 0.5 ms, head 0.3, casts, gates, image and the rest 1.0. In all 17.8 ms, 7,200 images/s,
829 kernels; 25.8 ms with torch's norms and single casts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import machine, protocol
from bench.training.rungs import agree, timed
from bench.training.setup import pictures
from v2f_engine.data.training.memory_set import MemorySet
from v2f_engine.models.iresnet import IResNetConfig
from v2f_engine.train.recogniser import RecogniserTraining, open_trainer
from v2f_engine.train.recogniser_step import RecogniserTrainer

SECTION = "recogniser step"
PEOPLE = 10_000


@dataclass(frozen=True)
class Rung:
    """A way to run the step: its name, what the settings say, and whether it needs a GPU."""

    name: str
    changes: Mapping[str, Any]
    gpu: bool = False


RUNGS = (
    Rung("1 fp32", {"bf16": False}),
    Rung("2 published: fp16, scaler", {"bf16": False, "fp16_amp": True}),
    Rung("3 bf16", {}),
    Rung("4 one CUDA graph", {"stepping": "graph"}, gpu=True),
)
ORACLE, BASELINE = RUNGS[0], RUNGS[1].name
SIZES = {
    "tiny": (IResNetConfig((1, 1, 1, 1), (16, 16, 32, 32), stem_stride=4, se=True), 10, 4),
    "published": (IResNetConfig.named("iresnet50", se=True), PEOPLE, 128),
}
"""Network, people, batch."""


def data_of(people: int, rows: int) -> MemorySet:
    """As many pictures as a batch has, of people spread over all classes."""
    labels = np.linspace(0, people - 1, rows).astype(np.int64)
    return MemorySet(pictures(rows).images, labels)


def trainer_of(rung: Rung, size: str, device: str, batch: int | None = None) -> RecogniserTrainer:
    """A trainer as the rung says; weights, pictures and labels are the same for every rung."""
    model, people, rows = SIZES[size]
    rows = batch or rows
    settings = RecogniserTraining.named(
        "mended", Path("unused"), model=model, batch=rows, device=device, augment="none", **rung.changes
    )
    return open_trainer(data_of(people, rows), settings)


def stepper(trainer: RecogniserTrainer) -> Callable[[], dict[str, torch.Tensor]]:
    """The same batch again and again, on the device already."""
    rows = trainer.rows(0)
    images, labels, keys = trainer.prepare(0, trainer.data.read(rows))
    batch = (images.to(trainer.device), labels.to(trainer.device), keys)
    return lambda: trainer.step(batch, 0, 0.5)


def first_loss(trainer: RecogniserTrainer) -> dict[str, float]:
    return {"margin_softmax": float(stepper(trainer)()["margin_softmax"].detach())}


def run_rung(
    rung: Rung,
    size: str,
    device: str,
    batch: int | None,
    expected: Mapping[str, float],
    rounds: int,
    budget_s: float,
) -> protocol.Row:
    """One rung, alone: its first loss judged, then its step timed."""
    trainer = trainer_of(rung, size, device, batch)
    passed, words = agree(first_loss(trainer), expected)
    timing = timed(stepper(trainer), device, rounds, budget_s)
    rows = trainer.settings.batch
    return protocol.Row(
        SECTION, f"{size}, batch {rows}", rung.name, passed, words, timing, items=rows, baseline=BASELINE
    )


def run(
    size: str,
    device: str,
    *,
    batch: int | None = None,
    rounds: int = 5,
    budget_s: float = 20.0,
    on_row: Callable[[protocol.Row], object] = lambda row: None,
) -> tuple[list[protocol.Row], list[str]]:
    """(a row a rung, what could not run); a rung that dies is a failed row."""
    rows: list[protocol.Row] = []
    notes: list[str] = []
    expected = first_loss(trainer_of(ORACLE, size, device, batch))
    for rung in RUNGS:
        if rung.gpu and device == "cpu":
            notes.append(f"recogniser rung {rung.name}: needs a GPU")
            continue
        try:
            row = run_rung(rung, size, device, batch, expected, rounds, budget_s / len(RUNGS))
        except Exception as error:
            words = f"{type(error).__name__}: {str(error)[:200]}"
            row = protocol.Row(SECTION, f"{size}, batch {batch or SIZES[size][2]}", rung.name, False, words)
        if device != "cpu":
            torch.cuda.empty_cache()
        rows.append(row)
        on_row(row)
    return rows, notes


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", choices=tuple(SIZES), help="published on a GPU, tiny on a CPU by default")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--budget", type=float, default=20.0, help="seconds of timing")
    parser.add_argument("--out", type=Path, help="folder for recogniser_step.json and .md")
    o = parser.parse_args(arguments)
    report = protocol.Report("A recogniser's step", machine.environment(o.device))
    size = o.size or ("tiny" if o.device == "cpu" else "published")
    report.rows, report.notes = run(size, o.device, batch=o.batch, budget_s=o.budget)
    print(report.as_markdown())
    if o.out:
        report.write(o.out, "recogniser_step")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
