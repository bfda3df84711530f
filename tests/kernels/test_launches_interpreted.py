"""The trial of every launch configuration, rehearsed on interpreted kernels with faults of the kinds it is for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.interpreter
ATTENTION = "attention B3 N1 H1 d40: float16 forward"
NORM = "layer_norm B3 N25 D192 with residual: float32 forward"


@pytest.fixture(autouse=True)
def fresh_lookups() -> Iterator[None]:
    from v2f_kernels._triton import launch

    yield
    launch._lookup.cache_clear()


def trial(name: str) -> Any:
    from bench.kernels.odd_shapes import trials

    return next(one for one in trials("cpu") if one.name == name)


def outcomes(name: str, gate: Callable[[Any], list[str]] = lambda call: []) -> dict[int, Any]:
    """Outcome by number of warps."""
    from bench.kernels.launches import attempt

    return {one.entry["num_warps"]: one for one in attempt(trial(name), "cpu", gate)}


def spoil(monkeypatch: pytest.MonkeyPatch, fault: Callable[[torch.Tensor, int], None]) -> None:
    """Attention's forward launcher, followed by `fault(out, num_warps)`."""
    from v2f_kernels.attention import triton_op

    whole = triton_op.Forward.launch

    def launch(call: Any, out: torch.Tensor) -> None:
        whole(call, out)
        variant = triton_op.variant_of(call.qkv)
        fault(out, triton_op.launch_config("attention", "forward", out.device, variant).num_warps)

    monkeypatch.setattr(triton_op.Forward, "launch", launch)


def test_a_sound_kernel_passes_and_another_process_has_its_bits() -> None:
    from bench.kernels.launches import attempt, in_child, problems
    from bench.kernels.odd_shapes import trials

    group = "perturb B5 D512"
    found = outcomes(f"{group}: float32 forward")
    assert {warps: one.status for warps, one in found.items()} == dict.fromkeys((1, 2, 4, 8), "passed")
    mine = [one for t in trials("cpu") if t.group == group for one in attempt(t, "cpu", lambda call: [])]
    again = in_child(group, "cpu")
    assert len(again) == 4  # its gradients are torch's
    assert problems(mine, again) == []
    assert problems(mine, again[:-1]) == [f"{again[-1].place}: tried in one process only"]


def test_columns_wrong_at_four_warps_are_found_there_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault of the first run on a card: the last 16 columns of a head."""
    from bench.kernels.launches import problems

    def fault(out: torch.Tensor, num_warps: int) -> None:
        if num_warps == 4:
            out[..., -16:] = 0.58 * out[..., -16:]

    spoil(monkeypatch, fault)
    found = outcomes(ATTENTION)
    assert {warps: one.status for warps, one in found.items()} == {
        1: "passed",
        2: "passed",
        4: "failed",
        8: "passed",
    }
    assert "rms error" in found[4].words
    (told,) = problems(found.values(), found.values())
    assert ATTENTION in told
    assert '"num_warps": 4' in told


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_element_that_is_no_number_is_found(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, lambda out, warps: out.view(-1)[-1:].fill_(value) if warps == 2 else None)
    assert [warps for warps, one in outcomes(ATTENTION).items() if one.status == "failed"] == [2]


def test_a_launch_with_other_bits_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The third launch at eight warps is one bit off, which no judge of errors would mind."""
    launches = []

    def fault(out: torch.Tensor, num_warps: int) -> None:
        launches.append(num_warps)
        if num_warps == 8 and launches.count(8) == 3:
            out.view(torch.int16)[..., 0] ^= 1

    spoil(monkeypatch, fault)
    found = outcomes(ATTENTION)
    assert [warps for warps, one in found.items() if one.status == "failed"] == [8]
    assert found[8].words.startswith("launch 3 gives other bits than the first")


def test_what_raises_is_a_failure_and_the_rest_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(out: torch.Tensor, num_warps: int) -> None:
        if num_warps == 1:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    spoil(monkeypatch, fault)
    found = outcomes(ATTENTION)
    assert {warps: one.status for warps, one in found.items()} == {
        1: "failed",
        2: "passed",
        4: "passed",
        8: "passed",
    }
    assert "illegal memory access" in found[1].words


def test_a_device_that_answers_no_more_ends_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.kernels import launches

    def fault(out: torch.Tensor, num_warps: int) -> None:
        if num_warps == 1:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    spoil(monkeypatch, fault)
    monkeypatch.setattr(launches, "_answers", lambda device: False)
    told = list(launches.attempt(trial(ATTENTION), "cpu", lambda call: []))
    assert [one.status for one in told] == ["passed", "failed", "failed"]
    assert "the rest was not tried" in told[-1].words


def test_what_the_gate_refuses_is_told_and_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from v2f_kernels._triton import launch

    ran: list[int] = []
    spoil(monkeypatch, lambda out, warps: ran.append(warps))

    def gate(call: Any) -> list[str]:
        warps = launch._lookup("attention", "forward", "half-short", launch.DEFAULT).num_warps
        if warps == 8:
            raise RuntimeError("PassManager::run failed")
        return ["128 B of registers spilled to the stack"] if warps == 1 else []

    found = outcomes(ATTENTION, gate)
    assert {warps: one.status for warps, one in found.items()} == {
        1: "skipped",
        2: "passed",
        4: "passed",
        8: "skipped",
    }
    assert found[1].words == "128 B of registers spilled to the stack"
    assert "PassManager" in found[8].words
    assert set(ran) == {2, 4}


def test_a_configuration_in_use_may_not_be_skipped() -> None:
    from bench.kernels.launches import problems

    found = outcomes(ATTENTION, lambda call: ["shared memory 300000 B exceeds the 232448 B of sm_90"])
    assert {warps: one.status for warps, one in found.items()} == {
        1: "skipped",
        2: "skipped",
        4: "failed",
        8: "skipped",
    }
    assert found[4].words.startswith("in use here, and refused: shared memory")
    assert "nothing ran, so nothing was shown" in problems(found.values(), found.values())


def test_sections_of_all_devices_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    from v2f_kernels._triton import launch

    every = {
        **launch.sections("layer_norm"),
        "A Card": {
            "capability": 90,
            "forward": {**launch.sections("layer_norm")["default"]["forward"], "ROWS": 2},
        },
    }
    monkeypatch.setattr(launch, "sections", lambda op: MappingProxyType(every))
    launch._lookup.cache_clear()
    from bench.kernels.launches import attempt

    told = list(attempt(trial(NORM), "cpu", lambda call: []))
    assert {(one.entry["ROWS"], one.entry["num_warps"]) for one in told} == {
        (4, 1),
        (4, 2),
        (4, 4),
        (4, 8),
        (2, 4),
    }
    assert {one.status for one in told} == {"passed"}


def test_bits_that_differ_from_run_to_run_are_found() -> None:
    from bench.kernels.launches import Outcome, problems

    one = Outcome("a trial", "op/forward", {"num_warps": 4}, "passed", "", "0123")
    assert problems([one], [one]) == []
    (told,) = problems([one], [replace(one, digest="0124")])
    assert told.endswith("the bits of another process differ: 0123 and 0124")


def test_a_gradient_leaves_its_forward_pass_to_the_forward_trial() -> None:
    from bench.kernels.launches import attempt

    name = "attention B3 N1 H1 d40: float32 gradients"
    told = list(attempt(trial(name), "cpu", lambda call: []))
    assert {one.key for one in told} == {"attention/backward/fp32-short"}


def test_every_kernel_has_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every entry of `tuned/` is varied by some trial; kernels are passed over, so that this takes seconds."""
    from triton.runtime.interpreter import GridExecutor
    from v2f_kernels._triton import launch

    from bench.kernels import launches, odd_shapes

    monkeypatch.setattr(GridExecutor, "__call__", lambda *args, **kwargs: None)
    monkeypatch.setattr(odd_shapes.ops, "yardstick", lambda *args: lambda results: (True, ""))
    monkeypatch.setattr(launches, "LAUNCHES", 1)
    fp8 = odd_shapes.Trial(
        "conv3x3_fp8", "conv3x3_fp8", "", lambda device: odd_shapes._fp8(torch.float16, device)
    )
    varied: dict[str, set[int]] = {}
    for one in (*odd_shapes.trials("cpu"), fp8):
        for told in launches.attempt(one, "cpu", lambda call: []):
            op, kernel, variant = (*told.key.split("/"), "")[:3]
            for key in (f"{op}/{kernel}", f"{op}/{kernel}/{variant}"):
                varied.setdefault(key, set()).add(told.entry["num_warps"])
    for op in launch.launched_ops():
        for section in launch.sections(op).values():
            for key in section.keys() - {"capability"}:
                assert varied[f"{op}/{key}"] >= {1, 2, 4, 8}, f"{op}/{key}"
