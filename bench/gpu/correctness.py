"""Work of the stage `correctness`: the tests for a GPU, every op against its oracle, and kernels compiled for later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from bench import ROOT, protocol
from bench.gpu.job import Context, Poisoned
from bench.kernels import ops
from bench.kernels.case import Case, Tensors
from bench.kernels.cases import cases

SECTION = "correctness"


def tests(context: Context, path: str, shard: int, of: int) -> None:
    """The shard's tests of a file, through pytest; a test that poisons the context ends this process only."""
    import pytest

    from bench.gpu.pytest_rows import Rows

    rows = Rows(context, shard, of)
    quiet = ["-q", "--tb=short", "-p", "no:cacheprovider", "-p", "no:benchmark", "-W", "ignore"]
    code = pytest.main([str(ROOT / path), *quiet], plugins=[rows])
    if rows.lost:
        raise Poisoned(rows.lost)
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise RuntimeError(f"pytest ended with {code!r} on {path}")


def dtypes(rehearsal: bool) -> tuple[torch.dtype, ...]:
    return (torch.float32,) if rehearsal else (torch.float16, torch.bfloat16, torch.float32)


def op(context: Context, name: str) -> None:
    """Every backend of one op at real shapes, with gradients, against the fp32 oracle; repeated runs bit by bit."""
    begun, noted = context.begun(), set[str]()
    for case in cases("tiny" if context.rehearsal else "real"):
        for dtype in dtypes(context.rehearsal):
            if case.op != name or (not case.half and dtype is not torch.float32):
                continue
            functions, missing = ops.contenders(case, context.device, dtype)
            for line in missing:
                if line not in noted:
                    context.note(line)
                    noted.add(line)
            inputs = case.inputs(ops.SEED, context.device, dtype)
            for contender, function in functions.items():
                _judge(context, case, contender, function, inputs, dtype, begun)


def _judge(
    context: Context,
    case: Case,
    contender: str,
    function: Callable[..., Any],
    inputs: Tensors,
    dtype: torch.dtype,
    begun: set[str],
) -> None:
    runs: dict[str, ops.Run] = {"forward": ops.run_forward}
    if case.gradients:
        runs["gradients"] = ops.run_gradients
    for kind, run in runs.items():
        label = f"{case.op} {case.name} {str(dtype).removeprefix('torch.')} {kind}, {contender}"
        if label in begun:
            continue
        context.begin(label)
        passed, words = checked(case, run, contender, function, inputs)
        context.row(protocol.Row(SECTION, label, contender, passed, words))
        if not passed and context.lost():
            raise Poisoned(f"the device answers no more after {label}")


def checked(
    case: Case, run: ops.Run, contender: str, function: Callable[..., Any], inputs: Tensors
) -> tuple[bool, str]:
    """(passed, in words); whatever it raises is a failure."""
    try:
        passed, words = ops.compare(case, run, function, inputs)
        same = ops.same_bits(case, run, function, inputs)
    except Exception as error:
        return False, f"{type(error).__name__}: {str(error)[:200]}"
    if contender == "torch":  # cuDNN may sum in another order each time; only ours promises
        return passed, words + "; repeated runs " + ("equal" if same else "differ")
    return passed and same, words + ("" if same else "; REPEATED RUNS DIFFER")
