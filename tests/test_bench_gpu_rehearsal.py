"""`make gpu` rehearsed on a CPU: every section's code runs, is judged, and survives a broken neighbour."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bench import gpu, ops
from bench.cases import cases
from bench.protocol import Row, Timing
from v2f_engine.backends import OPS, op_named


def test_the_rehearsal_runs_every_section_and_says_what_it_left_out(tmp_path: Path) -> None:
    assert gpu.main(["--rehearse", "--out", str(tmp_path)]) == 0
    told = json.loads((tmp_path / "gpu.json").read_text())
    assert "NOT a measurement" in told["title"]
    assert all(row["passed"] for row in told["rows"])
    sections = {row["section"] for row in told["rows"]}
    assert {"correctness", "ladder, device only", "training step", "attention, forward"} <= sections
    assert any("needs a GPU" in note for note in told["notes"])
    assert set(told["ceilings"]) == {"copy bytes/s", "matmul FLOP/s"}
    checked = " ".join(row["case"] for row in told["rows"] if row["section"] == "correctness")
    assert all(op in checked for op in OPS)


def test_a_section_that_breaks_is_a_failed_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(setting: gpu.Setting) -> gpu.Found:
        raise RuntimeError("an illegal memory access")

    monkeypatch.setitem(gpu.EVERY, "kernels", (breaks, 1.0))
    found = gpu.run_section("kernels", gpu.Setting("cpu", "tiny", 1.0, True))
    assert [row.passed for row in found.rows] == [False]
    assert "illegal memory access" in found.rows[0].check


def test_a_section_that_hangs_or_dies_keeps_what_it_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dies, hangs = tmp_path / "dies", tmp_path / "hangs"
    known = gpu.Found([Row("a", "b", "c", True, "ok")])
    (tmp_path / "told").write_text(gpu.encoded(known) + "\n")
    dies.write_text(f"#!/bin/sh\ncat {tmp_path / 'told'}\nexit 134\n")
    hangs.write_text(f"#!/bin/sh\ncat {tmp_path / 'told'}\nexec sleep 30\n")
    for script in (dies, hangs):
        script.chmod(0o755)
    monkeypatch.setattr(gpu, "GRACE_S", 0.2)
    monkeypatch.setattr(gpu.sys, "executable", str(dies))
    found = gpu.in_own_process("ladder", [], 10.0)
    assert found.rows[0] == known.rows[0]  # what was known before is kept
    assert "status 134" in found.rows[1].check
    monkeypatch.setattr(gpu.sys, "executable", str(hangs))
    found = gpu.in_own_process("ladder", [], 2.0)
    assert found.rows[0] == known.rows[0]
    assert "ended after" in found.rows[1].check


def test_findings_survive_the_way_between_processes() -> None:
    rows = [
        Row("a", "b", "c", True, "ok", Timing(1.0, 0.9, 1.1, 3, 2, "graph")),
        Row("a", "b", "d", False, "no"),
    ]
    found = gpu.Found(rows, ["note"], {"copy bytes/s": 1.0})
    assert gpu.decoded(gpu.encoded(found)) == found


def test_all_sections_fit_in_nine_minutes() -> None:
    assert sum(budget + gpu.GRACE_S for _, budget in gpu.SECTIONS.values()) <= 540


@pytest.mark.parametrize("op", ["attention", "group_norm_silu", "to_uint8"])
def test_a_wrong_kernel_fails_its_check_and_gets_no_time(op: str) -> None:
    case = next(case for case in cases("tiny") if case.op == op)
    torch_form = op_named(op).backend("torch")

    def wrong(*args: object, **kwargs: object) -> torch.Tensor:
        made: torch.Tensor = torch_form(*args, **kwargs)
        return made + 2 if made.dtype == torch.uint8 else made * 1.001

    inputs = case.inputs(0, "cpu", torch.float32)
    assert ops.compare(case, ops.run_forward, torch_form, inputs)[0]
    assert not ops.compare(case, ops.run_forward, wrong, inputs)[0]


def test_without_a_gpu_nothing_is_run_or_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("about machines without a GPU")
    assert gpu.main(["--out", str(tmp_path / "never")]) == 2
    assert "nothing was run" in capsys.readouterr().out
    assert not (tmp_path / "never").exists()
