"""`make gpu`: on a machine with an NVIDIA GPU, check every kernel against its oracle, then measure.

    python bench/gpu.py                    all sections, at most nine minutes, into bench/results/<gpu>/
    python bench/gpu.py --only ladder      one section; may be repeated
    python bench/gpu.py --only steady      a minute of it: rate held, energy of an image; also: compiled
    python bench/gpu.py --tune             times launch configurations, writes v2f_kernels/tuned/ (bench/tune.py)
    python bench/gpu.py --rehearse         the same code on a CPU with tiny shapes; what needs a GPU is named

Needs torch and triton; cupy for the rejection section. Every section runs in a process of its own with a budget
of seconds, because an invalid access poisons a CUDA context: a section that dies is recorded, the rest goes on.
Exit status 1 if a check or a section failed. Nothing of a rehearsal is a measurement of a GPU.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "kernels"), str(ROOT)]

import torch  # noqa: E402

from bench import export, ladder, ops, plots, protocol, steady, tune  # noqa: E402
from bench.cases import Case, Tensors, cases  # noqa: E402
from v2f_engine.backends import choose, op_named  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results"
GRACE_S = 20.0
"""Seconds a section may run past its budget (imports, one long compile) before its process is ended."""


@dataclass(frozen=True)
class Setting:
    """How a section runs."""

    device: str
    size: str
    budget_s: float
    rehearsal: bool
    child: bool = False

    def tell(self, found: Found) -> None:
        """What is known so far, for the parent, should this process be ended."""
        if self.child:
            print(encoded(found), flush=True)

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        return (torch.float32,) if self.rehearsal else (torch.float16, torch.bfloat16, torch.float32)


@dataclass
class Found:
    """What a section hands back."""

    rows: list[protocol.Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ceilings: dict[str, float] = field(default_factory=dict)


def ceilings(s: Setting) -> Found:
    """What this card does at best, in this run: a large copy and a large bf16 product, on random data."""
    elements, side = (1 << 12, 64) if s.rehearsal else (1 << 28, 8192)
    source = torch.randn(elements, device=s.device)
    target = torch.empty_like(source)
    a, b = (torch.randn(side, side, device=s.device, dtype=torch.bfloat16) for _ in range(2))
    timed = protocol.time_calls(
        {"copy": lambda i: target.copy_(source), "matmul": lambda i: a @ b}, device=s.device, rounds=5
    )
    return Found(
        notes=[f"clocks after the ceilings: {protocol.clocks() or 'unknown'}"],
        ceilings={
            "copy bytes/s": 2.0 * source.numel() * source.element_size() / timed["copy"].p50,
            "matmul FLOP/s": 2.0 * side**3 / timed["matmul"].p50,
        },
    )


def correctness(s: Setting) -> Found:
    """Every backend of every op, forward and gradients, against the fp32 oracle; repeated runs bit by bit."""
    found, end = Found(), time.perf_counter() + s.budget_s
    for case in cases(s.size):
        for dtype in s.dtypes:
            if not case.half and dtype is not torch.float32:
                continue
            if time.perf_counter() > end:
                found.notes.append(f"out of time: not checked: {case.op} {case.name} {dtype}")
                continue
            functions, missing = ops.contenders(case, s.device)
            found.notes += [line for line in missing if line not in found.notes]
            inputs = case.inputs(ops.SEED, s.device, dtype)
            for name, function in functions.items():
                found.rows += _checks(case, name, function, inputs, dtype)
            s.tell(found)
        if s.device != "cpu":
            torch.cuda.empty_cache()
    return found


def _checks(
    case: Case, name: str, function: Callable[..., Any], inputs: Tensors, dtype: torch.dtype
) -> list[protocol.Row]:
    runs: dict[str, ops.Run] = {"forward": ops.run_forward}
    if case.gradients:
        runs["gradients"] = ops.run_gradients
    rows = []
    for kind, run in runs.items():
        try:
            passed, words = ops.compare(case, run, function, inputs)
            same = ops.same_bits(case, run, function, inputs)
            if name == "torch":  # cuDNN may sum in another order each time; only ours promises
                words += "; repeated runs " + ("equal" if same else "differ")
            else:
                passed, words = passed and same, words + ("" if same else "; REPEATED RUNS DIFFER")
        except Exception as error:
            passed, words = False, f"{type(error).__name__}: {str(error)[:200]}"
        label = f"{case.op} {case.name} {str(dtype).removeprefix('torch.')} {kind}"
        rows.append(protocol.Row("correctness", label, name, passed, words))
    return rows


def kernels(s: Setting) -> Found:
    """Every op against every torch alternative, forward, then forward and backward."""
    found, end = Found(), time.perf_counter() + s.budget_s
    dtype = s.dtypes[0]
    todo = [(case, full) for full in (False, True) for case in cases(s.size) if case.gradients or not full]
    while todo:
        case, full = todo.pop(0)
        left = end - time.perf_counter()
        if left <= 0:
            found.notes.append(f"out of time: not timed: {case.op} {case.name} {'full' if full else ''}")
            continue
        rows, missing = ops.measure(
            case,
            device=s.device,
            dtype=dtype if case.half else torch.float32,
            rounds=2 if s.rehearsal else 15,
            budget_s=left / (len(todo) + 1),
            full=full,
        )
        found.rows += rows
        found.notes += [line for line in missing if line not in found.notes]
        s.tell(found)
    return found


def climb(s: Setting) -> Found:
    """The ladder at base size (mini in a rehearsal), device only and with the null writer; then exported engines."""
    end = time.perf_counter() + s.budget_s
    network = ladder.network("mini" if s.rehearsal else "base")
    rows, notes = ladder.climb(
        network,
        device=s.device,
        precision="fp32" if s.rehearsal else "auto",
        rows=2 if s.rehearsal else 256,
        rounds=1 if s.rehearsal else 10,
        budget_s=s.budget_s,
        written=4 if s.rehearsal else 51_200,
        tell=lambda rows, notes: s.tell(Found(rows, notes)),
    )
    engines, missing = export.engine_rungs(network, device=s.device, rows=256, rounds=10, deadline=end)
    return Found([*rows, *engines], [*notes, *missing])


def compiled(s: Setting) -> Found:
    """The whole network under torch.compile, with and without our kernels, against the published way."""
    rows, notes = ladder.climb(
        ladder.network("mini" if s.rehearsal else "base"),
        device=s.device,
        precision="fp32" if s.rehearsal else "auto",
        rows=2 if s.rehearsal else 256,
        rounds=1 if s.rehearsal else 10,
        budget_s=s.budget_s,
        tell=lambda rows, notes: s.tell(Found(rows, notes)),
        rungs=ladder.COMPILED,
    )
    return Found(rows, notes)


def steady_state(s: Setting) -> Found:
    """A minute of what `choose` takes, then a sixth of the published way: rates held, energy of an image."""
    found, base = Found(), choose(s.device, "fp32" if s.rehearsal else "auto")
    rows, seconds = (2, 0.1) if s.rehearsal else (256, 60.0)
    model = ladder.network("mini" if s.rehearsal else "base")
    batch = ladder.Batch.draw(rows, base.device)
    baseline = model.to(base.device).requires_grad_(True)
    expected = ladder.oracle(baseline, batch)
    rung = next(r for r in ladder.RUNGS if (not r.needs_gpu and r.folded if s.rehearsal else r.chosen))
    runner, call = ladder.build(rung, model, base, rows)
    made = torch.from_numpy(runner(*batch.host)).to(base.device)
    contenders = [
        (rung.name, call, seconds, ladder.grey_check(made, expected)),
        (
            ladder.BASELINE,
            lambda: ladder.published(baseline, batch),
            seconds / 6,
            (True, "the published way"),
        ),
    ]
    for name, function, length, (passed, words) in contenders:
        if not passed:
            found.rows.append(protocol.Row("steady state", f"batch {rows}", name, False, words))
            continue
        row, notes = steady.run(name, function, device=base.device, rows=rows, seconds=length, check=words)
        found.rows.append(row)
        found.notes += notes
        s.tell(found)
    return found


def training(s: Setting) -> Found:
    """One full step (generator, frozen recogniser, critic) by rungs, then what each part costs: `bench/train.py`."""
    from bench import train

    size, rounds = ("tiny", 1) if s.rehearsal else ("base", 5)
    found = Found()
    found.rows, found.notes = train.rungs(
        size,
        s.device,
        rounds=rounds,
        budget_s=0.7 * s.budget_s,
        chosen=train.RUNGS[3:5] if s.rehearsal else train.RUNGS,
        tell=lambda rows, notes: s.tell(Found(rows, notes)),
    )
    if not s.rehearsal:
        found.rows += train.shares(size, s.device, rounds=rounds, budget_s=0.3 * s.budget_s)
    return found


def rejection(s: Setting) -> Found:
    """Rejection and nearest cosine on the GPU: equal to the exact reference, then timed on more rows."""
    found = Found()
    op = op_named("reject_similar")
    if s.device == "cpu" or "cupy" not in op.backends:
        found.notes.append("rejection on a GPU: needs a GPU and a cupy backend in the op's table")
        return found
    rows = 4096
    vectors = torch.randn(rows, 512, generator=torch.Generator().manual_seed(0))
    fast = op.backend("cupy")
    expected = torch.as_tensor(op.backend("reference")(vectors, 0.1))
    kept = torch.as_tensor(fast(vectors.to(s.device), 0.1)).cpu()
    equal = torch.equal(kept, expected)
    words = f"{len(kept)} of {rows} kept, {'equal to' if equal else 'NOT equal to'} the reference"
    for n in (100_000, 300_000):
        many = torch.randn(n, 512, device=s.device, generator=torch.Generator(s.device).manual_seed(1))
        timing = ladder.wall(lambda v=many: fast(v, 0.3), s.device, 3, s.budget_s / 2)
        found.rows.append(
            protocol.Row("rejection", f"N{n} t0.3", "cupy", equal, words, timing, flop=512.0 * n * n, items=n)
        )
    return found


SECTIONS: dict[str, tuple[Callable[[Setting], Found], float]] = {
    "ceilings": (ceilings, 15.0),
    "correctness": (correctness, 120.0),
    "ladder": (climb, 120.0),
    "kernels": (kernels, 100.0),
    "training": (training, 40.0),
    "rejection": (rejection, 25.0),
}
"""Name -> (function, seconds). With `GRACE_S` each the sum is nine minutes: tested."""
LONGER: dict[str, tuple[Callable[[Setting], Found], float]] = {
    "steady": (steady_state, 120.0),
    "compiled": (compiled, 500.0),
}
"""Sections that run only when `--only` names them."""
EVERY = {**SECTIONS, **LONGER}


def run_section(name: str, s: Setting) -> Found:
    """A section's findings; an exception becomes a failed row."""
    try:
        return EVERY[name][0](s)
    except Exception as error:
        traceback.print_exc()
        return Found([protocol.Row(name, "the section", "all", False, f"{type(error).__name__}: {error}")])


def in_own_process(name: str, arguments: list[str], budget_s: float) -> Found:
    """Runs a section in a child process, which is ended when it overruns."""
    command = [sys.executable, str(Path(__file__).resolve()), "--section", name, *arguments]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=budget_s + GRACE_S, check=False)
        out, words = (
            done.stdout,
            f"its process ended with status {done.returncode}" if done.returncode else "",
        )
    except subprocess.TimeoutExpired as late:
        out, words = late.stdout or b"", f"ended after {budget_s + GRACE_S:.0f} s"
    told = [line for line in out.decode().splitlines() if line.startswith('{"rows"') and line.endswith("}")]
    if not told and not words:
        words = "its process told nothing"
    found = decoded(told[-1]) if told else Found()
    if words:
        found.rows.append(protocol.Row(name, "the section", "all", False, words))
    return found


def encoded(found: Found) -> str:
    """One line of JSON."""
    return json.dumps(asdict(found))


def decoded(line: str) -> Found:
    """The inverse of `encoded`."""
    told = json.loads(line)
    rows = [
        protocol.Row(**{**row, "timing": protocol.Timing(**row["timing"]) if row["timing"] else None})
        for row in told["rows"]
    ]
    return Found(rows, told["notes"], told["ceilings"])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=tuple(EVERY), help="may be repeated")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--rehearse", action="store_true", help="tiny shapes on the CPU, in this process")
    parser.add_argument("--out", type=Path, help="instead of bench/results/<gpu>")
    parser.add_argument(
        "--tune", action="store_true", help="time launch configurations instead: bench/tune.py"
    )
    parser.add_argument("--section", choices=tuple(EVERY), help=argparse.SUPPRESS)
    options, rest = parser.parse_known_args(arguments)
    if options.tune:
        return tune.main(rest)
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    device = "cpu" if options.rehearse else options.device
    if device != "cpu" and not torch.cuda.is_available():
        print("No GPU that torch can see: nothing was run. `--rehearse` runs the same code on a CPU.")
        return 2

    def setting(name: str) -> Setting:
        size, budget = ("tiny", 300.0) if options.rehearse else ("real", EVERY[name][1])
        return Setting(device, size, budget, options.rehearse, child=options.section is not None)

    if options.section:
        print(encoded(run_section(options.section, setting(options.section))))
        return 0
    title = "Rehearsal on a CPU: NOT a measurement" if options.rehearse else "GPU checks and benchmarks"
    report = protocol.Report(title, protocol.environment(device))
    gpu = "rehearsal" if options.rehearse else torch.cuda.get_device_name(torch.device(device))
    folder = options.out or RESULTS / re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")
    for name in options.only or SECTIONS:
        start = time.perf_counter()
        found = (
            run_section(name, setting(name))
            if options.rehearse
            else in_own_process(name, ["--device", device], EVERY[name][1])
        )
        report.rows += found.rows
        report.ceilings |= found.ceilings
        report.notes += [*found.notes, f"section {name}: {time.perf_counter() - start:.0f} s"]
        report.write(folder, "gpu")  # after every section: a machine may go away
        failed = sum(not row.passed for row in found.rows)
        print(
            f"{name}: {len(found.rows)} rows, {failed} failed, {time.perf_counter() - start:.0f} s",
            flush=True,
        )
    if not options.rehearse:
        if find_spec("matplotlib"):
            plots.draw(folder / "gpu.json")
        else:
            print(
                f"no pictures, matplotlib is not installed here: python bench/plots.py {folder / 'gpu.json'}"
            )
    for row in report.failures:
        print(f"FAILED {row.section} | {row.case} | {row.contender}: {row.check}")
    print(f"written: {folder / 'gpu.md'}")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
