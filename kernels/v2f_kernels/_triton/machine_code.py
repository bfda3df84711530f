"""A lint of machine code: registers that are read before anything has written them.

ptxas 12.8.93 compiled a correct PTX into sm_90 code that builds a shared-memory descriptor from UR7, which nothing had
written: wrong columns, NaN, illegal addresses (FACTS.md). Neither interpreter nor compiler says a word about that.

What an instruction reads and writes is not guessed from its text: the instruction set is undocumented, and widths hide
in suffixes (`.64`, `WIDE`, `desc`, `gdesc`). NVIDIA's own disassembler knows it: `nvdisasm -lrm narrow`
(https://docs.nvidia.com/cuda/cuda-binary-utilities/, "life range") prints a column for every register, marked `^` where
it is written, `v` read, `x` both, `:` alive, from an analysis along all branches. A register alive *before* the first
instruction is one that some path reads and has not written. Sound code has such registers too. Of the compile gate at
commit ad7a1a4, 356 kernels by ptxas 12.8.93 (sm_80, sm_90) and 12.9.86 (sm_120) and 234 of them by 12.9.86 again, those
were

- ordinary registers 874 times: 609 of them written above their first read, but under a predicate or behind a branch
  whose condition covers the read as well; the rest by `PRMT R75, R42, 0x7632, R75`, which carries along a half of its
  destination that is thrown away;
- one since (attention's backward at d = 128 with dropout, sm_120 by 12.9.86) by `LOP3.LUT R140, R140, 0xffefffff, RZ,
  0xc0`, which clears one bit of a register in which predicates are parked bit by bit, and carries the others along;
- predicates in two kernels a target, whose `R2P PR, R23, 0x11` the disassembler does not count as a write;
- uniform registers in two kernels whose `GMMA` has its first operand in registers: `gdesc[UR20]` then means UR22 and
  UR23, and the disassembler counts all four as read; and in four kernels of attention, the fault itself;
- uniform predicates never.

So a finding is a register that is alive on entry and whose first read, those excuses aside, stands above every write.
It flags the four wrong kernels of those 590 machine codes and nothing else. It proves that no register is garbage in
this sense, not that the code is right: one that is written on some paths only or overwritten too early, a missing
barrier, a wrong address go unseen. CUDA C by NVRTC, whose blocks stand in any order, is not judged.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from v2f_kernels._errors import V2FError
from v2f_kernels._op import BackendUnavailable

KINDS = {"GPR": "R", "PRED": "P", "UGPR": "UR", "UPRED": "UP"}
"""Columns of a listing -> how its registers are spelled."""
RULES = 2
"""Version of the rules: a remembered verdict of others is void."""
_TABLE = "// |"
_CODE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([^;?&]+)")
_MATRIX_FROM_REGISTERS = re.compile(r"[A-Z]GMMA\S* R\d+, R\d+\S*, gdesc\[UR(\d+)\]")
_BIT_CLEARED = re.compile(r"LOP3\.LUT R(\d+), R\1, (0x[0-9a-f]+), RZ, 0xc0, !PT")
_TO_PREDICATES = re.compile(r"R2P PR, [^,]+, (?:(0x[0-9a-f]+)|)")

_REGISTERS_255 = re.compile(rb"(\x04\x2f\x08\x00.{4})\xff\x00\x00\x00", re.DOTALL)
"""Attribute REGCOUNT of a kernel: 255. nvdisasm 12.8.55 then ends with "Invalid register count", so it is told 254:
the columns it prints depend on the code alone."""


class DisassemblerMissing(BackendUnavailable):
    """No `nvdisasm` can be run, so machine code cannot be read."""


class ListingNotUnderstood(V2FError, ValueError):
    """A listing that is no `nvdisasm -lrm narrow` listing of a kernel: nothing was judged."""


@dataclass(frozen=True)
class Finding:
    """A register that some path reads and has not written.

    Args:
        register: e.g. `UR7`.
        address: of the first instruction that reads it, in bytes from the kernel's start.
        instruction: that instruction.
    """

    register: str
    address: int
    instruction: str

    def __str__(self) -> str:
        return f"{self.register} is read and never written before: /*{self.address:04x}*/ {self.instruction}"


@dataclass(frozen=True)
class _Line:
    """An instruction: what it says, and its marks as one string a kind of register, by column."""

    address: int
    text: str
    marks: Mapping[str, str]


def lint(cubin: bytes) -> tuple[Finding, ...]:
    """What is wrong with a compiled kernel; empty when nothing is.

    Raises:
        DisassemblerMissing, ListingNotUnderstood: nothing could be judged.
    """
    return findings(disassemble(cubin))


def disassemble(cubin: bytes) -> str:
    """The listing with life ranges, by the `nvdisasm` that Triton brings along (or `TRITON_NVDISASM_PATH`).

    Raises:
        DisassemblerMissing: there is none, or it cannot read this file.
    """
    try:
        from triton import knobs

        tool = knobs.nvidia.nvdisasm.path
    except (ImportError, RuntimeError) as error:
        raise DisassemblerMissing(f"no nvdisasm: {error}; set TRITON_NVDISASM_PATH to one") from error
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(_REGISTERS_255.sub(lambda match: match[1] + b"\xfe\0\0\0", cubin))
        done = subprocess.run(
            [tool, "-c", "-lrm", "narrow", file], capture_output=True, text=True, check=False
        )
    if done.returncode:
        said = done.stderr.strip()[:200]
        raise DisassemblerMissing(f"{tool} cannot read this: {said}; set TRITON_NVDISASM_PATH to a newer one")
    return done.stdout


def findings(listing: str) -> tuple[Finding, ...]:
    """Judges a listing of `disassemble`.

    Raises:
        ListingNotUnderstood: it holds no kernel with life ranges.
    """
    found: list[Finding] = []
    judged = False
    for part in listing.split("\n\t.section\t.text.")[1:]:
        if "STO_CUDA_ENTRY" not in part:
            continue  # a device function reads what its caller wrote
        columns, lines = _read(part)
        if not lines:
            raise ListingNotUnderstood(f"no instruction in: {part[:80]!r}")
        judged = True
        for kind, numbers in columns.items():
            for column, number in numbers.items():
                if lines[0].marks[kind][column] in ":vx":
                    found += _unexplained(kind, column, number, lines)
    if not judged:
        raise ListingNotUnderstood(f"expected an nvdisasm listing of a kernel, found {listing[:80]!r}")
    return tuple(sorted(found, key=lambda one: (one.address, one.register)))


def _read(part: str) -> tuple[dict[str, dict[int, int]], list[_Line]]:
    """(kind -> column -> register number, instructions) of a section."""
    rows = [
        (code, cells.split("|"))
        for code, mark, cells in (r.partition(_TABLE) for r in part.splitlines())
        if mark
    ]
    top = next((i for i, (_, cells) in enumerate(rows) if cells[0].strip() == "GPR"), None)
    if top is None:
        raise ListingNotUnderstood(f"no life ranges in: {part[:80]!r}")
    kinds = [name.strip() for name in rows[top][1] if name.strip()]
    if unknown := set(kinds) - set(KINDS):
        raise ListingNotUnderstood(
            f"kinds of registers: expected some of {sorted(KINDS)}, found {sorted(unknown)}"
        )
    head = next(i for i, (_, cells) in enumerate(rows) if "#" in cells[0]) + 1
    columns = {
        kind: dict(_numbered([cells[i] for _, cells in rows[top + 1 : head]])) for i, kind in enumerate(kinds)
    }
    lines = []
    for code, cells in rows[head:]:
        if match := _CODE.search(code):
            address, text = match.groups()
            marks = dict(zip(kinds, cells, strict=False))
            lines.append(_Line(int(address, 16), text.strip(), marks))
    return columns, lines


def _numbered(heads: list[str]) -> Iterator[tuple[int, int]]:
    """(column, register number): digits stand above each other, hundreds first."""
    for column in range(len(heads[-1])):
        if heads[-1][column].isdigit():
            yield column, int("".join(h[column] for h in heads if h[column : column + 1].isdigit()))


def _unexplained(kind: str, column: int, number: int, lines: list[_Line]) -> list[Finding]:
    """The finding about a register that is alive on entry: none where a write stands above its first read."""
    for line in lines:
        mark = line.marks[kind][column]
        merged = mark == "x" and (line.text.startswith("PRMT") or _clears_one_bit(line))
        if mark == "^" or merged or (kind == "PRED" and _to_predicates(line) >> number & 1):
            return []
        if mark in "vx" and not _passed_over(kind, number, line):
            return [Finding(f"{KINDS[kind]}{number}", line.address, line.text)]
    return []


def _clears_one_bit(line: _Line) -> bool:
    """Whether a `LOP3` clears a single bit of its own destination: a predicate parked there as false."""
    match = _BIT_CLEARED.match(line.text)
    return match is not None and (~int(match[2], 16) & 0xFFFFFFFF).bit_count() == 1


def _to_predicates(line: _Line) -> int:
    """Which predicates an `R2P` writes, as bits; all seven where its mask is in a register."""
    match = _TO_PREDICATES.match(line.text)
    return int(match[1] or "0x7f", 16) if match else 0


def _passed_over(kind: str, number: int, line: _Line) -> bool:
    """Whether a matrix product whose first operand is in registers names this register and does not read it."""
    match = _MATRIX_FROM_REGISTERS.match(line.text) if kind == "UGPR" else None
    return match is not None and number - int(match[1]) in (0, 1)
