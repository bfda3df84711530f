"""Every op: each backend that can run here is judged, then timed.

    python -m bench.kernels.ops                     small shapes on this CPU, under a minute
    python -m bench.kernels.ops --size real --device cuda --dtype float16

A backend is judged against `reference` on the same inputs in fp32: its error may be twice that of plain torch in
the same dtype; bytes may differ by one grey level; indices must be equal. A backend that fails is shown as failed
and no ratio is printed for it. `bench/kernels/cases.py` has the shapes and the arithmetic behind GB/s and GFLOP/s.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from v2f_kernels import BackendUnavailable
from v2f_kernels._judge import judge

from bench import machine, protocol
from bench.candidates import enlist
from bench.kernels.case import SIZES, Alternative, Case, Tensors, apply, backends_of, flat, least_bytes
from bench.kernels.cases import cases
from v2f_engine.backends import op_named

enlist()  # what contends here is what `kernels/` ships and what waits in `candidates/`
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SEED = 2026
OF_ARRAYS = {("perturb", "native")}
"""Backends that torch tensors cannot be given to."""
ON_A_GPU = {"triton", "triton_flat", "triton_resident", "cupy", "cudnn", "quack", "torch_joined"}
"""Backends with kernels of their own, or that end in one."""
ON_A_CPU = {"winograd"}
"""Compiled for a CPU, in bf16; elsewhere they would be told as failed wherever they contend."""
HALF_ONLY = {"torch_folded"}
"""A folded weight is rounded once more, which half precision does not see and fp32's judge does (9.7e-8, 8.7e-8 allowed
at 3x3 pixels)."""


def widened(inputs: Tensors, wide: torch.dtype = torch.float32) -> Tensors:
    """The same values in fp32 or fp64, for the oracle."""
    return {name: t.to(wide) if t.is_floating_point() else t for name, t in inputs.items()}


def run_forward(case: Case, function: Callable[..., Any], inputs: Tensors) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return {f"output {i}": part for i, part in enumerate(flat(apply(case, function, inputs)))}


def run_gradients(case: Case, function: Callable[..., Any], inputs: Tensors) -> dict[str, torch.Tensor]:
    """Gradients by name, for a cotangent that depends on the outputs' shapes alone."""
    leaves = _leaves(case, inputs)
    outputs = flat(apply(case, function, leaves))
    cotangents = [_cotangent(o, SEED + i) for i, o in enumerate(outputs)]
    wanted = [leaves[name] for name in case.gradients]
    made = torch.autograd.grad(outputs, wanted, cotangents)
    return {f"gradient of {name}": g for name, g in zip(case.gradients, made, strict=True)}


def _cotangent(output: torch.Tensor, seed: int) -> torch.Tensor:
    """Normal numbers that every dtype holds exactly, so that all contenders get the same."""
    generator = torch.Generator(output.device).manual_seed(seed)
    drawn = torch.randn(output.shape, generator=generator, device=output.device)
    return drawn.bfloat16().to(output.dtype)


Run = Callable[[Case, Callable[..., Any], Tensors], dict[str, torch.Tensor]]


def compare(case: Case, run: Run, function: Callable[..., Any], inputs: Tensors) -> tuple[bool, str]:
    """(passed, in words): `function` against the op's reference on these inputs.

    On a CPU fp32 is judged by fp64: there the reference's operators are torch's own, whose error against it is none.
    """
    exact = case.half and all(
        t.device.type == "cpu" and t.dtype == torch.float32 for t in inputs.values() if t.is_floating_point()
    )
    wide = torch.float64 if exact else torch.float32
    return yardstick(case, run, inputs, wide)(run(case, function, inputs))


def yardstick(
    case: Case, run: Run, inputs: Tensors, wide: torch.dtype = torch.float32
) -> Callable[[dict[str, torch.Tensor]], tuple[bool, str]]:
    """What says (passed, in words) of results on these inputs; the reference (in `wide`) and plain torch run once."""
    op = op_named(case.op)
    oracle = run(case, op.backend("reference"), widened(inputs, wide))
    if case.judge == "exact":
        return partial(_exact, oracle)
    native = run(case, case.plain or op.backend("torch"), inputs)
    if case.judge == "bytes":
        return lambda mine: _grey(mine["output 0"], oracle["output 0"], native["output 0"])
    return partial(_judged, oracle, native)


def _exact(oracle: dict[str, torch.Tensor], mine: dict[str, torch.Tensor]) -> tuple[bool, str]:
    equal = all(torch.equal(mine[name].cpu(), oracle[name].cpu()) for name in oracle)
    return equal, "equal to the reference" if equal else "differs from the reference"


def _judged(
    oracle: dict[str, torch.Tensor], native: dict[str, torch.Tensor], mine: dict[str, torch.Tensor]
) -> tuple[bool, str]:
    verdicts = {name: judge(mine[name], oracle[name], native[name]) for name in oracle}
    failed = [f"{name}: {verdict}" for name, verdict in verdicts.items() if not verdict.passed]
    worst = max(verdict.largest for verdict in verdicts.values())
    return not failed, "; ".join(failed) or f"largest error {worst:.1e}"


def _grey(mine: torch.Tensor, oracle: torch.Tensor, native: torch.Tensor) -> tuple[bool, str]:
    off, theirs = ((x.int() - oracle.int()).abs() for x in (mine, native))
    share, allowed = float((off > 0).float().mean()), 2 * float((theirs > 0).float().mean()) + 1e-4
    largest = int(off.max())
    return largest <= max(1, int(theirs.max())) and share <= allowed, (
        f"{100 * share:.2f} % of bytes off (allowed {100 * allowed:.2f} %), by at most {largest}"
    )


def same_bits(case: Case, run: Run, function: Callable[..., Any], inputs: Tensors, times: int = 3) -> bool:
    """Whether repeated runs on the same inputs give the same bits."""
    first = run(case, function, inputs)
    return all(
        torch.equal(value, first[name])
        for _ in range(times - 1)
        for name, value in run(case, function, inputs).items()
    )


def contenders(
    case: Case, device: str, dtype: torch.dtype | None = None
) -> tuple[dict[str, Callable[..., Any]], list[str]]:
    """(name -> function) of the backends that exist and can be imported here, and why others cannot.

    `dtype`: of the inputs, where a backend that knows no other may not contend.
    """
    op, found, missing = op_named(case.op), {}, []
    for name in backends_of(op):
        if (case.op, name) in OF_ARRAYS:
            missing.append(f"{case.op}/{name}: takes NumPy arrays; `make unit` judges it")
            continue
        if device == "cpu" and name in ON_A_GPU:
            missing.append(f"{case.op}/{name}: needs a GPU")
            continue
        if name in ON_A_CPU and (device != "cpu" or dtype not in (None, torch.bfloat16)):
            missing.append(f"{case.op}/{name}: multiplies bfloat16 on a CPU")
            continue
        if name in HALF_ONLY and dtype is torch.float32:
            missing.append(f"{case.op}/{name}: made for half precision")
            continue
        try:
            found[name] = op.backend(name)
        except BackendUnavailable as error:
            missing.append(str(error))
    return found, missing


def measure(
    case: Case, *, device: str, dtype: torch.dtype, rounds: int, budget_s: float, full: bool = False
) -> tuple[list[protocol.Row], list[str]]:
    """Judges and times every backend (and, on a GPU, every torch alternative) of a case.

    `full`: forward and backward together, the gradients judged; otherwise the forward pass alone.
    """
    run = run_gradients if full else run_forward
    inputs = case.inputs(SEED, device, dtype)
    functions, missing = contenders(case, device, dtype)
    functions = {"reference": op_named(case.op).backend("reference"), **functions}
    if case.plain is not None:
        functions["plain torch"] = case.plain
    if device != "cpu":
        functions |= {name: Alternative(way) for name, way in case.alternatives.items()}
    checks, size = {}, 0.0
    for name, function in functions.items():
        try:
            made = run(case, function, inputs)
            size = size or least_bytes(inputs, tuple(made.values()))
            passed = (True, "the judge") if name == "reference" else compare(case, run, function, inputs)
            checks[name] = passed
        except Exception as error:  # a contender that cannot run here must not end the table
            checks[name] = (False, f"cannot run: {type(error).__name__}: {str(error)[:160]}")
    sets = protocol.sets_for(size, device)
    batches = [inputs, *(case.inputs(SEED + i, device, dtype) for i in range(1, sets))]
    calls = {n: _call(case, run, functions[n], batches) for n, (passed, _) in checks.items() if passed}
    timed = protocol.time_calls(calls, device=device, rounds=rounds, budget_s=budget_s, sets=sets)
    base = next((n for n in ("torch", "plain torch") if n in functions), "reference")
    rows = [
        protocol.Row(
            f"{case.op}, forward and backward" if full else f"{case.op}, forward",
            f"{case.name} {str(dtype).removeprefix('torch.')}",
            name,
            passed,
            words,
            timed.get(name),
            flop=case.flop * (3 if full else 1),  # backward-data and backward-weight cost a forward each
            bytes=size,
            inputs=protocol.hash_of(inputs.values()),
            baseline=base if name != "reference" else "",
        )
        for name, (passed, words) in checks.items()
    ]
    return rows, missing


def _call(case: Case, run: Run, function: Any, batches: list[Tensors]) -> protocol.Call:
    """What is timed. For gradients, leaves and cotangents are made beforehand: only the op is timed."""
    if run is run_forward:
        return lambda i: run(case, function, batches[i % len(batches)])
    ready = []
    for inputs in batches:
        leaves = _leaves(case, inputs)
        outputs = flat(apply(case, function, leaves))
        cotangents = [_cotangent(o, SEED + i) for i, o in enumerate(outputs)]
        ready.append((leaves, [leaves[name] for name in case.gradients], cotangents))

    def call(i: int) -> object:
        leaves, wanted, cotangents = ready[i % len(ready)]
        return torch.autograd.grad(flat(apply(case, function, leaves)), wanted, cotangents)

    return call


def _leaves(case: Case, inputs: Tensors) -> Tensors:
    return {n: t.detach().clone().requires_grad_() if n in case.gradients else t for n, t in inputs.items()}


def table(
    chosen: Iterable[Case], *, device: str, dtype: torch.dtype, rounds: int, budget_s: float
) -> protocol.Report:
    """The report of all cases within a budget of seconds."""
    report = protocol.Report("Ops, each judged and then timed", machine.environment(device))
    end, left = time.perf_counter() + budget_s, list(chosen)
    while left:
        case = left.pop(0)
        remaining = end - time.perf_counter()
        if remaining <= 0:
            report.notes.append(f"out of time: not measured: {case.op} {case.name}")
            continue
        kind = dtype if case.half else torch.float32
        rows, missing = measure(
            case, device=device, dtype=kind, rounds=rounds, budget_s=remaining / (len(left) + 1)
        )
        report.rows += rows
        report.notes += [line for line in missing if line not in report.notes]
    return report


def check_only(chosen: Iterable[Case], device: str, dtype: torch.dtype) -> int:
    """Every backend once, forward and gradients, without the torch alternatives: what compute-sanitizer watches."""
    failed = 0
    for case in chosen:
        inputs = case.inputs(SEED, device, dtype if case.half else torch.float32)
        for name, function in contenders(case, device)[0].items():
            for run in (run_forward, *([run_gradients] if case.gradients else [])):
                passed, words = compare(case, run, function, inputs)
                failed += not passed
                kind = run.__name__.removeprefix("run_")
                print(f"{'ok' if passed else 'FAILED'}  {case.op} {case.name} {name} {kind}: {words}")
    return 1 if failed else 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="float32")
    parser.add_argument("--op", action="append", help="only this op; may be repeated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check-only", action="store_true", help="judge forward and gradients, time nothing")
    parser.add_argument("--budget", type=float, default=45.0, help="seconds for all timing")
    parser.add_argument("--out", type=Path, help="folder for ops.json and ops.md")
    options = parser.parse_args(arguments)
    chosen = [case for case in cases(options.size) if not options.op or case.op in options.op]
    if not chosen:
        parser.error(f"--op {options.op}: known: {sorted({case.op for case in cases(options.size)})}")
    if options.check_only:
        return check_only(chosen, options.device, DTYPES[options.dtype])
    report = table(
        chosen,
        device=options.device,
        dtype=DTYPES[options.dtype],
        rounds=options.rounds,
        budget_s=options.budget,
    )
    print(report.as_markdown())
    if options.out:
        report.write(options.out, "ops")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
