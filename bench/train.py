"""Training in images/s, rung by rung, and which part of a step takes how much.

    python bench/train.py                                   CPU, mini size, into bench/results/cpu/train.*
    python bench/train.py --device cuda:0 --size base --batch 128
    python bench/train.py --only shares --profile           one step under nvtx ranges, for Nsight Systems
    python bench/train.py --only kernels --device cuda:0 --size base     kernel by kernel

Rungs: the step as the published code runs it (`published_training.py`) in fp32, in autocast, and in its own
precision; the same arithmetic corrected, bf16, our kernels, one CUDA graph, parts through torch.compile. All see
the same batch and start from the same weights; a rung's first losses must agree with the corrected fp32 rung's, or
its time is not told. Dropout is off in all of them: the plain backend draws its mask on the host, which would
flatter the fused one, and a graph must not hold random numbers.

Shares come from leaving terms out, one after the other: what a step gets cheaper by is what the part costs.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "kernels"), str(ROOT)]

import torch  # noqa: E402

from bench import protocol  # noqa: E402
from bench.published_training import PublishedLoop, PublishedTrainer  # noqa: E402
from bench.step_profile import Kernel, kernels_of  # noqa: E402
from bench.training_setup import SIZES, Size, pictures, published_start, recogniser_of, sized  # noqa: E402
from v2f_engine.models import bind_ops  # noqa: E402
from v2f_engine.train.distributed import Group  # noqa: E402
from v2f_engine.train.generator import (  # noqa: E402
    AsPublished,
    GeneratorTrainer,
    GeneratorTraining,
)
from v2f_engine.train.graphed import GraphedTrainer  # noqa: E402
from v2f_engine.train.losses import PRESETS  # noqa: E402

TOLERANCE = 0.03
"""Of a rung's first losses against fp32's: bf16 has 8 bits, and terms are means of many values."""
LATE = 0.9
"""Progress at which the discriminator runs (it enters at 80 %)."""


@dataclass(frozen=True)
class Rung:
    """A way to run the step.

    Args:
        name: as told.
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
        "published-2025", Path("unused"), model=size.model, batch=size.batch, critic_width=size.critic_width,
        bf16=rung.precision == "bf16", stepping=rung.stepping, device=device,
        as_published=AsPublished(critic_leak=rung.published, critic_always=rung.published), **changes,
    )  # fmt: skip
    kind: type[GeneratorTrainer] = GeneratorTrainer
    if rung.stepping == "graph":
        kind = GraphedTrainer
    elif rung.published:
        kind = PublishedLoop if rung.precision == "fp16" else PublishedTrainer
    trainer = kind(pictures(size.batch), recogniser_of(size, device), settings, Group(device=device))
    if not (rung.ours or rung.published):
        bind_ops(trainer.model, {})
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


def agree(found: Mapping[str, float], told: Mapping[str, float]) -> tuple[bool, str]:
    """Whether a rung computes what fp32 computes; a term that is not finite agrees with nothing."""
    wild = [name for name in told if not (math.isfinite(found[name]) and math.isfinite(told[name]))]
    if wild:
        return False, f"not finite: {', '.join(f'{n} {found[n]} (fp32: {told[n]})' for n in wild)}"
    off = {name: abs(found[name] - value) / max(abs(value), 1e-3) for name, value in told.items()}
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
    told = oracle(size, device, batch) if expected is None else expected
    with opened(trainer_of(rung, wanted, device)) as trainer:
        passed, words = agree(first_losses(trainer), told)
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
    tell: Callable[[list[protocol.Row], list[str]], object] = lambda rows, notes: None,
) -> tuple[list[protocol.Row], list[str]]:
    """(a row a rung, what could not run); `tell` hears both after each rung, and a rung that dies is a failed row."""
    size = sized(name, batch)
    rows: list[protocol.Row] = []
    notes: list[str] = []
    told = oracle(name, device, batch)
    for rung in chosen:
        if rung.gpu and device == "cpu":
            notes.append(f"training rung {rung.name}: needs a GPU")
            continue
        try:
            row = run_rung(rung.name, name, device, batch, rounds, budget_s / len(chosen), expected=told)
        except Exception as error:
            words = f"{type(error).__name__}: {str(error)[:200]}"
            row = protocol.Row("training step", f"{name}, batch {size.batch}", rung.name, False, words)
        rows.append(row)
        tell(rows, notes)
    return rows, notes


SHARES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("discriminator", {"gan": 0.0}),
    ("perceptual and recogniser", {"gan": 0.0, "perceptual": 0.0, "identity": 0.0}),
    ("ssim", {"gan": 0.0, "perceptual": 0.0, "identity": 0.0, "ssim": 0.0}),
)
"""Part -> weights without it, from the whole step down; what is left is the generator and its optimiser."""


def quickest(device: str) -> Rung:
    """The rung whose parts are worth knowing: the graph where there is a GPU, our kernels elsewhere."""
    return NAMED["5 our kernels" if device == "cpu" else "6 one CUDA graph"]


def shares(
    name: str, device: str, batch: int | None = None, *, rounds: int = 5, budget_s: float = 60.0
) -> list[protocol.Row]:
    """Seconds of each part of the quickest rung's step."""
    size, rung = sized(name, batch), quickest(device)
    weights = PRESETS["published-2025"]
    steps = [("the whole step", weights), *((part, replace(weights, **w)) for part, w in SHARES)]
    timings: list[protocol.Timing] = []
    for _, remaining in steps:
        with opened(trainer_of(rung, size, device, weights=remaining)) as trainer:
            timings.append(timed(stepper(trainer), device, rounds, budget_s / len(steps)))
    whole = timings[0].p50
    parts = [(part, timings[i].p50 - timings[i + 1].p50) for i, (part, _) in enumerate(SHARES)]
    parts.append(("generator and optimiser", timings[-1].p50))
    return [
        protocol.Row(
            "shares of a step", f"{name}, batch {size.batch}", part, True,
            f"{100 * seconds / whole:.0f} % of the step, by leaving it out",
            protocol.Timing(seconds, seconds, seconds, timings[0].rounds, timings[0].calls, "difference"),
        )
        for part, seconds in parts
        if seconds > 0
    ]  # fmt: skip


def step_profile(name: str, device: str, batch: int | None = None, rung: str | None = None) -> list[Kernel]:
    """The kernels of one step of a rung (the quickest where None), the longest first."""
    chosen = quickest(device) if rung is None else rung_named(rung)
    with opened(trainer_of(chosen, sized(name, batch), device)) as trainer:
        return kernels_of(stepper(trainer), device)


def kernel_table(kernels: list[Kernel], top: int = 30) -> str:
    """Markdown of the longest kernels, and of the rest together."""
    lines = ["| kernel | launches a step | us a step | share |", "|---|---:|---:|---:|"]
    lines += [
        f"| {k.name[:90]} | {k.launches:g} | {k.us:.1f} | {100 * k.share:.1f} % |" for k in kernels[:top]
    ]
    rest = kernels[top:]
    lines.append(
        f"| {len(rest)} others | {sum(k.launches for k in rest):g} | {sum(k.us for k in rest):.1f} |"
        f" {100 * sum(k.share for k in rest):.1f} % |"
    )
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=tuple(SIZES), default="mini")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=("rungs", "shares", "kernels"))
    parser.add_argument("--rung", choices=tuple(NAMED), help="with --only rungs or kernels: this one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--budget", type=float, default=120.0, help="seconds of each section")
    parser.add_argument("--profile", action="store_true", help="one step under cudaProfilerApi and nvtx")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "cpu")
    o = parser.parse_args(arguments)
    if o.profile:
        return profile(o.size, o.device)
    if o.only == "kernels":
        kernels = step_profile(o.size, o.device, o.batch, o.rung)
        print(kernel_table(kernels))
        return 0
    report = protocol.Report("Training step", protocol.environment(o.device))
    if o.only in (None, "rungs"):
        chosen = (NAMED[o.rung],) if o.rung else RUNGS
        rows, notes = rungs(
            o.size, o.device, batch=o.batch, rounds=o.rounds, budget_s=o.budget, chosen=chosen
        )
        report.rows += rows
        report.notes += notes
    if o.only in (None, "shares"):
        report.rows += shares(o.size, o.device, o.batch, rounds=o.rounds, budget_s=o.budget)
    report.write(o.out, "train")
    print(report.as_markdown())
    return 1 if report.failures else 0


def profile(name: str, device: str) -> int:
    """`nsys profile --capture-range=cudaProfilerApi python bench/train.py --profile --device cuda:0`."""
    with opened(trainer_of(NAMED["5 our kernels"], SIZES[name], device)) as trainer:
        for number in range(3):
            trainer.step(number, LATE)
        if device != "cpu":
            torch.cuda.synchronize()
            torch.cuda.cudart().cudaProfilerStart()
        trainer.step(3, LATE)
        if device != "cpu":
            torch.cuda.synchronize()
            torch.cuda.cudart().cudaProfilerStop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
