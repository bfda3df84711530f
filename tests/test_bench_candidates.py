"""The table of candidates names what there is: ops, backends, kernels under the gate, and no time of no card."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from v2f_kernels import _tuned
from v2f_kernels._op import CANDIDATES as WAITING

from bench import RESULTS
from bench.candidates import enlist, table
from bench.candidates.predictions import CANDIDATES

NO_OPS = {"image_decoder", "discriminator", "optimiser"}
"""Parts of the engine that a candidate changes and that are no ops."""


def test_every_candidate_is_a_backend_or_a_part_of_the_engine() -> None:
    enlist()
    for one in CANDIDATES:
        if one.op in NO_OPS:
            assert one.backend is None
            assert one.proven, one.name
            continue
        known = {**_tuned.op_named(one.op).backends, **WAITING.get(one.op, {})}
        assert one.backend is None or one.backend in known, one.name
    waiting = {(op, name) for op, listed in WAITING.items() for name in listed}
    told = {(one.op, one.backend) for one in CANDIDATES}
    assert {("conv3x3", "triton_flat"), ("gelu_linear", "cudnn"), ("gelu_linear", "quack")} <= told & waiting


def test_every_named_kernel_is_under_the_gate() -> None:
    rows = json.loads((RESULTS / "aot.json").read_text())["rows"]
    for one in CANDIDATES:
        for folder, kernel in one.kernels:
            gate = table.gate_of(replace(one, kernels=((folder, kernel),)), rows)
            assert gate is not None
            assert gate.kernels, f"{one.name}: {folder}/{kernel}"
            assert gate.stack == 0, f"{one.name}: {gate}"


def test_the_interpreter_judged_every_kernel_of_ours_and_found_it_right() -> None:
    found = json.loads(table.ORACLE.read_text())
    for one in CANDIDATES:
        if one.kernels:
            assert "error" in table.oracle_of(one, found), one.name
            assert "FAILED" not in table.oracle_of(one, found), one.name


def test_the_committed_table_is_what_the_command_writes() -> None:
    assert table.FILE.read_text() == table.markdown()


def test_a_time_comes_from_a_result_file_and_nowhere_else(tmp_path: Path) -> None:
    one = next(c for c in CANDIDATES if c.backend == "torch_joined")
    assert table.measured(one, tmp_path) == "unmeasured"
    timing = {"p20": 3e-6, "p50": 4e-6, "p80": 5e-6}
    rows = [
        {"case": f"{one.op} C=128 O=128 HW=112, fp16", "contender": "torch_joined", "timing": timing},
        {"case": f"{one.op} C=128 O=128 HW=112, fp16", "contender": "torch", "timing": timing},
        {"case": f"{one.op} C=128 O=128 HW=56, fp16", "contender": "torch_joined", "timing": None},
    ]
    (tmp_path / "a-card").mkdir()
    (tmp_path / "a-card" / "gpu.json").write_text(json.dumps({"rows": rows}))
    assert table.measured(one, tmp_path) == f"a-card: {one.op} C=128 O=128 HW=112, fp16: 4.00 us"
