"""`v2f generate` on a shared machine: how its threads wait decides whether it makes 60 images a second or 7.

    python -m bench.cpu.under_load
    python -m bench.cpu.under_load --rounds 7 --json bench/results/cpu/under_load.json

Protocol. Each measurement is a process of its own, since OpenMP reads its variables once: it loads `mini` with as many
threads as it gets, makes one person for warm-up, then `generate`s `--ids` people of 25 images as JPEGs into a
temporary imagefolder and says images a second of wall time. Four ways are interleaved A B C D, A B C D, ...: `settled`
is ours (`v2f_engine.threads`: sleep at once if others are running; `runtime.shared_cores`: fewer threads if they come
later), `spinning` is OpenMP's default (a thread a core, GNU's 300,000 turns, about 3 ms), `asleep` a thread a core
that sleeps at once, `one thread` is OMP_NUM_THREADS=1. First without, then beside `--busy` processes that do nothing
but count, then with those processes started only when the warm-up is over. Reported: medians, and the range over
rounds. `idle` is right only on a machine with no other work; the load average stands in the result.

Prediction, written before the first run on two cores: beside two busy processes threads that sleep 55, spinning 7, one
thread 60; idle, sleeping 1 % slower than spinning (70 parallel regions an image, 20 us more for each wake). Found:
asleep 56 to 83, spinning 25 by luck (7 to 50), one thread 60; idle, sleeping 12 % slower. So threads spin where nobody
else runs: predicted idle equal to spinning, beside busy processes equal to asleep, and 50 where they come later (half
a second and one batch made twice before one thread goes on).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import ROOT, machine
from v2f_engine.threads import COUNT, WAITING

CORES = str(len(os.sched_getaffinity(0)))
WAYS: dict[str, dict[str, str]] = {
    "settled": {},
    "spinning": {COUNT: CORES, "GOMP_SPINCOUNT": "300000"},
    "asleep": {COUNT: CORES, **WAITING},
    "one thread": {COUNT: "1"},
}
"""Variables of each way. 300,000 turns are what libgomp does where nothing is set."""
IMAGES = 25


def rate(ids: int, later: int = 0) -> float:
    """Images a second of `generate`, in this process, beside `later` busy processes that start after the warm-up."""
    import v2f_engine as v2f

    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        v2f.generate(n_ids=1, images_per_id=IMAGES, out=f"{folder}/warm", format="imagefolder")
        stack.enter_context(busy(later))
        began = time.perf_counter()
        v2f.generate(n_ids=ids, images_per_id=IMAGES, out=f"{folder}/set", format="imagefolder")
        return ids * IMAGES / (time.perf_counter() - began)


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """That many processes that count without end."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def measured(way: str, ids: int, later: int = 0) -> float:
    """`rate` in a process of its own that waits in `way`."""
    clean = {name: value for name, value in os.environ.items() if name not in (COUNT, *WAITING)}
    done = subprocess.run(
        [sys.executable, "-m", "bench.cpu.under_load", "--ids", str(ids), "--busy", str(later), "--measure"],
        env={**clean, **WAYS[way]},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.splitlines()[-1])


def compared(
    ids: int, rounds: int, processes: int, later: int = 0, ways: Iterable[str] = WAYS
) -> dict[str, list[float]]:
    """Images a second of each way and round, beside that many busy processes and `later` ones that come later."""
    rates: dict[str, list[float]] = {way: [] for way in ways}
    with busy(processes):
        for _ in range(rounds):
            for way, found in rates.items():
                found.append(measured(way, ids, later))
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ids", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(rate(options.ids, options.busy))
        return
    result: dict[str, object] = {"machine": machine.environment("cpu"), "images": options.ids * IMAGES}
    for name, processes, later in (
        ("idle", 0, 0),
        (f"beside {options.busy} busy processes", options.busy, 0),
        (f"{options.busy} busy processes later", 0, options.busy),
    ):
        rates = compared(options.ids, options.rounds, processes, later)
        result[name] = rates
        for way, found in rates.items():
            print(
                f"{name:25} {way:12} {statistics.median(found):7.1f} images/s  ({min(found):.1f} to {max(found):.1f})"
            )
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
