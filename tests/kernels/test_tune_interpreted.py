"""The tuner end to end on interpreted kernels: keys are found, results judged, a configuration replaced."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.interpreter


def test_keys_are_found_judged_and_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.kernels import tune
    from bench.kernels.cases import layer_norm

    monkeypatch.setattr(tune, "keys_under_gate", lambda op: {"forward": ["a"], "backward": ["a"]})
    case = layer_norm(1, 64)
    works = {work.key: work for work in tune.work_of("layer_norm", [case], "cpu", [torch.float32])}
    assert set(works) == {"forward", "backward"}
    assert [len(work.runs) for work in works.values()] == [1, 1]
    forward = works["forward"]
    good = {**forward.start, "ROWS": 8}
    assert tune.check(forward, good, "cpu") == []
    assert "ValueError" in tune.check(forward, {**forward.start, "ROWS": 3}, "cpu")[0]  # no power of two
    timed = tune.seconds(forward, {"one": {**forward.start, "ROWS": 1}, "many": good}, "cpu", 1, 1.0)
    assert timed["one"] > timed["many"] > 0  # 45 programs against 6: the interpreter runs them in turn

    def only(op: str, key: str, entry: Any) -> list[str]:
        return [] if entry["num_warps"] == 4 and entry["ROWS"] <= 16 else ["not here"]

    found = tune.tune(forward, only, "cpu", rounds=1, budget_s=60.0)
    assert found.entry["ROWS"] > forward.start["ROWS"]
    assert found.gain > tune.GAIN


def test_a_backend_and_its_launch_are_chosen_end_to_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Everything `bench.kernels.choose` does on a card, with interpreted kernels: judge, clock, search, table."""
    from v2f_kernels import _tuned
    from v2f_kernels._triton import launch

    from bench.kernels import choose, tune
    from bench.kernels.cases import layer_norm
    from bench.kernels.device_table import DeviceTable, forget
    from bench.kernels.network_calls import Item

    shutil.copy(_tuned.TUNED / "default.json", tmp_path)
    monkeypatch.setattr(launch, "TUNED", tmp_path)
    monkeypatch.setattr(launch, "_section_name", lambda device: "A Card")
    monkeypatch.setattr(tune, "keys_under_gate", lambda op: {"forward": ["a"], "backward": ["a"]})
    monkeypatch.setattr(tune, "compile_gate", lambda capability: lambda op, key, entry: [])
    monkeypatch.setattr(choose, "REACH", 1e9)  # an interpreter is slower than torch by far
    op = _tuned.op_named("layer_norm")
    monkeypatch.setattr(
        choose, "contenders", lambda item, device: ({n: op.backend(n) for n in ("torch", "triton")}, [])
    )
    case = replace(layer_norm(1, 64), gradients=())
    item = Item("layer_norm", "D=64", "fp32", False, ((case, 3),), (case,), 1.0)
    rows: list[Any] = []
    notes: list[str] = []
    measured = dict.fromkeys(_tuned.MEASURED, "x") | {"capability": 90}
    try:
        forget()
        table = DeviceTable("A Card", measured, tmp_path)
        state = choose.Choosing(
            "cpu", table, time.perf_counter() + 60.0, rows.append, notes.append, lambda label: None, (),
            None, choose.judged, time.perf_counter,
        )  # fmt: skip
        choose.decide(state, item)
        choose._search(state, [item])
        written = _tuned.tables(tmp_path)["A Card"]
    finally:
        monkeypatch.undo()
        forget()
    assert all(row.passed and row.timing is not None for row in rows), [row.check for row in rows]
    assert [row.contender for row in rows] == ["torch", "triton"] * 2  # again with the launches found
    assert written.backends["layer_norm"]["D=64, fp32"].use == "torch"
    assert (
        written.launch["layer_norm"]["forward"]["ROWS"] > 4
    )  # the default's; fewer programs are faster in turn
