"""Every Triton kernel at odd shapes, under every launch configuration in reach: judged, and the same bits each time.

    python -m bench.kernels.launches                            on a GPU: everything, in one process
    python -m bench.kernels.launches --group philox --digests   only these, for another process to compare with

A compiler may be wrong at four warps and right at one, two and eight (FACTS.md), so a kernel that passed under its own
configuration has shown nothing about the others. Here every look-up of a configuration that a trial makes is answered,
one at a time, with the entries of all sections of `tuned/` and with the default's at 1, 2, 4 and 8 warps. Each is
compiled and put through the compile gate; what that refuses (spills, shared memory, miscompiled code) is not run and is
listed as skipped, unless it is what this card would use, which is a failure. What runs is judged against the op's
reference and launched again, with unwritten memory poisoned, until `LAUNCHES` results are the same bits.

`pytest -m gpu tests/gpu/test_gpu_launches.py` does this group by group, and once more in a second process.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass

import torch
from v2f_kernels._triton import launch

from bench import ROOT
from bench.kernels.odd_shapes import Prepared, Results, Trial, trials
from bench.kernels.tune import observed, trying

WARPS = (1, 2, 4, 8)
LAUNCHES = 4
GUESTS = {("group_norm_silu", "scale_shift")}
"""Kernels that other ops launch and their own does not; all else is tried by trials of its own op."""
Gate = Callable[[Callable[[], Results]], list[str]]
"""A launch -> what the compile gate says of its kernels; empty when they may run."""


@dataclass(frozen=True)
class Outcome:
    """What became of one configuration.

    Args:
        trial: its name.
        key: `op/kernel/variant` that was answered.
        entry: with what.
        status: `passed`, `failed` or `skipped`.
        words: the judge's, or the reason.
        digest: of the results' bytes; empty where nothing ran.
    """

    trial: str
    key: str
    entry: Mapping[str, int]
    status: str
    words: str
    digest: str = ""

    @property
    def place(self) -> str:
        return f"{self.trial} | {self.key} | {json.dumps(dict(self.entry))}"


def attempt(trial: Trial, device: str, gate: Gate, *, judged: bool = True) -> Iterator[Outcome]:
    """Every configuration of every key of its op that the trial reads, one after the other.

    Args:
        judged: without it only bits are taken, for a comparison of processes.
    """
    prepared = trial.prepare(device)
    with observed() as seen:
        prepared.launch()
    for op, kernel, variant in dict.fromkeys(seen):
        key = f"{kernel}/{variant}" if variant else kernel
        if key in prepared.passed_over or (op != trial.op and (op, kernel) not in GUESTS):
            continue
        for entry, shipped in configurations(op, kernel, variant, device):
            with trying(op, key, entry):
                status, words, digest = _one(prepared, device, gate, shipped, judged)
            yield Outcome(trial.name, f"{op}/{key}", entry, status, words, digest)
            if status == "failed" and not _answers(device):
                yield Outcome(
                    trial.name, "", {}, "failed", "the device answers no more: the rest was not tried"
                )
                return


def configurations(op: str, kernel: str, variant: str, device: str) -> list[tuple[dict[str, int], bool]]:
    """(entry, whether this device would use it) within reach: of all sections, and the default's at all `WARPS`."""
    mine = launch._lookup(op, kernel, variant, launch._section_name(torch.device(device))).arguments
    default = launch._lookup(op, kernel, variant, launch.DEFAULT).arguments
    every = [
        mine,
        *(launch._lookup(op, kernel, variant, section).arguments for section in launch.sections(op)),
    ]
    every += [{**default, "num_warps": warps} for warps in WARPS]
    distinct = {json.dumps(entry, sort_keys=True): entry for entry in every}
    return [(entry, entry == mine) for entry in distinct.values()]


def _one(prepared: Prepared, device: str, gate: Gate, shipped: bool, judged: bool) -> tuple[str, str, str]:
    """(status, words, digest) of the configuration that look-ups are answered with."""
    try:
        refused = gate(prepared.launch)
    except Exception as error:  # the compiler refuses in many ways
        refused = [f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}"]
    if refused:
        return (
            ("failed", f"in use here, and refused: {refused[0]}", "")
            if shipped
            else ("skipped", refused[0], "")
        )
    try:
        results = prepared.launch()
        passed, words = prepared.verdict(results) if judged else (True, "not judged")
        first = digest(results)
        for again in range(2, LAUNCHES + 1):
            _poison(results)
            if digest(prepared.launch()) != first:
                return "failed", f"launch {again} gives other bits than the first; {words}", first
    except Exception as error:
        return "failed", f"{type(error).__name__}: {str(error)[:200]}", ""
    return "passed" if passed else "failed", words, first


def digest(results: Results) -> str:
    """16 hexadecimal digits over names, shapes, dtypes and all bytes."""
    made = hashlib.sha256()
    for name, tensor in results.items():
        made.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        made.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return made.hexdigest()[:16]


def _poison(results: Results) -> None:
    """Memory that the allocator will hand out next is full of ones: NaN, -1, 255. What nobody writes then shows."""
    blocks = [torch.empty_like(t) for t in results.values() for _ in range(4)]
    for block in blocks:
        block.view(-1).view(torch.uint8).fill_(255) if block.is_contiguous() else block.fill_(-1)


def _answers(device: str) -> bool:
    if torch.device(device).type != "cuda":
        return True
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


def gate_of(device: str) -> Gate:
    """The compile gate for this card: what is launched is compiled for it and read, not run. On a CPU none."""
    if torch.device(device).type != "cuda":
        return lambda call: []
    from v2f_kernels._triton.aot import compiling
    from v2f_kernels._triton.inspection import SHARED_LIMIT, inspect

    major, minor = torch.cuda.get_device_capability(torch.device(device))
    target = 10 * major + minor
    if target not in SHARED_LIMIT:
        warnings.warn(
            f"no compile gate for sm_{target}, only for {sorted(SHARED_LIMIT)}: all of it runs", stacklevel=2
        )
        return lambda call: []
    flagged: dict[str, list[str]] = {}

    def gate(call: Callable[[], Results]) -> list[str]:
        with compiling(target) as record:
            call()
        for compiled in record:
            name = compiled.binary.hash
            if name not in flagged:
                flagged[name] = inspect("launches", "odd", target, compiled, newer=False)[1]
        return [line for compiled in record for line in flagged[compiled.binary.hash]]

    return gate


def problems(first: Iterable[Outcome], second: Iterable[Outcome]) -> list[str]:
    """What is wrong with two processes' outcomes: failures, and bits that differ from run to run."""
    ones, others = ({one.place: one for one in outcomes} for outcomes in (first, second))
    found = [f"{one.place}: {one.words}" for one in ones.values() if one.status == "failed"]
    if not any(one.status == "passed" for one in ones.values()):
        found.append("nothing ran, so nothing was shown")
    for place in dict.fromkeys([*ones, *others]):
        pair = [outcomes[place].digest if place in outcomes else None for outcomes in (ones, others)]
        if None in pair:
            found.append(f"{place}: tried in one process only")
        elif pair[0] != pair[1]:
            found.append(f"{place}: the bits of another process differ: {pair[0]} and {pair[1]}")
    return found


def in_child(group: str, device: str, timeout_s: float = 600.0) -> list[Outcome]:
    """The outcomes of a group of trials in a process of its own, unjudged; if it died, those it printed before."""
    command = [
        sys.executable,
        "-m",
        "bench.kernels.launches",
        "--group",
        group,
        "--device",
        device,
        "--digests",
    ]
    try:
        printed = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=timeout_s
        ).stdout
    except subprocess.TimeoutExpired as late:
        printed = late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout or ""
    return [Outcome(**json.loads(line)) for line in printed.splitlines(keepends=True) if line.endswith("}\n")]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--group", help="only these trials, e.g. philox")
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--digests", action="store_true", help="judge nothing; for another process to compare with"
    )
    options = parser.parse_args(arguments)
    torch.backends.cudnn.allow_tf32 = False
    every = trials(options.device)
    chosen = [trial for trial in every if options.group in (None, trial.group)]
    if not chosen:
        known = list(dict.fromkeys(trial.group for trial in every))
        raise SystemExit(f"no trials are of the group {options.group!r}; known: {known}")
    gate, bad = gate_of(options.device), 0
    for trial in chosen:
        for outcome in attempt(trial, options.device, gate, judged=not options.digests):
            print(json.dumps(asdict(outcome)), flush=True)
            bad += outcome.status == "failed"
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
