"""A launcher that runs this package's CUDA sources on the CPU (cuda_on_cpu.h), for tests without a GPU."""

from __future__ import annotations

import ctypes
import functools
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from v2f_kernels._cuda.compile import Shape

HEADER = Path(__file__).parent / "cuda_on_cpu.h"
FOLDER = tempfile.TemporaryDirectory(prefix="cuda-on-cpu-")


def has_compiler() -> bool:
    return shutil.which("g++") is not None


@functools.cache
def build(source: Path, shape: Shape) -> ctypes.CDLL:
    text = source.read_text()
    for header in sorted((source.parent.parent / "_cuda").glob("*.cuh")):
        text += header.read_text()
    kernels = re.findall(r'extern "C" __global__ void(?: __launch_bounds__\([^)]*\)\s*)?\s*(\w+)\(', text)
    table = ", ".join(f"V2F_KERNEL({name})" for name in kernels)
    unit = f'#include "{HEADER}"\n#include "{source}"\nV2F_KERNELS_ON_CPU({table})\n'
    stem = f"{source.stem}-{shape.arch}-{shape.dimension}-{shape.block}-{shape.stages}"
    code, library = Path(FOLDER.name) / f"{stem}.cpp", Path(FOLDER.name) / f"{stem}.so"
    code.write_text(unit)
    command = ["g++", "-std=c++17", "-O1", "-shared", "-fPIC", "-ffp-contract=off", "-U_FORTIFY_SOURCE", "-w"]
    command += [f"-DV2F_WGMMA_ON={int(shape.wgmma)}", *shape.defines, str(code), "-o", str(library)]
    subprocess.run(command, check=True)
    loaded = ctypes.CDLL(str(library))
    assert loaded.cuda_on_cpu_shared_bytes() == shape.shared_bytes
    assert loaded.cuda_on_cpu_threads() == shape.threads
    return loaded


class CpuLauncher:
    """Same calls as CupyLauncher; `device` is the CPU."""

    def __init__(self, source: Path, shape: Shape, processors: int = 8, seed: int = 0) -> None:
        self.library, self.shape, self.processors, self.seed = build(source, shape), shape, processors, seed
        self.device = torch.device("cpu")
        self.launched: list[str] = []

    def __call__(self, kernel, grid, threads, *arguments):
        self.launched.append(kernel)
        values = []
        for a in arguments:
            if a is None or isinstance(a, torch.Tensor):
                assert a is None or a.is_contiguous()
                values.append(ctypes.c_void_p(0 if a is None else a.data_ptr()))
            else:
                assert isinstance(a, np.generic), type(a)
                values.append((ctypes.c_char * a.nbytes).from_buffer_copy(a.tobytes()))
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(v) for v in values))
        assert self.library.cuda_on_cpu_launch(kernel.encode(), *grid, threads, self.seed, pointers) == 0, (
            kernel
        )
