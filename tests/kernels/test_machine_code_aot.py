"""The lint on compiled kernels, and the check before a kernel's first launch: on a device that is not there, so that
compilation, hook, refusal and launch are Triton's own and only the driver's calls are recorded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

triton = pytest.importorskip("triton")
import triton.language as tl  # noqa: E402

pytestmark = pytest.mark.aot

WARPS = [1, 2, 4, 8]


@pytest.mark.parametrize("num_warps", WARPS)
def test_the_split_attention_is_flagged_at_four_warps_alone(num_warps: int) -> None:
    from split_attention import split_case
    from v2f_kernels._triton.aot import compile_cases

    rows, unfit = compile_cases("split", {"forward": lambda: split_case(num_warps)}, (90,))
    assert rows[0].num_warps == num_warps
    assert ["miscompiled by ptxas 12.8.93: UR7" in line for line in unfit] == [True] * (num_warps == 4)


@pytest.mark.parametrize("target", [80, 120])
def test_it_is_sound_for_the_other_targets(target: int) -> None:
    from split_attention import split_case
    from v2f_kernels._triton.aot import compiling
    from v2f_kernels._triton.machine_code import lint

    with compiling(target) as record:
        for num_warps in WARPS:
            split_case(num_warps)
    assert [lint(compiled.binary.asm["cubin"]) for compiled in record] == [()] * len(WARPS)


def test_what_the_newer_assembler_makes_is_looked_at_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the assemblers' roles exchanged the finding moves from the first machine code to the second."""
    from split_attention import split_case
    from v2f_kernels._triton import inspection
    from v2f_kernels._triton.aot import compile_cases
    from v2f_kernels._triton.ptxas import ptxas_path

    case = {"forward": lambda: split_case(4)}
    rows, unfit = compile_cases("split", case, (90,))
    assert rows[0].registers_newer is not None
    assert not any("12.9.86" in line for line in unfit)
    monkeypatch.setattr(inspection, "newer_ptxas", lambda: ptxas_path(90))
    rows, unfit = compile_cases("split", case, (90,))
    assert sum("UR7" in line for line in unfit) == 2
    assert rows[0].registers_newer == rows[0].registers
    rows, unfit = compile_cases("split", case, (90,), newer=False)
    assert rows[0].registers_newer is None
    assert len(unfit) == 1


def test_assembling_again_gives_the_code_that_triton_has() -> None:
    """Otherwise the comparison of assemblers would be one of options."""
    from v2f_kernels._triton.aot import compiling, ops_under_gate
    from v2f_kernels._triton.machine_code import disassemble
    from v2f_kernels._triton.ptxas import assemble, ptxas_path

    with compiling(90) as record:
        ops_under_gate()["layer_norm"]["forward D=768 float16"]()
    asm = record[0].binary.asm
    assert disassemble(assemble(asm["ptx"], 90, ptxas_path(90))) == disassemble(asm["cubin"])


def test_a_kernel_of_255_registers_can_be_read() -> None:
    """nvdisasm 12.8.55 ends with `Invalid register count` unless it is told 254."""
    from split_attention import split_case
    from v2f_kernels._triton.aot import compiling
    from v2f_kernels._triton.inspection import cuobjdump
    from v2f_kernels._triton.machine_code import lint

    with compiling(120) as record:
        split_case(1)
    code = record[0].binary.asm["cubin"]
    assert "REG:255" in cuobjdump("--dump-resource-usage", code)
    assert lint(code) == ()


@dataclass
class Device:
    """Where Triton's driver would be, for an sm_90 that is not there."""

    loaded: list[str] = field(default_factory=list)
    launched: int = 0

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> str:
        return f"recorded {id(self)}"

    def get_current_stream(self, device: str) -> int:
        return 0

    def launcher_cls(self, source: Any, metadata: Any) -> Any:
        def launch(*arguments: Any) -> None:
            self.launched += 1

        return launch

    @property
    def utils(self) -> Any:
        def load(name: str, code: bytes, shared: int, device: str) -> tuple[Any, ...]:
            self.loaded.append(name)
            return "module", "function", 64, 0, 1024

        return SimpleNamespace(
            get_device_properties=lambda device: {"max_shared_mem": 232_448}, load_binary=load
        )


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Device]:
    """A recorded device with an empty cache of kernels; the test's kernel counts as ours."""
    from triton import knobs
    from triton.backends.nvidia import compiler
    from triton.runtime.driver import driver
    from v2f_kernels._triton import guard

    made = Device()
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(driver, "_active", made)
    monkeypatch.setattr(guard, "PACKAGES", ("v2f_kernels", "split_attention"))
    monkeypatch.setattr(guard, "_verdicts", {})
    compiler.get_ptxas_version.cache_clear()
    guard.watch.cache_clear()
    guard.watch()
    yield made
    knobs.runtime.kernel_load_start_hook.remove(guard.before_load)
    guard.watch.cache_clear()
    compiler.get_ptxas_version.cache_clear()


@pytest.fixture
def linted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with every use of the disassembler by the guard."""
    from v2f_kernels._triton import guard

    calls: list[int] = []
    lint = guard.lint
    monkeypatch.setattr(guard, "lint", lambda code: calls.append(len(code)) or lint(code))
    return calls


def test_a_flagged_kernel_is_refused_before_it_is_loaded(device: Device, linted: list[int]) -> None:
    from split_attention import split_case
    from v2f_kernels._op import BackendUnavailable
    from v2f_kernels._triton.guard import MachineCodeRefused

    for _ in range(2):  # the second launch finds Triton's own record of the kernel
        with pytest.raises(MachineCodeRefused) as refusal:
            split_case(4)
    assert isinstance(refusal.value, BackendUnavailable)
    for part in (
        "sm_90, 4 warps",
        "ptxas 12.8.93: UR7 is read",
        "TRITON_PTXAS_PATH=",
        "ptxas-blackwell",
        "12.9.86",
    ):
        assert part in str(refusal.value)
    assert (device.loaded, device.launched, len(linted)) == ([], 0, 1)


@pytest.mark.parametrize("num_warps", [1, 2, 8])
def test_its_twins_run_and_are_read_once(device: Device, linted: list[int], num_warps: int) -> None:
    from split_attention import split_case

    for _ in range(3):
        split_case(num_warps)
    assert (device.loaded, device.launched, len(linted)) == (["attention_forward_kernel"], 3, 1)


@pytest.mark.parametrize("num_warps", [4, 8])
def test_another_process_reads_the_verdict(
    device: Device, linted: list[int], num_warps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from split_attention import attention_forward_kernel, split_case
    from v2f_kernels._triton import guard

    def again() -> bool:
        """Whether it is refused, by a process that has Triton's cache and nothing in memory."""
        monkeypatch.setattr(guard, "_verdicts", {})
        attention_forward_kernel.device_caches.clear()
        try:
            split_case(num_warps)
        except guard.MachineCodeRefused:
            return True
        return False

    assert [again(), again()] == [num_warps == 4] * 2
    assert len(linted) == 1
    (kept,) = tmp_path.glob(f"*/{guard.VERDICT}")
    told = json.loads(kept.read_text())
    for spoiled in ("", "[]", json.dumps({**told, "sha256": "0"}), json.dumps({**told, "rules": 0})):
        kept.write_text(spoiled)
        assert again() == (num_warps == 4)
        assert json.loads(kept.read_text()) == told
    assert len(linted) == 5


def test_a_version_not_known_to_be_bad_is_not_read(
    device: Device, linted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from split_attention import split_case
    from v2f_kernels._triton import guard

    monkeypatch.setattr(guard, "KNOWN_BAD", {})
    split_case(4)
    assert (device.launched, linted) == (1, [])


def test_the_way_out_is_one(device: Device, linted: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the message says: the newer assembler, by the environment."""
    from split_attention import split_case
    from v2f_kernels._triton.ptxas import newer_ptxas, ptxas_version

    monkeypatch.setenv("TRITON_PTXAS_PATH", str(newer_ptxas()))
    split_case(4)
    assert ptxas_version(90) == "12.9.86"
    assert (device.launched, linted) == (1, [])


@triton.jit
def somebodys_kernel(y_ptr):  # type: ignore
    tl.store(y_ptr + tl.program_id(0), 1.0)


def test_kernels_of_others_are_let_through(device: Device, linted: list[int]) -> None:
    somebodys_kernel[(4,)](torch.empty(4, device="meta"))
    assert (device.loaded, device.launched, linted) == (["somebodys_kernel"], 1, [])


def test_our_own_kernels_are_read(device: Device, linted: list[int]) -> None:
    from v2f_kernels.layer_norm.aot_cases import CASES

    CASES["forward D=768 float16"]()
    assert (device.launched, len(linted)) == (1, 1)


def test_without_a_disassembler_there_is_a_warning(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    from split_attention import split_case
    from v2f_kernels._triton import guard
    from v2f_kernels._triton.machine_code import DisassemblerMissing

    def missing(code: bytes) -> Any:
        raise DisassemblerMissing("no nvdisasm")

    monkeypatch.setattr(guard, "lint", missing)
    with pytest.warns(
        guard.MachineCodeUnchecked, match=r"runs without a check .* no nvdisasm.*TRITON_PTXAS_PATH"
    ):
        split_case(8)
    assert device.launched == 1


def test_a_triton_without_the_hook_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from triton import knobs
    from v2f_kernels._op import BackendUnavailable
    from v2f_kernels._triton import guard

    monkeypatch.setattr(knobs.runtime, "kernel_load_start_hook", None)
    guard.watch.cache_clear()
    with pytest.raises(BackendUnavailable, match="no kernel_load_start_hook"):
        guard.watch()
    monkeypatch.setattr(guard, "KNOWN_BAD", {})
    guard.watch()
    guard.watch.cache_clear()


def test_every_launch_asks_for_its_configuration_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """So no kernel can run before `watch`, which the look-up of a device's section calls; nothing is compiled."""
    from triton.runtime.jit import JITFunction
    from v2f_kernels._triton import launch
    from v2f_kernels._triton.aot import ops_under_gate

    asked: list[str] = []
    lookup = launch._lookup
    monkeypatch.setattr(launch, "_lookup", lambda *key: asked.append("asked") or lookup(*key))
    monkeypatch.setattr(JITFunction, "run", lambda *args, **kwargs: asked.append("launched"))
    for op, cases in ops_under_gate().items():
        for name, call in cases.items():
            asked.clear()
            call()
            assert asked[0] == "asked", f"{op}, {name}: {asked}"
            assert "launched" in asked


def test_a_card_is_watched_from_its_first_configuration_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from v2f_kernels._triton import launch

    watched: list[str] = []
    monkeypatch.setattr(launch, "watch", lambda: watched.append("watched"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card of a test")
    launch._section_name.cache_clear()
    launch.launch_config("attention", "forward", torch.device("cpu"), "half")
    assert watched == []
    for _ in range(3):
        launch.launch_config("attention", "forward", torch.device("cuda:0"), "half")
    assert watched == ["watched"]
    launch._section_name.cache_clear()


def test_the_trial_of_launches_asks_the_gate_for_this_card(monkeypatch: pytest.MonkeyPatch) -> None:
    from split_attention import split_case

    from bench.kernels.launches import gate_of

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    gate = gate_of("cuda:0")
    assert [("UR7" in line) for line in gate(lambda: split_case(4))] == [True]  # type: ignore[func-returns-value]
    assert gate(lambda: split_case(8)) == []  # type: ignore[func-returns-value]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    with pytest.warns(UserWarning, match="no compile gate for sm_89"):
        gate_of("cuda:0")
