"""Launch configurations: the walk from the one in use to one that no neighbour beats; `choose.py` runs it.

    python -m bench.kernels.tune --gate 90 --op conv3x3   without a card: neighbours, and what the gate says

Coordinate by coordinate (warps, stages, each tile size), from the configuration in use: a neighbour is compiled for
the card's capability and refused if it spills, exceeds the shared memory or lost its tensor cores; then its results
are held against the fp32 reference; only then is it timed, in rounds interleaved with the best so far. It replaces
that one if `GAIN` faster, and the walk ends when no neighbour is. The gate compiles the cases of `aot_cases.py`, and
only keys that those read are tuned: so `make aot` compiles in CI whatever was written here.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from v2f_kernels._triton import launch

from bench import protocol
from bench.kernels import ops
from bench.kernels.case import Case
from v2f_engine.backends import op_named

GAIN = 1.03
"""A candidate must be so many times faster than the best so far: rounds scatter by about 1 %."""
LIMITS = {"num_warps": (1, 16), "num_stages": (1, 6)}
TILE = (1, 65_536)
LOOPED = ("BLOCK_K",)
"""Tile sizes of a pipelined loop: a kernel without one has no use for more stages."""
Entry = Mapping[str, int]
Gate = Callable[[str, str, Entry], list[str]]
"""(op, key, entry) -> complaints; empty when the configuration may be used."""


@contextmanager
def observed() -> Iterator[list[tuple[str, str, str]]]:
    """Notes every look-up of a launch configuration as (op, kernel, variant), of all threads."""
    lookup, seen = launch._lookup, []

    def noted(op: str, kernel: str, variant: str, section: str) -> launch.LaunchConfig:
        seen.append((op, kernel, variant))
        return lookup(op, kernel, variant, section)

    launch._lookup = noted  # type: ignore[assignment]
    try:
        yield seen
    finally:
        launch._lookup = lookup


@contextmanager
def trying(op: str, key: str, entry: Entry) -> Iterator[None]:
    """Launches of `op` that ask for `key` (`kernel/variant`, or `kernel` for every variant) get `entry`."""
    lookup = launch._lookup

    def tried(of: str, kernel: str, variant: str, section: str) -> launch.LaunchConfig:
        if of == op and key in (kernel, f"{kernel}/{variant}"):
            tiles = {name: value for name, value in entry.items() if name not in LIMITS}
            return launch.LaunchConfig(
                entry["num_warps"], entry["num_stages"], MappingProxyType(tiles), f"trial:{key}"
            )
        return lookup(of, kernel, variant, section)

    launch._lookup = tried  # type: ignore[assignment]
    try:
        yield
    finally:
        launch._lookup = lookup


def keys_under_gate(op: str) -> dict[str, list[str]]:
    """Key -> names of the compile gate's cases that read it. Nothing is compiled."""
    from triton.runtime.jit import JITFunction
    from v2f_kernels._triton.aot import ops_under_gate

    found: dict[str, list[str]] = {}
    run, JITFunction.run = JITFunction.run, lambda *args, **kwargs: None
    try:
        for name, call in ops_under_gate()[op].items():
            with observed() as seen:
                call()
            for _, kernel, variant in (s for s in seen if s[0] == op):
                for key in {kernel, f"{kernel}/{variant}" if variant else kernel}:
                    found.setdefault(key, []).append(name)
    finally:
        JITFunction.run = run
    return found


def compile_gate(capability: int) -> Gate:
    """The gate of `make aot`, for one capability and one configuration."""
    from v2f_kernels._triton import aot

    def gate(op: str, key: str, entry: Entry) -> list[str]:
        every = aot.ops_under_gate()[op]
        chosen = {name: every[name] for name in keys_under_gate(op).get(key, ())}
        if not chosen:
            return [f"{op}/{key}: no case of the compile gate reads it"]
        with trying(op, key, entry):
            try:
                return aot.compile_cases(op, chosen, (capability,), newer=False)[1]
            except Exception as error:  # the compiler refuses in many ways
                return [f"{op}/{key}: {type(error).__name__}: {str(error).splitlines()[0][:160]}"]

    return gate


def neighbours(entry: Entry) -> list[dict[str, int]]:
    """Configurations one step away: a power of two in warps or a tile, one stage where a loop is pipelined."""
    found = []
    for name, value in entry.items():
        if name == "num_stages":
            steps = [value - 1, value + 1] if any(tile in entry for tile in LOOPED) else []
        else:
            steps = [value // 2, value * 2]
        low, high = LIMITS.get(name, TILE)
        found += [{**entry, name: step} for step in steps if low <= step <= high]
    return found


@dataclass
class Work:
    """What a key's configuration is judged and timed by: cases that read it, with their way to run.

    `also`: cases that read it and only judge it. `form`: the Triton backend that launches it.
    """

    op: str
    key: str
    start: dict[str, int]
    runs: list[tuple[Case, ops.Run, torch.dtype]] = field(default_factory=list)
    also: list[tuple[Case, ops.Run, torch.dtype]] = field(default_factory=list)
    form: str = "triton"


@dataclass
class Tuned:
    """The outcome for one key."""

    op: str
    key: str
    entry: dict[str, int]
    before: dict[str, int]
    gain: float
    log: list[str]


def triton_form(case: Case, name: str = "triton") -> Callable[..., Any]:
    """The case's op as a Triton kernel."""
    return op_named(case.op).backend(name)


def work_of(
    op: str, chosen: Iterable[Case], device: str, dtypes: Iterable[torch.dtype], form: str = "triton"
) -> list[Work]:
    """Every key that these cases, run by the backend `form`, read and the gate compiles: the most specific one."""
    under_gate = keys_under_gate(op)
    found: dict[str, Work] = {}
    dtypes = tuple(dtypes)
    for case in chosen:
        kinds: list[ops.Run] = [ops.run_forward, *([ops.run_gradients] if case.gradients else [])]
        for dtype in dtypes if case.half else (torch.float32,):
            forward: set[str] = set()
            for run in kinds:
                with observed() as seen:
                    run(case, triton_form(case, form), case.inputs(ops.SEED, device, dtype))
                for _, kernel, variant in dict.fromkeys(s for s in seen if s[0] == op):
                    key = f"{kernel}/{variant}"
                    key = key if key in under_gate else kernel
                    if key not in under_gate or key in forward:
                        continue
                    if run is ops.run_forward:
                        forward.add(key)  # a backward run reads it too, and would blur its time
                    config = launch.launch_config(op, kernel, torch.device(device), variant)
                    work = found.setdefault(key, Work(op, key, config.arguments, form=form))
                    work.runs.append((case, run, dtype))
    return list(found.values())


def check(work: Work, entry: Entry, device: str) -> list[str]:
    """Complaints about results with this configuration; empty when they pass on every case."""
    wrong = []
    with trying(work.op, work.key, entry):
        for case, run, dtype in (*work.runs, *work.also):
            try:
                passed, words = ops.compare(
                    case, run, triton_form(case, work.form), case.inputs(ops.SEED, device, dtype)
                )
            except Exception as error:  # out of resources, an illegal shape
                passed, words = False, f"{type(error).__name__}: {str(error)[:160]}"
            if not passed:
                wrong.append(f"{case.op} {case.name} {dtype}: {words}")
    return wrong


def seconds(
    work: Work, entries: Mapping[str, Entry], device: str, rounds: int, budget_s: float
) -> dict[str, float]:
    """Median seconds over the work's cases, of every configuration, in interleaved rounds."""
    total = dict.fromkeys(entries, 0.0)
    for case, run, dtype in work.runs:
        inputs = case.inputs(ops.SEED, device, dtype)

        def call(entry: Entry, run: ops.Run = run, case: Case = case, inputs: Any = inputs) -> object:
            with trying(work.op, work.key, entry):
                return run(case, triton_form(case, work.form), inputs)

        timed = protocol.time_calls(
            {name: lambda _, e=entry, c=call: c(e) for name, entry in entries.items()},
            device=device, rounds=rounds, budget_s=budget_s / len(work.runs),
        )  # fmt: skip
        for name, timing in timed.items():
            total[name] += timing.p50
    return total


def tune(work: Work, gate: Gate, device: str, *, rounds: int = 15, budget_s: float = 60.0) -> Tuned:
    """Walks from the configuration in use to one that no neighbour beats, within `budget_s`."""
    end = time.perf_counter() + budget_s
    best, log, seen, gain = dict(work.start), [], [dict(work.start)], 1.0
    wrong = check(work, best, device)
    if wrong:
        return Tuned(work.op, work.key, best, best, 1.0, [f"the configuration in use fails: {wrong[0]}"])
    moved = True
    while moved:
        moved = False
        for entry in neighbours(best):
            if entry in seen:
                continue
            if time.perf_counter() > end:
                return Tuned(work.op, work.key, best, work.start, gain, [*log, "out of time"])
            seen.append(entry)
            complaints = gate(work.op, work.key, entry) or check(work, entry, device)
            if complaints:
                log.append(f"refused {entry}: {complaints[0]}")
                continue
            timed = seconds(work, {"best": best, "new": entry}, device, rounds, 5.0)
            log.append(f"{timed['best'] / timed['new']:.3f}x {entry}")
            if timed["best"] > GAIN * timed["new"]:
                best, gain, moved = entry, gain * timed["best"] / timed["new"], True
                break
    return Tuned(work.op, work.key, best, work.start, gain, log)


def main(arguments: list[str] | None = None) -> int:
    from v2f_kernels._triton.aot import ops_under_gate

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--op", action="append", choices=sorted(ops_under_gate()), help="may be repeated; all else"
    )
    parser.add_argument("--gate", type=int, required=True, metavar="CAPABILITY", help="e.g. 90")
    options = parser.parse_args(arguments)
    return _gate_only(options.op or sorted(ops_under_gate()), options.gate)


def _gate_only(chosen: Iterable[str], capability: int) -> int:
    gate = compile_gate(capability)
    for op in chosen:
        for key in keys_under_gate(op):
            if key not in launch.sections(op)[launch.DEFAULT]:
                continue
            for entry in neighbours(launch.sections(op)[launch.DEFAULT][key]):
                complaints = gate(op, key, entry)
                print(
                    f"{op}/{key} {entry}: {'refused: ' + complaints[0] if complaints else 'fit'}", flush=True
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
