"""The tuner end to end on interpreted kernels: keys are found, results judged, a configuration replaced."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytestmark = pytest.mark.interpreter


def test_keys_are_found_judged_and_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench import tune
    from bench.cases import layer_norm

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
