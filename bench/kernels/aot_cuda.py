"""Compiles the CUDA sources with NVRTC for every supported target, without a GPU, and writes the committed table.

    python -m bench.kernels.aot_cuda      rewrites bench/results/aot_cuda.md

`pytest -m aot` compares a fresh table with the committed one. Registers and spills are what ptxas reports, the
tensor-core instruction and its count are read from the machine code with the disassembler that Triton ships.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from v2f_kernels._cuda.compile import SHARED_LIMIT, compile_cubin, shape_for
from v2f_kernels.nearest_cosine import on_device as nearest
from v2f_kernels.reject_similar import on_device as reject

from bench import RESULTS

TABLE = RESULTS / "aot_cuda.md"
SOURCES = {"reject_similar": reject.SOURCE, "nearest_cosine": nearest.SOURCE}
MULTIPLIES = {"screen", "triangle", "nearest"}
TARGETS = [((8, 0), 512), ((9, 0), 512), ((9, 0), 1024), ((12, 0), 512)]
TENSOR_CORE = ("IGMMA", "IMMA")
HEAD = """# CUDA kernels, compiled ahead of time

By NVRTC 13.0 (`python -m bench.kernels.aot_cuda`); compared by `pytest -m aot`. Nothing here has run on a GPU.

| source | kernel | target | D | rows x stages | registers | spill bytes | shared bytes (limit) | tensor core |
|---|---|---|---|---|---|---|---|---|
"""


def tensor_core(cubin: bytes) -> dict[str, str]:
    """Kernel -> "INSTRUCTION x count" in its machine code, "" without one."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "nvdisasm"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([tool, file.name], capture_output=True, text=True, check=True).stdout
    found = {}
    for part in re.split(r"\n\.text\.", text)[1:]:
        name = part.split(":", 1)[0]
        opcodes = [re.findall(rf"\b{key}[A-Z0-9_.x]*", part) for key in TENSOR_CORE]
        kinds = [f"{hits[0]} x {len(hits)}" for hits in opcodes if hits]
        found[name] = ", ".join(kinds)
    return found


def rows() -> list[str]:
    lines = []
    for name, source in SOURCES.items():
        for capability, dimension in TARGETS:
            shape = shape_for(capability, dimension)
            compiled = compile_cubin(source, shape)
            if "serialized" in compiled.log:
                raise RuntimeError(f"{name} for {shape}: wgmma is serialised:\n{compiled.log}")
            instructions = tensor_core(compiled.cubin)
            for kernel, used in sorted(compiled.resources().items()):
                shared = limit = ""
                if kernel in MULTIPLIES:
                    shared, limit = f"{shape.shared_bytes:,}", f" ({SHARED_LIMIT[10 * capability[0]]:,})"
                lines.append(
                    f"| {name} | {kernel} | {shape.arch} | {dimension} | {shape.block} x {shape.stages} | "
                    f"{used['registers']} | {used['spill_stores'] + used['spill_loads']} | {shared}{limit} | "
                    f"{instructions[kernel]} |"
                )
    return lines


def text() -> str:
    return HEAD + "\n".join(rows()) + "\n"


if __name__ == "__main__":
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text(text())
    sys.stdout.write(TABLE.read_text())
