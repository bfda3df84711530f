"""Training in images/s, rung by rung, and which part of a step takes how much.

    python bench/train.py                                   CPU, mini size, into bench/results/cpu/train.*
    python bench/train.py --device cuda:0 --size base       on a GPU: what `make gpu` runs as its training section
    python bench/train.py --only shares --profile           one step under nvtx ranges, for Nsight Systems

Rungs: the step as the published code runs it (anomaly mode, `.item()` of every term, weight gradients of frozen
networks, NCHW, discriminator with leaking gradients), the same arithmetic corrected, bf16, our kernels, parts
through torch.compile, one CUDA graph. All see the same batch and start from the same weights; a rung's first
losses must agree with the corrected fp32 rung's, or its time is not told. Dropout is off in all of them: the plain
backend draws its mask on the host, which would flatter the fused one, and a graph must not hold random numbers.

Shares come from leaving terms out, one after the other: what a step gets cheaper by is what the part costs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "kernels"), str(ROOT)]

import numpy as np  # noqa: E402
import torch  # noqa: E402

from bench import protocol  # noqa: E402
from v2f_engine.data.training_set import MemorySet  # noqa: E402
from v2f_engine.models import bind_ops  # noqa: E402
from v2f_engine.models.iresnet import IResNet, IResNetConfig  # noqa: E402
from v2f_engine.models.vec2face import Vec2FaceConfig  # noqa: E402
from v2f_engine.train.distributed import Group  # noqa: E402
from v2f_engine.train.generator import (  # noqa: E402
    AsPublished,
    GeneratorTrainer,
    GeneratorTraining,
)
from v2f_engine.train.generator_step import Terms  # noqa: E402
from v2f_engine.train.losses import PRESETS  # noqa: E402

TOLERANCE = 0.03
"""Of a rung's first losses against fp32's: bf16 has 8 bits, and terms are means of many values."""
LATE, EARLY = 0.9, 0.1
"""Progress with and without the discriminator (it enters at 80 %)."""


@dataclass(frozen=True)
class Size:
    """What is trained, and with which frozen recogniser."""

    model: Vec2FaceConfig
    recogniser: IResNetConfig
    critic_width: int
    batch: int


SIZES = {
    "tiny": Size(
        Vec2FaceConfig(32, 1, 2, 1, 2, 8, 4, (1, 1, 1, 2, 2), 1, 4, 0.0),
        IResNetConfig((1, 1, 1, 1), (8, 16, 16, 16), stem_stride=4), 8, 2,
    ),
    "mini": Size(
        Vec2FaceConfig.mini(), IResNetConfig((1, 2, 2, 1), (32, 64, 128, 256), stem_stride=2), 16, 8
    ),
    "base": Size(replace(Vec2FaceConfig.base(), dropout=0.0), IResNetConfig.named("iresnet100"), 64, 32),
}  # fmt: skip


@dataclass(frozen=True)
class Rung:
    """A way to run the step.

    Args:
        name: as told.
        published: as the published code runs it.
        bf16: autocast.
        ours: our kernels (on a CPU, the quick forms); plain torch ops otherwise.
        stepping: of `GeneratorTraining`.
        gpu: needs one.
    """

    name: str
    published: bool = False
    bf16: bool = False
    ours: bool = False
    stepping: str = "eager"
    gpu: bool = False


RUNGS = (
    Rung("1 as published, fp32", published=True),
    Rung("2 as published, autocast", published=True, bf16=True),
    Rung("3 corrected, fp32"),
    Rung("4 bf16", bf16=True),
    Rung("5 our kernels", bf16=True, ours=True),
    Rung("6 one CUDA graph", bf16=True, ours=True, stepping="graph", gpu=True),
    Rung("7 convolutions compiled", bf16=True, ours=True, stepping="compiled", gpu=True),
)
BASELINE, ORACLE = RUNGS[1].name, RUNGS[2].name
"""Speed-ups are quoted against the published way with its own mixed precision; losses are judged by fp32's."""


class PublishedTrainer(GeneratorTrainer):
    """The waste of the published step put back in; see the notes on this module."""

    def step(self, number: int, progress: float) -> tuple[Terms, str]:
        self.view.recogniser.recogniser.requires_grad_(True)
        with torch.autograd.set_detect_anomaly(True):
            terms, keys = super().step(number, progress)
        for value in terms.values():
            value.item()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return terms, keys


def trainer_of(rung: Rung, size: Size, device: str, **changes: Any) -> GeneratorTrainer:
    """A trainer as the rung says; weights, data and masks are the same for every rung."""
    draw = np.random.default_rng(0)
    rows = size.batch
    data = MemorySet(
        draw.integers(0, 256, (rows, 112, 112, 3), dtype=np.uint8),
        np.arange(rows, dtype=np.int64),
        draw.standard_normal((rows, 512), dtype=np.float32),
    )
    torch.manual_seed(0)
    recogniser = IResNet(size.recogniser).eval()
    settings = GeneratorTraining.named(
        "published-2025", Path("unused"), model=size.model, batch=rows, critic_width=size.critic_width,
        bf16=rung.bf16, stepping=rung.stepping, device=device,
        as_published=AsPublished(critic_leak=rung.published, critic_always=rung.published), **changes,
    )  # fmt: skip
    group = Group(device=device)
    if rung.stepping == "graph":
        from v2f_engine.train.graphed import GraphedTrainer

        return GraphedTrainer(data, recogniser, settings, group)
    kind = PublishedTrainer if rung.published else GeneratorTrainer
    trainer = kind(data, recogniser, settings, group)
    if not rung.ours:
        bind_ops(trainer.model, {})
    if rung.published:
        for module in (trainer.model, trainer.critic, trainer.view):
            module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
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
    seconds, end = [], time.perf_counter() + budget_s
    calls = 1 if device == "cpu" else 5  # steps run on without waiting for each other, as in training
    while len(seconds) < rounds and (time.perf_counter() < end or not seconds):
        wait()
        start = clock()
        for _ in range(calls):
            step()
        wait()
        seconds.append((clock() - start) / calls)
    return protocol.Timing.of(seconds, calls, clock.__name__)


def rungs(
    name: str,
    device: str,
    *,
    rounds: int = 5,
    budget_s: float = 60.0,
    chosen: tuple[Rung, ...] = RUNGS,
    tell: Callable[[list[protocol.Row], list[str]], object] = lambda rows, notes: None,
) -> tuple[list[protocol.Row], list[str]]:
    """(a row a rung, what could not run); `tell` hears both after each rung."""
    size, rows, notes = SIZES[name], [], []
    told = losses_of(RUNGS[2], size, device)
    for rung in chosen:
        if rung.gpu and device == "cpu":
            notes.append(f"training rung {rung.name}: needs a GPU")
            continue
        timing: protocol.Timing | None = None
        try:
            passed, words = agree(losses_of(rung, size, device), told)
            with opened(trainer_of(rung, size, device)) as trainer:
                numbers = iter(range(1 << 30))
                timing = timed(
                    lambda t=trainer, n=numbers: t.step(next(n), LATE), device, rounds, budget_s / len(chosen)
                )
        except Exception as error:
            passed, words = False, f"{type(error).__name__}: {str(error)[:200]}"
        rows.append(
            protocol.Row(
                "training step", f"{name}, batch {size.batch}", rung.name, passed, words, timing,
                items=size.batch, baseline=BASELINE,
            )
        )  # fmt: skip
        tell(rows, notes)
    return rows, notes


def losses_of(rung: Rung, size: Size, device: str) -> dict[str, float]:
    """Loss terms of a rung's first step, discriminator and all."""
    with opened(trainer_of(rung, size, device)) as trainer:
        terms, _ = trainer.step(0, LATE)
        return {name: float(value) for name, value in terms.items() if name != "gradient"}


def agree(found: dict[str, float], told: dict[str, float]) -> tuple[bool, str]:
    """Whether a rung computes what fp32 computes."""
    off = {name: abs(found[name] - value) / max(abs(value), 1e-3) for name, value in told.items()}
    worst = max(off, key=lambda name: off[name])
    return off[worst] <= TOLERANCE, f"loss terms within {100 * off[worst]:.2f} % of fp32's ({worst})"


SHARES = (
    ("discriminator", {"gan": 0.0}, ("gan",)),
    (
        "perceptual and recogniser",
        {"gan": 0.0, "perceptual": 0.0, "identity": 0.0},
        ("perceptual", "identity"),
    ),
    ("ssim", {"gan": 0.0, "perceptual": 0.0, "identity": 0.0, "ssim": 0.0}, ("ssim",)),
)
"""Part -> weights without it, from the whole step down; what is left is the generator and its optimiser."""


def shares(name: str, device: str, *, rounds: int = 5, budget_s: float = 60.0) -> list[protocol.Row]:
    """Seconds of each part of the step, bf16 with our kernels."""
    size, rung = SIZES[name], RUNGS[4]
    weights = PRESETS["published-2025"]
    steps = [("the whole step", weights), *((part, replace(weights, **w)) for part, w, _ in SHARES)]
    timings = []
    for _, remaining in steps:
        with opened(trainer_of(rung, size, device, weights=remaining)) as trainer:
            numbers = iter(range(1 << 30))
            timings.append(
                timed(
                    lambda t=trainer, n=numbers: t.step(next(n), LATE), device, rounds, budget_s / len(steps)
                )
            )
    whole = timings[0].p50
    parts = [(part, timings[i].p50 - timings[i + 1].p50) for i, (part, _, _) in enumerate(SHARES)]
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


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=tuple(SIZES), default="mini")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=("rungs", "shares"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--budget", type=float, default=120.0, help="seconds of each section")
    parser.add_argument("--profile", action="store_true", help="one step under cudaProfilerApi and nvtx")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "cpu")
    o = parser.parse_args(arguments)
    if o.profile:
        return profile(o.size, o.device)
    report = protocol.Report("Training step", protocol.environment(o.device))
    if o.only in (None, "rungs"):
        rows, notes = rungs(o.size, o.device, rounds=o.rounds, budget_s=o.budget)
        report.rows += rows
        report.notes += notes
    if o.only in (None, "shares"):
        report.rows += shares(o.size, o.device, rounds=o.rounds, budget_s=o.budget)
    report.write(o.out, "train")
    print(report.as_markdown())
    return 1 if report.failures else 0


def profile(name: str, device: str) -> int:
    """`nsys profile --capture-range=cudaProfilerApi python bench/train.py --profile --device cuda:0`."""
    with opened(trainer_of(RUNGS[4], SIZES[name], device)) as trainer:
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
