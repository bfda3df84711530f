"""Work of the other stages: rejection, ops beside torch's alternatives, and the choice by shape."""

from __future__ import annotations

import sys

import torch

from bench import protocol
from bench.gpu import reject
from bench.gpu.correctness import dtypes
from bench.gpu.inference import network
from bench.gpu.job import Context, Poisoned
from bench.gpu.store import Record
from bench.kernels import ops
from bench.kernels.cases import cases
from v2f_engine.backends import choose, op_named
from v2f_engine.errors import BackendUnavailable

CHECK = "equal to the CPU"
STEP_S = 10.0
"""The choice finishes the step that is running when its seconds end."""


def rejection(context: Context, n: int, rounds: int) -> None:
    """Rejection of `n` vectors, timed; equality with the CPU is judged with the first of them."""
    try:
        op_named("reject_similar").backend("cupy")
    except BackendUnavailable as error:
        context.note(f"rejection of {n:,}: {error}")
        return
    if context.device == "cpu":
        context.note(f"rejection of {n:,}: needs a GPU")
        return
    words = next((r["row"] for r in context.store.mine() if _is_check(r)), None)
    if words is None or not words["passed"]:
        raise RuntimeError(f"not timed: the check {'failed' if words else 'wrote nothing'}")
    try:
        for row in reject.measure(n, rounds, words["check"]):
            context.row(row)
    except MemoryError as error:
        context.note(f"rejection: {error}")


def _is_check(record: Record) -> bool:
    return bool(record["kind"] == "row" and record["row"]["case"] == CHECK)


def rejection_check(context: Context) -> None:
    """Rejection's answer is the CPU's."""
    if context.device == "cpu":
        context.note("rejection on a GPU: needs a GPU")
        return
    try:
        passed, words = reject.check()
    except BackendUnavailable as error:
        context.note(f"rejection: {error}")
        return
    context.row(protocol.Row(reject.SECTION, CHECK, reject.OURS, passed, words))


def choice(context: Context, seconds: float, search: bool, after: str = "") -> None:
    """Measures backends by shape and writes the device's table.

    Args:
        seconds: at most, and what is left.
        search: launches as well; else backends alone.
        after: the job that decided the backends already, in this run.
    """
    from bench.kernels import choose
    from bench.kernels.contest import DeviceLost

    budget = 3.0 if context.rehearsal else min(seconds, context.left_s - STEP_S)
    begun = context.begun() | context.begun(after)
    try:
        choose.run(
            context.device,
            budget,
            context.row,
            note=context.note,
            begin=context.begin,
            begun=begun,
            search=search,
        )
    except DeviceLost as error:
        raise Poisoned(str(error)) from error


def eight_bit(context: Context, warm: bool = False) -> None:
    """The admission of the 8-bit convolutions: identity, then time by shape, then of the whole network.

    Args:
        warm: only compile what it launches; writes nothing.
    """
    from bench.generation import fp8, fp8_admission, rungs
    from bench.generation.fp8_network import eight_bit as replaced

    gpu = context.device != "cpu"
    if gpu and torch.cuda.get_device_capability(context.device) != (9, 0):
        context.note("8-bit convolutions: for compute capability 9.0")
        return
    base = choose(context.device, "fp16" if gpu else "fp32")
    model, backend = network(context.rehearsal), "triton" if gpu else "reference"
    if warm:
        made = replaced(fp8_admission.bound(model, base), backend)
        inputs = rungs.Batch.draw(2, base.device).device
        with torch.inference_mode():
            made.decode(inputs[0].to(base.dtype), *inputs[1:], rungs.N_DROPPED)
        return
    images = 4 if context.rehearsal else 64
    found = fp8.judged("mini", "mini", context.device, images)
    for row in fp8.identity_rows(found, "mini", images):
        context.row(row)
    rows, rounds = (2, 1) if context.rehearsal else (256, 10)
    told, _, words = fp8_admission.admission(
        model, base, backend, rows, (found[1][1], found[1][2]), rounds=rounds
    )
    for row in told:
        context.row(row)
    context.note(f"8-bit convolutions: {words}")


def op_times(context: Context, name: str) -> None:
    """One op against every torch alternative at real shapes: forward, then forward and backward."""
    mine = [case for case in cases("tiny" if context.rehearsal else "real") if case.op == name]
    todo = [(case, full) for full in (False, True) for case in mine if case.gradients or not full]
    noted = set[str]()
    for place, (case, full) in enumerate(todo):
        rows, missing = ops.measure(
            case,
            device=context.device,
            dtype=dtypes(context.rehearsal)[0] if case.half else torch.float32,
            rounds=1 if context.rehearsal else 15,
            budget_s=0.8 * context.left_s / (len(todo) - place),
            full=full,
        )
        for row in rows:
            context.row(row)
        for line in missing:
            if line not in noted:
                context.note(line)
                noted.add(line)
    sys.stdout.flush()
