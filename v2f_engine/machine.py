"""What a machine has that decides which backends run on it, and the device and the precision it gets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from v2f_kernels._cudnn.library import BRINGS
from v2f_kernels._extras import install

from v2f_engine.config import one_of
from v2f_engine.errors import BackendUnavailable, ConfigError

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_MATRIX_BF16 = ("avx512_bf16", "amx_bf16")
"""CPU features that multiply bf16 in hardware; without them bf16 is emulated and slower than fp32."""
NO_BF16 = "the CPU has neither avx512_bf16 nor amx_bf16"


@dataclass(frozen=True)
class Machine:
    """What the choice of backends depends on, gathered by `look` or made up by a test.

    Args:
        cuda_devices: how many CUDA devices torch sees.
        cpu_flags: CPU features as the kernel names them.
        has_triton: whether triton can be imported.
        gpus: their names as torch gives them; one that is missing is a GPU that no table knows.
        no_extension: why the compiled extension cannot be used and how to get it; empty where it can.
        no_cudnn: why cuDNN's graphs cannot be used and how to get them; empty where they can.
    """

    cuda_devices: int
    cpu_flags: frozenset[str]
    has_triton: bool
    gpus: tuple[str, ...] = ()
    no_extension: str = ""
    no_cudnn: str = ""

    @classmethod
    @cache
    def look(cls) -> Machine:
        """This machine."""
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return cls(
            count,
            _cpu_flags(),
            find_spec("triton") is not None,
            tuple(torch.cuda.get_device_name(index) for index in range(count)),
            no_extension(),
            ""
            if find_spec("cudnn")
            else f"nvidia-cudnn-frontend is not installed: {install('cudnn')} ({BRINGS})",
        )


@cache
def no_extension() -> str:
    """Why the compiled extension cannot be used here and how to get it; empty where it can. Imports no torch."""
    try:
        import_module("v2f_kernels._native")
    except ImportError as error:
        return str(error)
    return ""


def device_of(device: str, seen: Machine) -> tuple[str, str, str]:
    """(`cpu` or `cuda`, `cpu` or `cuda:N`, why) of a device that was asked for.

    Raises:
        ConfigError: a device nobody knows. BackendUnavailable: a GPU that is not there.
    """
    if device == "auto":
        if seen.cuda_devices:
            return "cuda", "cuda:0", "the first GPU"
        return "cpu", "cpu", "no GPU that torch can see"
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()) or (kind == "cpu" and index):
        raise ConfigError(f"device {device!r} is not known. Known: auto, cpu, cuda, cuda:N.")
    if kind == "cpu":
        return "cpu", "cpu", "asked for"
    number = int(index or 0)
    if number >= seen.cuda_devices:
        raise BackendUnavailable(
            f"device {device!r}: torch sees {seen.cuda_devices} GPUs here. Use device='cpu', or install a"
            " driver and a torch built for CUDA."
        )
    return "cuda", f"cuda:{number}", "asked for"


def precision_of(precision: str, kind: str, seen: Machine) -> tuple[str, str]:
    """(`fp32`, `bf16` or `fp16`, why) of a precision that was asked for on a `cpu` or `cuda`.

    Raises:
        ConfigError: a precision nobody knows, or fp16 on a CPU.
    """
    one_of("precision", precision, PRECISIONS)
    if precision == "auto":
        if kind == "cuda":
            return "fp16", "smallest error of the two half formats (3.3e-3 against 2.6e-2), same rate"
        found = next((flag for flag in _MATRIX_BF16 if flag in seen.cpu_flags), None)
        if found:
            return "bf16", f"the CPU multiplies bf16 in hardware ({found})"
        return "fp32", NO_BF16
    if precision == "fp16" and kind == "cpu":
        raise ConfigError(
            "precision 'fp16' on a CPU is emulated and slower than fp32; use bf16, fp32 or auto."
        )
    return precision, "asked for"


def _cpu_flags() -> frozenset[str]:
    """Features of the first core, as Linux names them; empty elsewhere, where fp32 is the answer."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    found = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(found.partition(":")[2].split())
