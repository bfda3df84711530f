"""What the devices' tables choose is compiled by the gate: every entry a Triton kernel serves is a case of its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from v2f_kernels import _tuned
from v2f_kernels._shapes import SHAPES

from bench.kernels.device_table import DeviceTable, forget

pytest.importorskip("triton")
from v2f_kernels._triton.aot import modules_of_cases
from v2f_kernels._triton.table_cases import table_cases

pytestmark = pytest.mark.aot

SHAPE = {
    "attention": "N<=64 d=48", "batch_norm_prelu": "C=64 HW=56",
    "bias_prelu": "C=64 HW=14", "bias_residual": "C=64 HW=14",
    "conv3x3": "C=64 O=64 HW=14", "expand_tokens": "D=768", "gelu_linear": "K=768 M=3072",
    "group_norm_leaky": "C=256 HW=28", "group_norm_silu": "C=512 HW=7", "layer_norm": "D=768",
    "multi_scale_stem": "O=64 HW=112", "to_uint8": "C=64 HW=28", "unit_distance": "C=64 HW=14",
    "upsample_conv3x3": "C=64 HW=14", "upsample_conv3x3_folded": "C=64 HW=14",
}  # fmt: skip


MEASURED = {
    "capability": 90,
    "ptxas": "12",
    "triton": "3",
    "torch": "2",
    "date": "d",
    "commit": "c",
    "source": "s",
}


def of_card(op: str, key: str, use: str = "triton") -> dict[str, _tuned.Table]:
    """The default table and a card's, which may name a candidate here: its cases are to be right before it moves."""
    picks = {op: {key: _tuned.Pick(use, "x")}}
    return {
        "default": _tuned.tables()["default"],
        "A Card": _tuned.Table("A Card", "a-card.json", MEASURED, picks, {}),
    }


def launched(monkeypatch: pytest.MonkeyPatch, calls: Any) -> set[str]:
    from triton.runtime.jit import JITFunction

    seen: set[str] = set()
    with monkeypatch.context() as patch:
        patch.setattr(JITFunction, "run", lambda self, *args, **kwargs: seen.add(self.__name__))
        for call in calls:
            call()
    return seen


@pytest.mark.parametrize("op", sorted(SHAPES))
def test_an_entry_of_any_op_launches_its_kernels(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    every = {op: cases for cases in modules_of_cases().values() for op in cases.BY_SHAPE}
    assert set(every) == set(SHAPES) == set(SHAPE)
    forward, both = (
        {
            name: case for name, case in listed.items() if name.startswith("table of A Card")
        }  # not the default's own
        for listed in (
            table_cases(every[op], of_card(op, f"{SHAPE[op]}, {kind}"))
            for kind in ("fp16", "bf16, gradients")
        )
    )
    assert list(forward) == [f"table of A Card: {op} {SHAPE[op]}, fp16"]
    first, second = (launched(monkeypatch, cases.values()) for cases in (forward, both))
    assert first
    assert first <= second
    own_backward = {
        "attention",
        "batch_norm_prelu",
        "bias_prelu",
        "unit_distance",
        "expand_tokens",
        "gelu_linear",
        "group_norm_leaky",
        "group_norm_silu",
        "layer_norm",
    }
    assert any("backward" in kernel for kernel in second) == (op in own_backward)


def test_an_entry_for_torch_compiles_nothing() -> None:
    assert (
        table_cases(modules_of_cases()["conv3x3"], of_card("conv3x3", "C=64 O=64 HW=14, fp16", "torch")) == {}
    )


def test_every_committed_entry_for_triton_is_under_the_gate() -> None:
    from v2f_kernels._triton.aot import ops_under_gate

    under = {label for cases in ops_under_gate().values() for label in cases}
    chosen = {
        f"table of {table.device}: {op} {key}"
        for table in _tuned.tables().values()
        for op, picks in table.backends.items()
        for key, pick in picks.items()
        if pick.use == "triton" and not key.startswith("*")
    }
    assert chosen
    assert chosen <= under


def test_a_launch_of_a_table_that_spills_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One warp for 256 pixels of 32 channels: 256 values a thread. Only the card's own capability compiles it."""
    from v2f_kernels._triton import launch
    from v2f_kernels._triton.aot import compile_cases

    shutil.copy(launch.TUNED / "default.json", tmp_path)
    spilling = {"num_warps": 1, "num_stages": 1, "CHANNELS": 32}
    DeviceTable("A Card", MEASURED, tmp_path).launch("group_norm_silu", "single_pass/P=256", spilling)
    monkeypatch.setattr(launch, "TUNED", tmp_path)
    cases = table_cases(
        modules_of_cases()["group_norm_silu"], of_card("group_norm_silu", "C=512 HW=14, fp16")
    )
    try:
        forget()
        assert compile_cases("group_norm_silu", cases, (80,))[1] == []
        wrong = compile_cases("group_norm_silu", cases, (90,))[1]
    finally:
        monkeypatch.undo()
        forget()
    assert any("[A Card]" in line and "spilled" in line for line in wrong), wrong
