"""The ladder: from the published way to the CUDA graph, one change a rung, end to end on the same weights.

    python -m bench.generation.ladder --device cuda                base size, batch 256
    python -m bench.generation.ladder --device cpu --model mini --batch 4

Each rung's images are held against the published algorithm in strict fp32 (no TF32): the mean difference may be
one grey level. A rung that fails is shown as failed, without a ratio. `device only` ends with bytes on the device;
`bytes on the host` adds perturbation, masks and the copy; `null writer` is `write_dataset` into nowhere, so
encoding as well.
A rung that cannot run on a device is listed with the reason, not replaced by another.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from bench import machine, plots, protocol
from bench.generation.rungs import BASELINE, RUNGS, Batch, Rung, build, grey_check, network, oracle, published
from bench.generation.with_host import with_host
from v2f_engine.backends import Choice, choose
from v2f_engine.models.vec2face import Vec2Face

SECTION = "ladder, device only"


def run_rung(
    rung: Rung | None,
    model: Vec2Face,
    base: Choice,
    batch: Batch,
    expected: torch.Tensor,
    *,
    rounds: int,
    budget_s: float,
) -> tuple[protocol.Row, Any]:
    """(the row of one rung, its runner); the published way, which has no runner, for `None`.

    Args:
        model: the network in fp32; moved to the device for the published way.
        expected: `oracle` of the same batch, on the device.

    Raises:
        whatever building or running the rung raises: the caller decides what that ends.
    """
    runner: Any = None
    if rung is None:
        baseline = model.to(base.device).requires_grad_(True)
        made, call = published(baseline, batch), lambda: published(baseline, batch)
    else:
        runner, call = build(rung, model, base, len(batch.host[0]))
        made = torch.from_numpy(runner(*batch.host)).to(base.device)
    passed, words = grey_check(made, expected)
    timing = wall(call, base.device, rounds, budget_s) if passed else None
    rows = len(batch.host[0])
    row = protocol.Row(
        SECTION, f"batch {rows}", rung.name if rung else BASELINE, passed, words, timing,
        items=rows, inputs=protocol.hash_of(batch.device), baseline=BASELINE,
    )  # fmt: skip
    return row, runner


def climb(
    model: Vec2Face,
    *,
    device: str,
    precision: str,
    rows: int,
    rounds: int,
    budget_s: float,
    written: int = 0,
    rungs: Sequence[Rung] = RUNGS,
) -> tuple[list[protocol.Row], list[str]]:
    """Rows of the ladder and what could not run, all in this process; `bench.gpu` gives each rung one of its own.

    Its first rung is the published way, whatever `rungs` are. `written`: images through the host, 0 to leave that out.
    """
    base = choose(device, precision)
    notes: list[str] = []
    result: list[protocol.Row] = []
    batch = Batch.draw(rows, base.device)
    expected = oracle(model.to(base.device), batch)
    deadline = time.perf_counter() + budget_s
    for rung in (None, *rungs):
        if rung and rung.needs_gpu and not base.device.startswith("cuda"):
            notes.append(f"rung {rung.name}: needs a GPU")
            continue
        if rung and time.perf_counter() > deadline:
            notes.append(f"rung {rung.name}: out of time")
            continue
        share = max(1.0, (deadline - time.perf_counter()) / (len(rungs) + 1))
        try:
            row, runner = run_rung(rung, model, base, batch, expected, rounds=rounds, budget_s=share)
            result.append(row)
            if rung and written and row.passed and (rung.chosen or not rung.needs_gpu):
                found, missing = with_host(rung, runner, written, row.check, row.inputs)
                result += found
                notes += missing
            del runner
            if base.device.startswith("cuda"):
                torch.cuda.empty_cache()
        except Exception as error:  # a rung that breaks must not end the climb
            words = f"{type(error).__name__}: {str(error)[:200]}"
            result.append(
                protocol.Row(SECTION, f"batch {rows}", rung.name if rung else BASELINE, False, words)
            )
    return result, notes


def wall(call: Callable[[], object], device: str, rounds: int, budget_s: float) -> protocol.Timing:
    """Whole networks: wall time of a synchronised call, warmed up. The working set exceeds every cache."""

    def once() -> float:
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter() - start

    first, start = once(), time.perf_counter()
    seconds = []
    for _ in range(rounds):
        seconds.append(once())
        if time.perf_counter() - start + first > budget_s:
            break
    return protocol.Timing.of(seconds, 1, "perf_counter")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=("base", "large", "huge", "mini"), default="base")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--batch", type=int, default=0, help="rows; 256 on a GPU and 8 on a CPU by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--budget", type=float, default=120.0, help="seconds")
    parser.add_argument("--write", type=int, default=0, help="images through the null writer; 0 for none")
    parser.add_argument("--out", type=Path, help="folder for ladder.json, ladder.md and pictures")
    options = parser.parse_args(arguments)
    report = protocol.Report(f"The ladder, {options.model}", machine.environment(options.device))
    report.rows, report.notes = climb(
        network(options.model),
        device=options.device,
        precision=options.precision,
        rows=options.batch or (256 if options.device.startswith("cuda") else 8),
        rounds=options.rounds,
        budget_s=options.budget,
        written=options.write,
    )
    print(report.as_markdown())
    if options.out:
        report.write(options.out, "ladder")
        plots.draw(options.out / "ladder.json")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
