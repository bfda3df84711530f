"""Energy from an imagined NVML, the steady minute, whole-network compilation, and pictures of a rehearsal's file."""

from __future__ import annotations

import ctypes
import json
import time
from pathlib import Path
from typing import Any

import pytest

from bench import plots
from bench.generation import energy, steady
from bench.protocol import Report, Row, Timing


class Nvml:
    """A board that draws 200 W; its counter is missing where `counter` is False."""

    def __init__(self, counter: bool = True) -> None:
        self.counter, self.asked = counter, b""

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, handle: Any) -> int:
        self.asked = uuid
        return 0 if uuid == b"GPU-1" else 6

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any, out: Any) -> int:
        ctypes.cast(out, ctypes.POINTER(ctypes.c_ulonglong))[0] = int(time.perf_counter() * 200e3)
        return 0 if self.counter else 3

    def nvmlDeviceGetPowerUsage(self, handle: Any, out: Any) -> int:
        ctypes.cast(out, ctypes.POINTER(ctypes.c_uint))[0] = 200_000
        return 0


@pytest.mark.parametrize(("counter", "method"), [(True, "counter"), (False, "samples")])
def test_energy_is_power_times_time(counter: bool, method: str) -> None:
    with energy.measured("cuda:0", energy.Board("GPU-1", Nvml(counter))) as used:
        time.sleep(0.2)
    assert used.method == method
    assert used.joules == pytest.approx(200 * used.seconds, rel=0.05, abs=0.5)
    assert "J an image (2" in used.per(10)


def test_without_nvml_the_reason_is_told_and_no_number() -> None:
    with energy.measured("cpu") as used:
        pass
    assert used.joules is None
    assert used.per(5) == "energy not measured: cpu has no NVML"
    with pytest.raises(OSError, match="nvmlDeviceGetHandleByUUID returned 6"):
        energy.Board("GPU-2", Nvml())


def test_samples_are_integrated_by_trapezoids() -> None:
    ramp = [(float(t), 100.0 * t) for t in range(1, 5)]
    assert energy._integral(ramp, 1.0, 4.0) == pytest.approx(750.0)
    assert energy._integral(ramp, 0.0, 5.0) == pytest.approx(750.0 + 100.0 + 400.0)
    assert energy._integral([], 0.0, 1.0) is None


def test_the_steady_minute_counts_every_call() -> None:
    calls = []
    board = energy.Board("GPU-1", Nvml())
    row, notes = steady.run(
        "ours",
        lambda: calls.append(time.sleep(0.01)),
        device="cpu",
        rows=4,
        seconds=0.3,
        check="ok",
        board=board,
    )
    assert row.timing is not None
    assert row.timing.rounds == len(calls) - 1  # one to warm up
    assert row.joules == pytest.approx(200 * 0.3 / row.timing.rounds, rel=0.2)
    assert "J an image" in row.check
    assert "first tenth" in notes[0]
    assert "| J/image |" in Report("t", {}, rows=[row]).as_markdown()


def table(title: str) -> dict[str, Any]:
    def row(section: str, contender: str, passed: bool, seconds: float, **work: Any) -> Row:
        return Row(section, "case", contender, passed, "ok", Timing(*[seconds] * 3, 1, 1, "graph"), **work)

    rows = [
        row("ladder, device only", "1 published", True, 2.0, items=4),
        row("ladder, device only", "2 faster", True, 1.0, items=4),
        row("ladder, device only", "3 broken", False, 0.1, items=4),
        row("ladder, null writer", "2 faster", True, 1.2, items=4),
        row("attention, forward", "triton", True, 1.0, flop=8.0, bytes=2.0),
        row("attention, forward", "sdpa flash", True, 2.0, flop=8.0, bytes=2.0),
        row("group_norm_silu, forward", "triton", True, 1.0, bytes=3.0),
        row("group_norm_silu, forward", "compile", False, 0.1, bytes=3.0),
    ]
    ceilings = {"copy bytes/s": 4.0, "matmul FLOP/s": 10.0}
    table: dict[str, Any] = json.loads(Report(title, {"cpu": "a CPU"}, ceilings, rows).as_json())
    return table


def test_pictures_hold_what_passed_and_say_what_they_are_not(tmp_path: Path) -> None:
    """SVG keeps its text only as outlines unless set otherwise, so it is set."""
    import matplotlib

    matplotlib.rcParams["svg.fonttype"] = "none"
    file = tmp_path / "gpu.json"
    file.write_text(json.dumps(table("Rehearsal on a CPU: NOT a measurement")))
    made = plots.draw(file)
    assert sorted(p.name for p in made) == ["ladder.png", "ladder.svg", "roofline.png", "roofline.svg"]
    assert all(p.stat().st_size > 5_000 for p in made if p.suffix == ".png")
    drawn = (tmp_path / "ladder.svg").read_text()
    assert "not a measurement" in drawn
    assert "2 faster" in drawn
    assert "3 broken" not in drawn
    assert "1 failed rows not drawn" in drawn
    roof = (tmp_path / "roofline.svg").read_text()
    assert "sdpa flash" in roof
    assert "group_norm_silu case: triton" in roof
    assert "compile" not in roof
    file.write_text(json.dumps(table("GPU checks and benchmarks")))
    plots.draw(file)
    assert "not a measurement" not in (tmp_path / "ladder.svg").read_text()


def test_a_file_without_rows_gives_no_picture(tmp_path: Path) -> None:
    (tmp_path / "gpu.json").write_text(json.dumps({**table("x"), "rows": []}))
    assert plots.draw(tmp_path / "gpu.json") == []
    assert plots.main([str(tmp_path / "gpu.json")]) == 1
