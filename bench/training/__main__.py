"""Training in images/s, rung by rung, and which part of a step takes how much.

    python -m bench.training                                   CPU, mini size, into bench/results/cpu/train.*
    python -m bench.training --device cuda:0 --size base --batch 128
    python -m bench.training --only shares --profile           one step under nvtx ranges, for Nsight Systems
    python -m bench.training --only kernels --device cuda:0 --size base     kernel by kernel

Rungs: the step as the published code runs it (`published.py`) in fp32, in autocast, and in its own
precision; the same arithmetic corrected, bf16, our kernels, one CUDA graph, parts through torch.compile. All see
the same batch and start from the same weights; a rung's first losses must agree with the corrected fp32 rung's, or
its time is not printed. Dropout is off in all of them: the plain backend draws its mask on the host, which would
flatter the fused one, and a graph must not hold random numbers.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from bench import RESULTS, machine, protocol
from bench.training.rungs import LATE, NAMED, RUNGS, opened, rungs, trainer_of
from bench.training.setup import SIZES
from bench.training.shares import kernel_table, shares, step_profile


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
    parser.add_argument("--out", type=Path, default=RESULTS / "cpu")
    o = parser.parse_args(arguments)
    if o.profile:
        return profile(o.size, o.device)
    if o.only == "kernels":
        kernels = step_profile(o.size, o.device, o.batch, o.rung)
        print(kernel_table(kernels))
        return 0
    report = protocol.Report("Training step", machine.environment(o.device))
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
    """`nsys profile --capture-range=cudaProfilerApi python -m bench.training --profile --device cuda:0`."""
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
