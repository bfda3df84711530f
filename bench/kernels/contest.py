"""A contest between the backends of one item of the network: who may take part, who is right, how fast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from v2f_kernels import _tuned

from bench import protocol
from bench.kernels import ops
from bench.kernels.around import Norms, asked_for_all, joinable, within
from bench.kernels.network_calls import DTYPES, Item

ROUNDS = 15
ITEM_S = 0.8
"""Seconds of timing for one item; judging and compiling come on top."""
Functions = Mapping[str, Callable[..., Any]]


class DeviceLost(RuntimeError):
    """The CUDA context answers no more: this process can measure nothing further; what it decided is written."""


def judged(item: Item, name: str, function: Callable[..., Any], device: str) -> tuple[bool, str]:
    """Against the op's reference on every case, with gradients where the item has them, and of a convolution with the
    norm before it and the statistics of what it writes, as the network may ask for them.

    Raises:
        DeviceLost: the device does not answer after a failure.
    """
    run_of = ops.run_gradients if item.gradients else ops.run_forward
    words = ""
    for case in item.checks:
        inputs = case.inputs(ops.SEED, device, DTYPES[item.dtype] if case.half else torch.float32)
        for asked in (case, *asked_for_all(case)):
            try:
                passed, words = ops.compare(asked, run_of, function, inputs)
            except Exception as error:  # one backend that cannot run must not end the rest
                passed, words = False, f"{type(error).__name__}: {str(error)[:200]}"
            if not passed:
                still_there(device, f"{item.label}, {name}")
                return False, f"{asked.name}: {words}"
    return True, words


def timed(item: Item, functions: Functions, device: str, norms: Norms) -> dict[str, float]:
    """Interleaved rounds of `bench.protocol`, every case weighted by how often the network calls it, each contender
    with all that it leaves to the ops around it and another would do (`around`).

    Args:
        norms: what runs a norm of an item's dtype.
    """
    total = dict.fromkeys(functions, 0.0)
    parts = joinable(functions.values())
    run_of = ops.run_gradients if item.gradients else ops.run_forward
    for case, times in item.cases:
        dtype = DTYPES[item.dtype] if case.half else torch.float32
        inputs = case.inputs(ops.SEED, device, dtype)
        size = sum(float(t.numel() * t.element_size()) for t in inputs.values())
        sets = protocol.sets_for(2 * size, device)
        batches = [inputs, *(case.inputs(ops.SEED + i, device, dtype) for i in range(1, sets))]
        calls = {
            name: ops._call(case, run_of, within(case, function, parts, norms), batches)
            for name, function in functions.items()
        }
        share = ITEM_S / len(item.cases)
        rounds = 1 if device == "cpu" else ROUNDS
        measured = protocol.time_calls(calls, device=device, rounds=rounds, budget_s=share, sets=sets)
        rows = next(iter(inputs.values())).shape[0]
        for name, timing in measured.items():
            total[name] += timing.p50 / rows * times / item.calls
    return total


def contenders(item: Item, device: str) -> tuple[dict[str, Callable[..., Any]], list[str]]:
    """Backends that can be imported here; in a rehearsal the reference stands in for Triton."""
    functions, missing = ops.contenders(item.cases[0][0], device, DTYPES[item.dtype])
    if device == "cpu":
        functions["reference"] = _tuned.op_named(item.op).backend("reference")
        missing = []
    return functions, missing


def still_there(device: str, label: str) -> None:
    if device == "cpu":
        return
    try:
        torch.cuda.synchronize(torch.device(device))
    except RuntimeError as error:
        raise DeviceLost(f"the device answers no more after {label}: {str(error)[:200]}") from error
