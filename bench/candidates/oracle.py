"""Judges every backend with kernels of its own against its op's reference, in Triton's interpreter, in fp16.

    TRITON_INTERPRET=1 python -m bench.candidates.oracle [OP ...]     writes bench/results/candidates_oracle.json

Small shapes (`cases("tiny")`), forward and every gradient. It says that the source is right, not the machine code.
"""

from __future__ import annotations

import json
import os
import re
import sys

import torch
from v2f_kernels import BackendUnavailable

from bench.candidates.predictions import CANDIDATES
from bench.candidates.table import ORACLE
from bench.kernels import ops
from bench.kernels.case import Case, backends_of
from bench.kernels.cases import cases
from bench.kernels.interpreting import with_run_time_bounds
from v2f_engine.backends import op_named

OTHERS = ("torch", "reference", "native", "winograd", "cupy", "cudnn", "quack")
"""Backends without Triton kernels, or that need a card's library."""


def judged(only: tuple[str, ...] = ()) -> dict[str, dict[str, str]]:
    """op -> backend -> the worst of its verdicts in words; in fp32 where fp16 makes no sense.

    Args:
        only: ops; those of the candidates by default.
    """
    told: dict[str, dict[str, list[str]]] = {}
    wanted = set(only or (c.op for c in CANDIDATES))
    for case in cases("tiny"):
        if case.op not in wanted:
            continue
        for name in backends_of(op_named(case.op)):
            if name in OTHERS or (name.startswith("torch_") and name != "torch_joined"):
                continue
            for passed, words in _verdicts(case, name, torch.float16 if case.half else torch.float32):
                kept = told.setdefault(case.op, {}).setdefault(name, [])
                kept.append(words if passed else f"FAILED at {case.name}: {words}")
    return {
        op: {name: max(words, key=_badness) for name, words in listed.items()} for op, listed in told.items()
    }


def _badness(words: str) -> tuple[bool, float]:
    """Orders verdicts: failures last, then by the first number."""
    number = re.search(r"[0-9.]+(e[-+][0-9]+)?", words)
    return words.startswith("FAILED"), float(number[0]) if number else 0.0


def _verdicts(case: Case, name: str, dtype: torch.dtype) -> list[tuple[bool, str]]:
    """Forward and gradients, against the reference in fp64; a form that has no gradients is judged without."""
    try:
        function = op_named(case.op).backend(name)
    except BackendUnavailable:
        return []
    inputs = case.inputs(ops.SEED, "cpu", dtype)
    wide = torch.float64 if case.half else torch.float32
    told = []
    for run in (ops.run_forward, *([ops.run_gradients] if case.gradients else [])):
        try:
            found = run(case, function, inputs)
        except NotImplementedError:
            continue
        told.append(ops.yardstick(case, run, inputs, wide)(found))
    return told


def main(arguments: list[str]) -> int:
    if os.environ.get("TRITON_INTERPRET") != "1":
        print("Set TRITON_INTERPRET=1: without it Triton compiles, for which there is no GPU here.")
        return 2
    from triton.runtime import interpreter

    interpreter._patch_lang_tensor = with_run_time_bounds(interpreter._patch_lang_tensor)
    found = judged(tuple(arguments))
    if not arguments:
        ORACLE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    for op, verdicts in found.items():
        for name, words in verdicts.items():
            print(f"{op:24} {name:14} {words}")
    return 1 if any("FAILED" in words for listed in found.values() for words in listed.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
