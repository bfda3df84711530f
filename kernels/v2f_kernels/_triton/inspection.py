"""What a compiled kernel needs and does: registers, stack, shared memory, instructions, and what makes it unfit.

Facts of the machine code (registers, stack, the lint) are read from what Triton's own ptxas made, and again from what
the newest ptxas beside it makes of the same PTX: that one is the way out where the former is known to be bad
(`_triton.ptxas`), so a kernel has to be fit by both.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from v2f_kernels._triton.machine_code import Finding, lint
from v2f_kernels._triton.ptxas import assemble, newer_ptxas, newer_version, ptxas_version

SHARED_LIMIT = {80: 166_912, 90: 232_448, 120: 101_376}
"""Bytes of shared memory one block may use, by compute capability (CUDA C++ Programming Guide, table of
technical specifications: 163, 227 and 99 KiB). Triton compiles more without complaint."""

TENSOR_CORE = ("tcgen05.mma", "wgmma.mma_async", "mma.sync")
"""Matrix instructions in PTX, newest first; ptxas maps them one to one (wgmma to HGMMA, mma to HMMA or IMMA)."""
WIDE_LOAD = re.compile(
    r"ld\.global[.\w:]*\.(?:v4\.[bfus]32|v2\.[bfus]64)|cp\.async\.c[ga]\b[^;]*, 0x10,|cp\.async\.bulk\.tensor"
)
"""Global loads of 16 bytes a thread, or by the tensor memory accelerator."""

MISCOMPILED = "miscompiled by ptxas"
"""How a complaint of the lint begins."""


@dataclass(frozen=True)
class Compiled:
    """A recorded launch: the kernel's name, its grid, and Triton's compiled object."""

    name: str
    grid: tuple[int, ...]
    binary: Any


@dataclass(frozen=True)
class Assembled:
    """Machine code by one ptxas.

    Args:
        version: of that ptxas, e.g. `12.8.93`.
        registers: a thread.
        stack: bytes a thread; it holds what was spilled.
        findings: of the lint.
    """

    version: str
    registers: int
    stack: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Row:
    """One compiled kernel. Registers and stack are those of Triton's own ptxas.

    `registers_newer` are those of the newest ptxas that Triton brings along; None where that is the same one, or where
    it was not asked.
    """

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
    registers_newer: int | None

    @property
    def key(self) -> str:
        return f"{self.op} | {self.case} | {self.kernel} | sm_{self.target}"


def inspect(
    op: str, case: str, target: int, compiled: Compiled, *, newer: bool = True
) -> tuple[Row, list[str]]:
    """The kernel's row and what makes it unfit to ship; the latter empty when it is fit.

    Args:
        newer: whether to ask the newest ptxas as well, which takes as long again.
    """
    metadata, asm = compiled.binary.metadata, compiled.binary.asm
    every = [_assembled(asm["cubin"], ptxas_version(target))]
    if newer and newer_version() != every[0].version:
        again = assemble(asm["ptx"], target, newer_ptxas(), fused_multiply_add=metadata.enable_fp_fusion)
        every.append(_assembled(again, newer_version()))
    row = Row(
        op=op,
        case=case,
        kernel=compiled.name,
        target=target,
        num_warps=metadata.num_warps,
        num_stages=metadata.num_stages,
        registers=every[0].registers,
        stack=every[0].stack,
        shared=metadata.shared,
        tensor_core=_tensor_core(asm["ptx"]),
        wide_loads=len(WIDE_LOAD.findall(asm["ptx"])),
        registers_newer=every[1].registers if len(every) > 1 else None,
    )
    return row, [f"{row.key}: {what}" for what in _complaints(row, asm["ttir"], every)]


def _complaints(row: Row, ttir: str, every: list[Assembled]) -> list[str]:
    found = []
    for code in every:
        if code.stack:
            found.append(f"{code.stack} B of registers spilled to the stack by ptxas {code.version}")
        if code.registers * row.num_warps * 32 > 65_536:
            found.append(
                f"{code.registers} registers x {row.num_warps} warps exceed the 65,536 of an SM by ptxas {code.version}"
            )
        found += [f"{MISCOMPILED} {code.version}: {finding}" for finding in code.findings]
    limit = SHARED_LIMIT[row.target]
    if row.shared > limit:
        found.append(f"shared memory {row.shared} B exceeds the {limit} B of sm_{row.target}")
    if row.tensor_core == "-" and _wants_tensor_core(ttir):
        found.append("a tl.dot of narrow operands was compiled without tensor cores")
    return found


def _assembled(cubin: bytes, version: str) -> Assembled:
    usage = cuobjdump("--dump-resource-usage", cubin)
    return Assembled(
        version, int(_first(r"REG:(\d+)", usage)), int(_first(r"STACK:(\d+)", usage)), lint(cubin)
    )


def cuobjdump(option: str, cubin: bytes) -> str:
    """What Triton's cuobjdump prints about machine code."""
    spec = find_spec("triton")
    assert spec is not None
    assert spec.origin is not None
    tool = Path(spec.origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        return subprocess.run([tool, option, path], check=True, capture_output=True, text=True).stdout


def _tensor_core(ptx: str) -> str:
    """The newest matrix instruction in it, with `.e4m3` where it multiplies 8-bit floats; `-` for none."""
    name = next((name for name in TENSOR_CORE if name in ptx), "-")
    return name + ".e4m3" if re.search(rf"{re.escape(name)}[\w.:]*\.e4m3", ptx) else name


def _wants_tensor_core(ttir: str) -> bool:
    """Whether a `tt.dot` has operands narrower than fp32, or fp32 ones that may be rounded to tf32."""
    for line in ttir.splitlines():
        if "tt.dot" not in line:
            continue
        operand = _first(r":\s*tensor<[\dx]*x(\w+)", line)
        if operand != "f32" or "inputPrecision = tf32" in line:
            return True
    return False


def _first(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise ValueError(f"no {pattern!r} in: {text[:200]}")
    return match.group(1)
