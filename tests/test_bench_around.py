"""Contenders that join the norms around a convolution against those that do not: the same stretch for all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from v2f_kernels import _tuned
from v2f_kernels._contract import BIAS, NORM, SHIFT, STATISTICS, joins

from bench import protocol
from bench.kernels import choose, ops
from bench.kernels.around import joinable, within
from bench.kernels.cases import conv3x3, upsample
from bench.kernels.device_table import forget
from bench.kernels.network_calls import items
from v2f_engine.models.vec2face import Vec2FaceConfig


def test_convolutions_know_the_norms_around_them() -> None:
    """Of base size, in generation: every input comes from a norm, and a norm reads all but what is upsampled."""
    found = {
        i.shape: i.cases
        for i in items(Vec2FaceConfig.base(), dtype="fp16", gradients=False)
        if i.op == "conv3x3"
    }
    around = {
        (case.name.partition(" ")[2], case.before, case.behind): n for case, n in found["C=256 O=256 HW=28"]
    }
    assert around == {
        ("C256 28x28", 32, 32): 2,
        ("C256 28x28 + residual", 32, 32): 1,
        ("C256 28x28 + residual", 32, 0): 1,  # the last before the upsampling
    }
    assert all(
        case.before == case.behind == 32 for case, _ in found["C=128 O=128 HW=112"]
    )  # the tail has a norm too
    training = items(Vec2FaceConfig.base(), dtype="bf16", gradients=True)
    assert not any(case.before or case.behind for i in training for case, _ in i.cases)


class Around:
    """Contenders that note what they are asked for, timed within what they leave to others."""

    def __init__(self, **joining: tuple[str, ...]) -> None:
        self.asked: dict[str, list[str]] = {name: [] for name in joining}
        self.functions = {name: self.contender(name, parts) for name, parts in joining.items()}

    def contender(self, name: str, parts: tuple[str, ...]) -> Callable[..., Any]:
        def function(*args: Any, **named: Any) -> Any:
            self.asked[name].append("conv" + "".join(f" {n}" for n in ("norm", "out_groups") if n in named))
            return _tuned.op_named("conv3x3").backend("reference")(*args, **named)

        return joins(*parts)(function) if parts else function

    def run(self, before: int = 4, behind: int = 4) -> dict[str, Any]:
        case = replace(conv3x3(1, 8, 5, residual=True), before=before, behind=behind)
        inputs = case.inputs(1, "cpu", torch.float32)
        parts = joinable(self.functions.values())
        made = {}
        for name, function in self.functions.items():
            made[name] = case.call(within(case, function, parts, partial(self.norm, name)), inputs)
        return made

    def norm(self, name: str, channels: int, side: int) -> Callable[..., Any]:
        assert (channels, side) == (8, 5)

        def function(*args: Any, **named: Any) -> Any:
            self.asked[name].append("norm" + " given" * (named.get("statistics") is not None))
            return _tuned.op_named("group_norm_silu").backend("reference")(*args, **named)

        return function


def test_each_contender_is_timed_with_what_it_leaves_to_others() -> None:
    bench = Around(bare=(), sums=(STATISTICS,), whole=(NORM, STATISTICS))
    made = bench.run()
    assert bench.asked == {
        "bare": ["norm given", "conv", "norm"],
        "sums": ["norm given", "conv out_groups", "norm given"],
        "whole": ["conv norm out_groups", "norm given"],
    }
    for name in ("sums", "whole"):
        assert torch.allclose(made[name], made["bare"], atol=1e-5), name


def test_what_nobody_joins_is_not_timed() -> None:
    bench = Around(bare=(), other=())
    bench.run()
    assert bench.asked == {"bare": ["conv"], "other": ["conv"]}
    sums = Around(bare=(), sums=(STATISTICS,))
    sums.run()
    assert sums.asked == {"bare": ["conv", "norm"], "sums": ["conv out_groups", "norm given"]}
    before_an_upsampling = Around(bare=(), sums=(STATISTICS,))
    before_an_upsampling.run(behind=0)
    assert before_an_upsampling.asked == {"bare": ["conv"], "sums": ["conv"]}


@pytest.mark.parametrize(("parts", "shifted"), [((), True), ((BIAS,), False), ((STATISTICS,), True)])
def test_an_upsampling_leaves_its_bias_to_a_norm_that_takes_it(parts: tuple[str, ...], shifted: bool) -> None:
    case = replace(upsample(1, 8, 5, folded=True), behind=4)
    inputs = case.inputs(1, "cpu", torch.float32)
    asked: list[set[str]] = []
    reference = _tuned.op_named("group_norm_silu").backend("reference")

    @joins(SHIFT)
    def norm(*args: Any, **named: Any) -> Any:
        asked.append(set(named))
        return reference(*args, **named)

    op = _tuned.op_named("upsample_conv3x3_folded").backend("reference")

    def contender(*args: Any, **named: Any) -> Any:
        return op(*args, **named)

    function = joins(*parts)(contender) if parts else contender
    found = case.call(within(case, function, frozenset({STATISTICS}), lambda channels, side: norm), inputs)
    plain = case.call(within(case, op, frozenset({STATISTICS}), lambda channels, side: reference), inputs)
    assert torch.allclose(found, plain, atol=1e-5)
    assert ("shift" in asked[0]) == shifted
    assert asked[0] <= {"shift"}


@pytest.mark.parametrize("asked", ["out_groups", "norm"])
def test_a_contender_is_judged_on_what_it_joins(asked: str) -> None:
    """Right alone, wrong where the norm or the statistics are asked for: refused."""
    conv = next(i for i in choose.work_of(rehearsal=True) if i.op == "conv3x3" and i.checks[0].behind)
    good = _tuned.op_named("conv3x3").backend("torch")
    assert choose.judged(conv, "torch", good, "cpu")[0]

    def off(*args: Any, **named: Any) -> Any:
        made = good(*args, **named)
        if asked not in named:
            return made
        return (made[0], made[1] * 1.01) if asked == "out_groups" else (made[0] * 1.01, made[1])

    passed, words = choose.judged(conv, "off", off, "cpu")
    assert not passed
    assert "with its norm and statistics" in words


def test_a_rehearsal_times_convolutions_within_their_norms(tmp_path: Path) -> None:
    """Really, on a CPU: a contender that joins beside one that does not."""
    shutil.copy(_tuned.TUNED / "default.json", tmp_path)
    rows: list[protocol.Row] = []
    work = [i for i in choose.work_of(rehearsal=True) if i.op == "conv3x3" and not i.gradients][:2]
    both = {"torch": _tuned.op_named("conv3x3").backend("torch")}
    both["sums"] = joins(STATISTICS)(lambda *args, **named: both["torch"](*args, **named))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(choose, "contenders", lambda item, device: (both, []))
        choose.run("cpu", 60.0, rows.append, note=lambda _: None, folder=tmp_path, work=work)
    forget()
    assert len(rows) == 4
    assert all(row.passed and row.timing is not None for row in rows), [row.check for row in rows]


@pytest.mark.parametrize(
    ("device", "dtype"), [("cuda:0", torch.float16), ("cuda:0", torch.bfloat16), ("cpu", torch.float32)]
)
def test_what_only_a_cpu_computes_in_bf16_does_not_contend_elsewhere(device: str, dtype: torch.dtype) -> None:
    """Else every convolution of a card's contest tells a failure, and the run ends with a status that says so."""
    for case in (conv3x3(2, 64, 64, 7), upsample(2, 64, 7, True)):
        found, missing = ops.contenders(case, device, dtype)
        assert "winograd" not in found
        assert any("winograd" in line for line in missing)
