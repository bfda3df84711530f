"""The GPU-free gate: compiles what the launchers launch, for any NVIDIA target, and reads the machine code.

A case calls a launcher with meta tensors (shapes and dtypes, no memory). Inside `compiling(target)` every
`kernel[grid](...)` goes through Triton's own specialisation and compiler for that target, and is recorded
instead of launched. So the gate compiles exactly what a GPU would: the same constants, alignment hints and
tuned configurations, picked by the same code.

To put an op under the gate, add `aot_cases.py` to its folder with

    CASES = {"forward 50x48 bf16": lambda: launch_forward(torch.empty(..., device="meta"), ...)}

`bench/aot.py` finds it, writes the committed table, and `pytest -m aot` compares. Cannot run in a process
whose kernels were imported under TRITON_INTERPRET=1.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import v2f_kernels
from v2f_kernels._triton.launch import ASSUMED_SECTION, DEFAULT, sections

SHARED_LIMIT = {80: 166_912, 90: 232_448, 120: 101_376}
"""Bytes of shared memory one block may use, by compute capability (CUDA C++ Programming Guide, table of
technical specifications: 163, 227 and 99 KiB). Triton compiles more without complaint."""

TENSOR_CORE = ("tcgen05.mma", "wgmma.mma_async", "mma.sync")
"""Matrix instructions in PTX, newest first; ptxas maps them one to one (wgmma to HGMMA, mma to HMMA or IMMA)."""
WIDE_LOAD = re.compile(
    r"ld\.global[.\w:]*\.(?:v4\.[bfus]32|v2\.[bfus]64)|cp\.async\.c[ga]\b[^;]*, 0x10,|cp\.async\.bulk\.tensor"
)
"""Global loads of 16 bytes a thread, or by the tensor memory accelerator."""


@dataclass(frozen=True)
class Row:
    """One compiled kernel. Registers and stack are ptxas's; the stack holds what it spilled."""

    op: str
    case: str
    kernel: str
    target: int
    num_warps: int
    num_stages: int
    registers: int
    stack: int
    shared: int
    tensor_core: str
    wide_loads: int

    @property
    def key(self) -> str:
        return f"{self.op} | {self.case} | {self.kernel} | sm_{self.target}"


@dataclass(frozen=True)
class Compiled:
    """A recorded launch: the kernel's name, its grid, and Triton's compiled object."""

    name: str
    grid: tuple[int, ...]
    binary: Any


class _AnyDevice:
    """Stands where Triton's driver would: it names a target and nothing else."""

    def __init__(self, target: int) -> None:
        self.target = target

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.target, 32)

    def get_current_device(self) -> str:
        return f"sm_{self.target}"  # the key of Triton's per-device kernel cache

    def get_current_stream(self, device: str) -> int:
        return 0


@contextmanager
def compiling(target: int) -> Iterator[list[Compiled]]:
    """Turns kernel launches into compilations for `target` (80, 90, 120, ...); yields their record.

    Raises:
        RuntimeError: the kernels of this process are interpreted.
    """
    from triton import knobs
    from triton.runtime.driver import driver
    from triton.runtime.jit import JITFunction

    if knobs.runtime.interpret:
        raise RuntimeError("ahead-of-time compilation needs a new process, without TRITON_INTERPRET")
    record: list[Compiled] = []
    launch = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        binary = launch(self, *args, grid=grid, warmup=True, **kwargs)
        record.append(Compiled(self.__name__, tuple(grid) if not callable(grid) else (), binary))
        return binary

    previous, driver._active = driver._active, _AnyDevice(target)
    JITFunction.run = compile_only
    try:
        yield record
    finally:
        JITFunction.run = launch
        driver._active = previous


def inspect(op: str, case: str, target: int, compiled: Compiled) -> Row:
    """Registers and stack from the cubin, shared memory from Triton, instructions from the PTX.

    The PTX is read rather than the machine code because disassembling takes as long as compiling did.
    """
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(compiled.binary.asm["cubin"])
        usage = _cuobjdump("--dump-resource-usage", cubin)
    metadata, ptx = compiled.binary.metadata, compiled.binary.asm["ptx"]
    return Row(
        op=op,
        case=case,
        kernel=compiled.name,
        target=target,
        num_warps=metadata.num_warps,
        num_stages=metadata.num_stages,
        registers=int(_first(r"REG:(\d+)", usage)),
        stack=int(_first(r"STACK:(\d+)", usage)),
        shared=metadata.shared,
        tensor_core=_tensor_core(ptx),
        wide_loads=len(WIDE_LOAD.findall(ptx)),
    )


def _tensor_core(ptx: str) -> str:
    """The newest matrix instruction in it, with `.e4m3` where it multiplies 8-bit floats; `-` for none."""
    name = next((name for name in TENSOR_CORE if name in ptx), "-")
    return name + ".e4m3" if re.search(rf"{re.escape(name)}[\w.:]*\.e4m3", ptx) else name


def complaints(row: Row, compiled: Compiled) -> list[str]:
    """What makes a row unfit to ship; empty when it is fit."""
    found = []
    if row.stack:
        found.append(f"{row.stack} B of registers spilled to the stack")
    limit = SHARED_LIMIT[row.target]
    if row.shared > limit:
        found.append(f"shared memory {row.shared} B exceeds the {limit} B of sm_{row.target}")
    if row.registers * row.num_warps * 32 > 65_536:
        found.append(f"{row.registers} registers x {row.num_warps} warps exceed the 65,536 of an SM")
    if row.tensor_core == "-" and _wants_tensor_core(compiled.binary.asm["ttir"]):
        found.append("a tl.dot of narrow operands was compiled without tensor cores")
    return [f"{row.key}: {what}" for what in found]


def compile_cases(
    op: str, cases: Mapping[str, Callable[[], object]], targets: Iterable[int]
) -> tuple[list[Row], list[str]]:
    """Compiles every case of `op` for every target, with the default launch configurations and with those of
    every tuned device of that capability.

    Returns:
        the rows of the distinct kernels (one that an earlier case compiled already is listed once), and all
        complaints.
    """
    rows, found = [], []
    for target in targets:
        seen: set[str] = set()
        for section in _sections_for(op, target):
            token = ASSUMED_SECTION.set(section)
            try:
                for case, call in cases.items():
                    label = case if section == DEFAULT else f"{case} [{section}]"
                    for compiled in _compile(op, label, call, target):
                        if compiled.binary.hash not in seen:
                            seen.add(compiled.binary.hash)
                            rows.append(inspect(op, label, target, compiled))
                            found += complaints(rows[-1], compiled)
            finally:
                ASSUMED_SECTION.reset(token)
    return rows, found


def _compile(op: str, case: str, call: Callable[[], object], target: int) -> list[Compiled]:
    with compiling(target) as record:
        call()
    if not record:
        raise RuntimeError(f"{op}, case {case!r}: nothing was launched, so nothing was checked")
    return record


def _sections_for(op: str, target: int) -> list[str]:
    table = sections(op)
    return [DEFAULT, *(name for name in table if table[name].get("capability") == target)]


def ops_under_gate() -> dict[str, Mapping[str, Callable[[], object]]]:
    """op -> its `CASES`, for every folder of v2f_kernels that has `aot_cases.py`."""
    root = Path(v2f_kernels.__path__[0])
    names = sorted(path.parent.name for path in root.glob("*/aot_cases.py"))
    return {name: import_module(f"v2f_kernels.{name}.aot_cases").CASES for name in names}


def targets_of(op: str, targets: Iterable[int]) -> tuple[int, ...]:
    """Those of `targets` that the op is for: all, unless its `aot_cases` says `TARGETS`."""
    own = getattr(import_module(f"v2f_kernels.{op}.aot_cases"), "TARGETS", None)
    return tuple(target for target in targets if own is None or target in own)


def _wants_tensor_core(ttir: str) -> bool:
    """Whether a `tt.dot` has operands narrower than fp32, or fp32 ones that may be rounded to tf32."""
    for line in ttir.splitlines():
        if "tt.dot" not in line:
            continue
        operand = _first(r":\s*tensor<[\dx]*x(\w+)", line)
        if operand != "f32" or "inputPrecision = tf32" in line:
            return True
    return False


def _cuobjdump(option: str, cubin: Path) -> str:
    spec = find_spec("triton")
    assert spec is not None
    assert spec.origin is not None
    tool = Path(spec.origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    return subprocess.run([tool, option, cubin], check=True, capture_output=True, text=True).stdout


def _first(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise ValueError(f"no {pattern!r} in: {text[:200]}")
    return match.group(1)
