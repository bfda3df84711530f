"""Every kernel compiles for every target, fits it, spills nothing, and the committed table is true."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

triton = pytest.importorskip("triton")
import triton.language as tl  # noqa: E402

pytestmark = pytest.mark.aot


def test_table_regenerates_for_the_card_there_is() -> None:
    """sm_90 by the ptxas that Triton uses: minutes less than all of it, and any kernel that changed is seen."""
    _regenerated((90,), newer=False)


@pytest.mark.slow
def test_table_regenerates() -> None:
    """All of it, 1,163 kernels by two assemblers: `make aot-all`, whenever a kernel changed."""
    from bench.kernels.aot import TARGETS

    _regenerated(TARGETS, newer=True)


def _regenerated(targets: tuple[int, ...], *, newer: bool) -> None:
    from bench.kernels.aot import TABLE, build, differences

    table, unfit = build(targets=targets, newer=newer)
    assert not unfit, "\n".join(unfit)
    committed = json.loads(TABLE.read_text())
    assert {row["target"] for row in committed["rows"]} >= set(targets)
    changed = differences(table, committed, targets, newer=newer)
    assert not changed, "run `python -m bench.kernels.aot` and read the diff:\n" + "\n".join(changed)


def test_a_committed_row_that_is_not_true_is_seen() -> None:
    from bench.kernels.aot import TABLE, differences

    committed = json.loads(TABLE.read_text())
    changed = json.loads(TABLE.read_text())
    row = next(row for row in changed["rows"] if row["target"] == 90)
    row["registers"] += 1
    assert differences(changed, committed, (90,), newer=False)
    assert not differences(changed, committed, (80, 120), newer=False)
    row["registers"], row["registers_newer"] = row["registers"] - 1, -1
    assert not differences(changed, committed, (90,), newer=False)
    assert differences(changed, committed, (90,))


def test_every_shipped_configuration_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each entry of tuned/*.json is read by some case of its op; nothing is compiled here."""
    from triton.runtime.jit import JITFunction
    from v2f_kernels._triton import launch
    from v2f_kernels._triton.aot import ops_under_gate

    from bench.kernels.aot import TARGETS

    read: set[tuple[str, str]] = set()
    lookup = launch._lookup

    def noted(op: str, kernel: str, variant: str, section: str) -> Any:
        config = lookup(op, kernel, variant, section)
        read.add((op, config.source))
        return config

    monkeypatch.setattr(launch, "_lookup", noted)
    monkeypatch.setattr(JITFunction, "run", lambda *args, **kwargs: None)
    for op, cases in ops_under_gate().items():
        for section in launch.sections(op):
            token = launch.ASSUMED_SECTION.set(section)
            for call in cases.values():
                call()
            launch.ASSUMED_SECTION.reset(token)
    shipped = {
        (op, f"{name}:{key}")
        for op in launch.launched_ops()
        for name, section in launch.sections(op).items()
        if name == "default" or section["capability"] in TARGETS
        for key in section
        if key != "capability"
    }
    assert shipped - read == set()
    assert len(read) >= len(shipped) > 0


@triton.jit
def spilling(x_ptr, y_ptr, B: tl.constexpr):  # type: ignore
    """An fp32 product of two B x B matrices: operands and sums in registers."""
    i = tl.arange(0, B)
    x = tl.load(x_ptr + i[:, None] * B + i[None, :])
    tl.store(y_ptr + i[:, None] * B + i[None, :], tl.dot(x, x, input_precision="ieee"))


def rows_of(case: Any) -> tuple[list[Any], list[str]]:
    from v2f_kernels._triton.aot import compile_cases

    return compile_cases("injected", {"case": case}, (90,))


def test_a_spilling_kernel_is_refused() -> None:
    x = torch.empty((64, 64), device="meta")
    rows, unfit = rows_of(lambda: spilling[(1,)](x, x, B=64, num_warps=1))
    assert rows[0].stack > 0
    assert "spilled" in unfit[0]


def test_too_much_shared_memory_is_refused() -> None:
    """Triton compiles six stages of 48 KB without complaint; no block of sm_90 can have them."""
    from bench.candidates.gelu_linear.triton_gelu import gelu_linear_forward_kernel

    x = torch.empty((512, 768), dtype=torch.bfloat16, device="meta")
    rows, unfit = rows_of(
        lambda: gelu_linear_forward_kernel[(1,)](
            x, x, x, x, x, 512, M=512, K=768, SAVE=False, PRECISION="tf32",
            BLOCK_R=128, BLOCK_M=256, BLOCK_K=64, GROUP=8, num_warps=8, num_stages=6,
        )
    )  # fmt: skip
    assert rows[0].shared > 232_448
    assert any("exceeds the 232448 B" in line for line in unfit)


def test_a_case_that_launches_nothing_is_refused() -> None:
    with pytest.raises(RuntimeError, match="nothing was launched"):
        rows_of(lambda: None)


def test_candidates_for_tuning_pass_this_gate_or_are_refused() -> None:
    from bench.kernels.tune import compile_gate, keys_under_gate

    gate = compile_gate(90)
    assert "forward/half" in keys_under_gate("gelu_linear")
    fit = {"num_warps": 8, "num_stages": 3, "BLOCK_R": 128, "BLOCK_M": 64, "BLOCK_K": 64, "GROUP": 8}
    assert gate("gelu_linear", "forward/half", fit) == []
    greedy = {**fit, "BLOCK_M": 256, "num_stages": 6}
    assert any("exceeds the 232448 B" in line for line in gate("gelu_linear", "forward/half", greedy))
    assert "no case of the compile gate reads it" in gate("gelu_linear", "forward/nowhere", fit)[0]
    assert "CompilationError" in gate("gelu_linear", "forward/half", {**fit, "BLOCK_M": 96})[0]
