"""The command; see the package."""

from __future__ import annotations

import argparse
import math
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

# Asked whether there is a GPU, torch then asks NVML and not CUDA, which a later fork would not survive.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
# Threads of OpenMP would not survive it either; each job sets its own number.
os.environ["OMP_NUM_THREADS"] = "1"

import torch
from v2f_kernels import _tuned

from bench import RESULTS, protocol
from bench import gpu as package
from bench.gpu import inference, planning, probe, report, stages
from bench.gpu.launch import Launcher
from bench.gpu.store import FILE, Store

MINUTES = 8.0


def main(arguments: list[str] | None = None) -> int:
    start = time.time()
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu",
        description=package.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all of it (%(default)s)")
    parser.add_argument("--plan", action="store_true", help="print the plan and run nothing")
    parser.add_argument("--only", action="append", choices=tuple(stages.NAMED), default=[])
    parser.add_argument("--report", type=Path, metavar="DIR", help="make the report of DIR again")
    parser.add_argument("--rehearse", action="store_true", help="tiny shapes on the CPU")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--out", type=Path, help="instead of bench/results/<gpu>")
    parser.add_argument("--at-most", type=float, default=math.inf, metavar="S", help="seconds of any one job")
    parser.add_argument("--fresh", action="store_true", help="a new Python for each job instead of a fork")
    options = parser.parse_args(arguments)
    if not options.minutes > 0:
        parser.error(f"--minutes: expected more than 0, found {options.minutes}")
    if options.report:
        return shown(report.make(options.report), options.report)
    wide = planning.width(os.cpu_count() or 1)
    seconds = 60 * options.minutes
    plan = planning.planned(options.only, options.rehearse, seconds, wide, options.at_most)
    print(plan, flush=True)
    if options.plan:
        return 0
    jobs = [*plan.jobs, *plan.spare]
    if not options.fresh and any(job.work.startswith("inference:") for job in jobs):
        torch.set_num_threads(1)
        inference.network(options.rehearse)  # every job that needs it inherits it
    device = "cpu" if options.rehearse else options.device
    environment, fresh = probe.ask(device)
    if "error" in environment:
        print(f"Nothing was run: {environment['error']}. `--rehearse` runs the same code on a CPU.")
        return 2
    name = "rehearsal" if options.rehearse else environment["gpu"]
    folder = options.out or RESULTS / re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    store = Store(folder / FILE, f"{environment['time']} {os.getpid()}")
    store.add("run", environment=environment, rehearsal=options.rehearse, minutes=options.minutes,
               plan=[job.name for job in jobs])  # fmt: skip
    for note in plan.notes:
        store.add("note", job="plan", text=note)
    if fresh:
        store.add("note", job="plan", text="CUDA does not bear a fork here: each job is a new Python")
    scratch = Path(tempfile.mkdtemp(prefix="v2f-gpu-"))
    end = start + seconds - planning.REPORT_S
    launcher = Launcher(store, scratch, device, options.rehearse, end, wide, fresh or options.fresh)
    _stop_when_told()
    try:
        launcher.run(jobs, wave_s=planning.WAVE_SHARE * seconds)
        store.add("end")
    except KeyboardInterrupt:
        print("stopped; what was found is kept", file=sys.stderr)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _bring_table(environment.get("gpu", ""), start, folder)
    return shown(report.make(folder), folder)


def shown(made: protocol.Report, folder: Path) -> int:
    """Prints what failed; the exit status."""
    for row in made.failures:
        print(f"FAILED {row.section} | {row.case} | {row.contender}: {row.check}")
    print(f"{len(made.rows)} rows, {len(made.failures)} failed; written: {folder.name}/gpu.md")
    return 1 if made.failures else 0


def _bring_table(gpu: str, start: float, folder: Path) -> None:
    """Puts a copy of the device's table beside the results, if this run wrote it."""
    table = _tuned.TUNED / _tuned.file_of(gpu)
    if gpu and table.exists() and table.stat().st_mtime >= start:
        shutil.copy(table, folder / f"tuned-{table.name}")


def _stop_when_told() -> None:
    """SIGTERM ends a run as Ctrl-C does: jobs are ended, and the report is made of what there is."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)


if __name__ == "__main__":
    sys.exit(main())
