"""The timing protocol's arithmetic, and what it refuses to say."""

from __future__ import annotations

import json
import time

import pytest
import torch

from bench.machine import environment
from bench.protocol import Report, Row, Timing, hash_of, sets_for, time_calls


def report(passed: bool, base_passed: bool = True) -> Report:
    fast, slow = Timing.of([1.0], 1, "perf_counter"), Timing.of([3.0], 1, "perf_counter")
    rows = [
        Row("ops", "case", "torch", base_passed, "checked", slow, flop=6e9, bytes=3e9),
        Row("ops", "case", "ours", passed, "checked", fast, baseline="torch", items=4),
    ]
    return Report("Title", {"torch": "x"}, {"copy bytes/s": 2e9}, rows)


def test_a_speed_up_is_the_ratio_of_medians() -> None:
    made = report(True)
    assert made.speed_up(made.rows[1]) == 3.0
    assert "3.00x torch" in made.as_markdown()
    assert "1.0 (50 %)" in made.as_markdown()  # 3 GB in 3 s, of 2 GB/s
    assert json.loads(made.as_json())["rows"][1]["speed_up"] == 3.0


@pytest.mark.parametrize(("passed", "base_passed"), [(False, True), (True, False)])
def test_no_speed_up_where_a_check_failed(passed: bool, base_passed: bool) -> None:
    made = report(passed, base_passed)
    assert made.speed_up(made.rows[1]) is None
    assert "x torch" not in made.as_markdown()
    assert "FAILED: checked" in made.as_markdown()
    assert len(made.failures) == 1


def test_quantiles_and_impossible_times() -> None:
    timing = Timing.of([5.0, 1.0, 2.0, 3.0, 4.0, 6.0], 2, "events")
    assert (timing.p20, timing.p50, timing.p80) == (2.0, 3.5, 5.0)
    with pytest.raises(ValueError, match="positive finite"):
        Timing.of([0.0], 1, "events")
    with pytest.raises(ValueError, match="positive finite"):
        Timing.of([], 1, "events")


def test_rounds_are_interleaved_and_sleep_is_measured() -> None:
    order: list[str] = []

    def contender(name: str, seconds: float) -> object:
        return lambda i: (order.append(name), time.sleep(seconds))

    timed = time_calls({"a": contender("a", 0.002), "b": contender("b", 0.02)}, device="cpu", rounds=3)  # type: ignore[dict-item]
    assert "".join(order).endswith("b" + "ab" * 2)
    assert timed["a"].p50 >= 0.002
    assert timed["b"].p50 >= 0.02
    assert timed["b"].rounds == 3


def test_hash_sees_values_shapes_and_dtypes() -> None:
    x = torch.arange(4.0)
    others = [x.half(), x.reshape(2, 2), x + 1]
    assert hash_of([x]) == hash_of([x.clone()])
    assert len({hash_of([t]) for t in (x, *others)}) == 4


def test_environment_names_versions_and_commit() -> None:
    found = environment("cpu")
    assert found["torch"] == torch.__version__
    assert found["commit"]
    assert sets_for(1.0, "cpu") == 1
