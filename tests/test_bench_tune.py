"""Tuning without a card: the walk, what is refused, and what is written. Times here are made up by the test."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from v2f_kernels._triton import launch

from bench.kernels import tune
from bench.kernels.cases import attention
from bench.kernels.device_table import DeviceTable, forget

START = {"num_warps": 4, "num_stages": 2, "BLOCK_M": 64, "BLOCK_K": 32}


def work() -> tune.Work:
    return tune.Work("gelu_linear", "forward/half", dict(START))


def costs(entry: Any) -> float:
    """Least at 8 warps, 3 stages, BLOCK_M 128, BLOCK_K 32."""
    best = {"num_warps": 8, "num_stages": 3, "BLOCK_M": 128, "BLOCK_K": 32}
    return 1.0 + sum(abs(entry[name] - value) / value for name, value in best.items())


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, int]]:
    timed: list[dict[str, int]] = []

    def seconds(of: Any, entries: Any, *rest: Any) -> dict[str, float]:
        timed.append(dict(entries["new"]))
        return {name: costs(entry) for name, entry in entries.items()}

    monkeypatch.setattr(tune, "seconds", seconds)
    monkeypatch.setattr(tune, "check", lambda *_: [])
    return timed


def test_the_walk_ends_where_no_neighbour_is_faster(measured: list[dict[str, int]]) -> None:
    found = tune.tune(work(), lambda *_: [], "cpu")
    assert found.entry == {"num_warps": 8, "num_stages": 3, "BLOCK_M": 128, "BLOCK_K": 32}
    assert found.gain == pytest.approx(costs(START))
    assert len(measured) == len({json.dumps(entry) for entry in measured})  # none twice


def test_what_the_gate_or_the_oracle_refuses_is_never_timed(
    monkeypatch: pytest.MonkeyPatch, measured: list[dict[str, int]]
) -> None:
    monkeypatch.setattr(tune, "check", lambda w, entry, d: ["wrong"] if entry["num_stages"] == 3 else [])
    found = tune.tune(work(), lambda op, key, entry: ["spills"] if entry["num_warps"] == 8 else [], "cpu")
    assert found.entry == {**START, "BLOCK_M": 128}
    assert not any(entry["num_warps"] == 8 or entry["num_stages"] == 3 for entry in measured)
    log = " ".join(found.log)
    assert "spills" in log
    assert "wrong" in log


def test_a_start_that_fails_its_oracle_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, measured: list[dict[str, int]]
) -> None:
    monkeypatch.setattr(tune, "check", lambda *_: ["gradient of x: off"])
    found = tune.tune(work(), lambda *_: [], "cpu")
    assert found.entry == START
    assert measured == []
    assert "gradient of x" in found.log[0]


def test_a_tie_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "check", lambda *_: [])
    monkeypatch.setattr(tune, "seconds", lambda *_: {"best": 1.02, "new": 1.0})
    assert tune.tune(work(), lambda *_: [], "cpu").entry == START


def test_neighbours_are_one_power_of_two_away_and_stages_need_a_loop() -> None:
    assert tune.neighbours({"num_warps": 16, "num_stages": 1, "TILE": 4096}) == [
        {"num_warps": 8, "num_stages": 1, "TILE": 4096},
        {"num_warps": 16, "num_stages": 1, "TILE": 2048},
        {"num_warps": 16, "num_stages": 1, "TILE": 8192},
    ]


def test_a_trial_reaches_every_thread_and_ends() -> None:
    seen: list[Any] = []

    def ask(variant: str = "half") -> None:
        seen.append(launch.launch_config("attention", "forward", torch.device("cpu"), variant))

    with (
        tune.observed() as asked,
        tune.trying("attention", "forward/half", {"num_warps": 2, "num_stages": 3}),
    ):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        ask("fp32")
    ask()
    assert (seen[0].num_warps, seen[0].num_stages) == (2, 3)
    assert seen[1].num_warps == 8
    assert seen[2].source == "default:forward/half"
    assert asked == [("attention", "forward", "fp32")]  # a trial is answered before anybody looks it up


def test_what_is_written_is_read_by_launches_on_that_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copy(launch.TUNED / "default.json", tmp_path)
    before = dict(launch.sections("layer_norm")["default"])
    monkeypatch.setattr(launch, "TUNED", tmp_path)
    measured = {
        "capability": 90,
        "ptxas": "1",
        "triton": "1",
        "torch": "1",
        "date": "d",
        "commit": "c",
        "source": "s",
    }
    forward = {"num_warps": 2, "num_stages": 1, "ROWS": 8}
    backward = {"num_warps": 2, "num_stages": 1, "ROWS": 1, "PROGRAMS": 256}
    try:
        DeviceTable("A Card", measured, tmp_path).launch("layer_norm", "forward", forward)
        DeviceTable("A Card", measured, tmp_path).launch("layer_norm", "backward", backward)
        table = dict(launch.sections("layer_norm"))
        assert table["default"] == before
        assert table["A Card"] == {"capability": 90, "forward": forward, "backward": backward}
        config = launch._lookup("layer_norm", "forward", "block=1024", "A Card")
        assert (config.arguments, config.source) == (forward, "A Card:forward")
        assert set(launch.sections("attention")) == {"default"}  # the card has no launches of its own there
    finally:
        forget()


def test_a_case_that_only_judges_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = work()
    case = attention(1, 9, 1, 16)
    made.also = [(case, tune.ops.run_forward, torch.float32)]
    monkeypatch.setattr(tune, "triton_form", lambda *_: lambda *_: torch.zeros(1, 9, 16))
    assert "attention B1 N9 H1 d16" in tune.check(made, START, "cpu")[0]  # zeros are refused
    assert tune.seconds(made, {"best": START}, "cpu", 1, 1.0) == {"best": 0.0}
