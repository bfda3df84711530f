"""CUDA sources to machine code by NVRTC; needs no GPU and no CUDA headers.

`Shape` says with which constants a kernel is compiled for a device. wgmma exists only for the target
`sm_90a`, for which CuPy's own `RawModule(code=...)` would pass a second, contradicting -arch option; so the
sources are compiled here and loaded from their cubin.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shutil
import struct
import tempfile
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from v2f_kernels._op import BackendUnavailable

HEADERS = Path(__file__).parent
"""Where the headers lie that the sources of all ops include."""
CHUNK_BYTES = 128 * 128
SHARED_LIMIT = {80: 166_912, 86: 101_376, 89: 101_376, 90: 232_448, 100: 232_448, 120: 101_376}
"""Shared memory one block may use, by compute capability (CUDA C++ Programming Guide)."""


@dataclass(frozen=True)
class Shape:
    """Compile-time constants of the int8 product.

    Args:
        arch: NVRTC target, such as "sm_90a".
        dimension: vector length D.
        block: rows of side a per thread block.
        stages: 16 KiB buffers that side b streams through.
    """

    arch: str
    dimension: int
    block: int
    stages: int

    @property
    def wgmma(self) -> bool:
        return self.arch == "sm_90a"

    @property
    def threads(self) -> int:
        return 384 if self.wgmma else 256

    @property
    def chunks(self) -> int:
        return -(-self.dimension // 128)

    @property
    def shared_bytes(self) -> int:
        barriers = 8 * (2 * self.stages + 1) if self.wgmma else 0
        return self.chunks * self.block * 128 + self.stages * CHUNK_BYTES + barriers

    @property
    def defines(self) -> tuple[str, ...]:
        return (f"-DDIM={self.dimension}", f"-DBLOCK={self.block}", f"-DSTAGES={self.stages}")


def shape_for(capability: tuple[int, int], dimension: int, shared_limit: int | None = None) -> Shape:
    """The largest block that leaves three buffers (two where nothing better fits) on such a device.

    Raises:
        BackendUnavailable: a device before sm_80, or one with too little shared memory.
    """
    number = 10 * capability[0] + capability[1]
    if number < 80:
        raise BackendUnavailable(f"int8 kernels need compute capability 8.0 or later, found {capability}")
    limit = shared_limit or SHARED_LIMIT.get(number, 101_376)
    arch = "sm_90a" if number == 90 else f"sm_{number}"
    for fewest in (3, 2):
        for block in (256, 128) if number == 90 else (128, 64):
            for stages in (4, 3, 2):
                shape = Shape(arch, dimension, block, stages)
                if stages >= fewest and shape.shared_bytes <= limit:
                    return shape
    raise BackendUnavailable(f"vectors of {dimension} entries need more than {limit} bytes of shared memory")


@dataclass(frozen=True)
class Compiled:
    """Machine code and what the assembler said about it."""

    cubin: bytes
    log: str

    def resources(self) -> dict[str, dict[str, int]]:
        """Kernel -> registers, stack bytes, spill stores and loads in bytes, from `ptxas -v`."""
        found = {}
        for part in self.log.split("Compiling entry function '")[1:]:
            name = part.split("'", 1)[0]
            stack, stores, loads = re.findall(
                rf"properties for {name}\s.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes",
                part,
                re.DOTALL,
            )[0]
            registers = re.findall(r"Used (\d+) registers", part)[0]
            found[name] = {
                "registers": int(registers),
                "stack": int(stack),
                "spill_stores": int(stores),
                "spill_loads": int(loads),
            }
        return found


def compile_cubin(source: Path, shape: Shape) -> Compiled:
    """Compiles a `.cu` file of this package.

    Raises:
        ImportError: CuPy or NVRTC is missing.
        RuntimeError: the compiler's messages.
    """
    from cupy_backends.cuda.libs import nvrtc

    program = nvrtc.createProgram(source.read_text(), source.name, (), ())
    try:
        nvrtc.compileProgram(program, _options(source, shape))
        return Compiled(_whole(nvrtc.getCUBIN(program)), nvrtc.getProgramLog(program))
    except nvrtc.NVRTCError as error:
        raise RuntimeError(f"{source.name} for {shape}: {error}\n{nvrtc.getProgramLog(program)}") from error
    finally:
        nvrtc.destroyProgram(program)


def _options(source: Path, shape: Shape) -> tuple[str, ...]:
    return (
        f"--gpu-architecture={shape.arch}",
        "--std=c++17",
        f"--include-path={source.parent}",
        "--ptxas-options=-v",
        "-lineinfo",
        *shape.defines,
    )


def _whole(cubin: bytes) -> bytes:
    """CuPy 14.2 returns a cubin without its last byte (0, of the last program header); ELF tools refuse that."""
    table, size, entries = struct.unpack_from("<Q14xHH", cubin, 32)
    return cubin.ljust(table + size * entries, b"\0")


@cache
def load(source: Path, shape: Shape, device: int) -> Any:
    """The CuPy module of a source on a device, which must be the current one."""
    import cupy

    module = cupy.RawModule(path=str(kept_cubin(source, shape)))
    module.compile()
    return module


def kept_cubin(source: Path, shape: Shape) -> Path:
    """The machine code of a source as a file: found, if this or another process has compiled the same before.

    It lies in `CUPY_CACHE_DIR`, by default `~/.cupy/kernel_cache`, beside what CuPy keeps itself; where that cannot be
    written, a warning says so and a folder of this process takes its place. The name is a hash of everything that goes
    in: the sources and headers of this package, the options, the compiler's version.
    """
    from cupy_backends.cuda.libs import nvrtc

    digest = hashlib.sha256(repr((_options(source, shape), nvrtc.getVersion())).encode())
    for part in (source, *sorted(source.parent.glob("*.cuh")), *sorted(HEADERS.glob("*.cuh"))):
        digest.update(f"{part.name} {part.stat().st_size} ".encode() + part.read_bytes())
    name = f"v2f-{source.stem}-{shape.arch}-{digest.hexdigest()}.cubin"
    asked = Path(os.environ.get("CUPY_CACHE_DIR") or Path.home() / ".cupy" / "kernel_cache")
    if (asked / name).is_file():
        return asked / name
    cubin = compile_cubin(source, shape).cubin
    try:
        return _written(asked, name, cubin)
    except OSError as error:
        warnings.warn(
            f"{asked} cannot be written ({error}), so CUDA kernels are compiled by every process; set CUPY_CACHE_DIR",
            stacklevel=2,
        )
        return _written(Path(_folder()), name, cubin)


def _written(folder: Path, name: str, cubin: bytes) -> Path:
    """Written under another name first: a process that dies meanwhile leaves no half of a file under this one."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".v2f-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(cubin)
        os.replace(temporary, folder / name)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return folder / name


@cache
def _folder() -> str:
    """A folder of this process: CuPy may read a cubin when its first kernel is asked for."""
    folder = tempfile.mkdtemp(prefix="v2f-kernels-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
