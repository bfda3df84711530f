"""Which backend runs each op on a device, and why: decided once, shown by `v2f env`, kept in manifests.

Nothing here looks anything up in a hot loop, and no environment variable changes the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2f_kernels import Op

from v2f_engine.config import one_of
from v2f_engine.errors import BackendUnavailable, ConfigError

if TYPE_CHECKING:
    import torch

_FUSED = "fused Triton kernel: one pass over memory, and the op is bound by memory"
_VENDOR = "cuBLAS/cuDNN: the op is bound by arithmetic, and no committed measurement shows our kernel ahead"
_CPU = "oneDNN and ATen: the fastest form measured on a CPU"

_CUDA: Mapping[str, tuple[str, str]] = {
    "attention": ("triton", _FUSED),
    "conv3x3": ("torch", _VENDOR),
    "expand_tokens": ("triton", _FUSED),
    "gelu_linear": ("torch", _VENDOR),
    "group_norm_silu": ("triton", _FUSED),
    "layer_norm": ("triton", _FUSED),
    "to_uint8": ("triton", _FUSED),
    "upsample_conv3x3": ("torch", _VENDOR),
    "upsample_conv3x3_folded": ("torch", _VENDOR),
}
_HOMES = {"upsample_conv3x3_folded": ("upsample_conv3x3", "FOLDED")}
OPS = tuple(_CUDA)
"""The ops a `Vec2Face` binds."""

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_MATRIX_BF16 = ("avx512_bf16", "amx_bf16")
"""CPU features that multiply bf16 in hardware; without them bf16 is emulated and slower than fp32."""


@dataclass(frozen=True)
class Machine:
    """What the choice depends on, gathered by `look` or made up by a test.

    Args:
        cuda_devices: how many CUDA devices torch sees.
        cpu_flags: CPU features as the kernel names them.
        has_triton: whether triton can be imported.
    """

    cuda_devices: int
    cpu_flags: frozenset[str]
    has_triton: bool

    @classmethod
    @cache
    def look(cls) -> Machine:
        """This machine."""
        import torch

        return cls(
            torch.cuda.device_count() if torch.cuda.is_available() else 0,
            _cpu_flags(),
            find_spec("triton") is not None,
        )


@dataclass(frozen=True)
class Choice:
    """What runs where.

    Args:
        device: `cpu` or `cuda:N`.
        precision: `fp32`, `bf16` or `fp16`.
        backends: op -> backend.
        reasons: op -> why; `precision` and `device` have reasons too.
    """

    device: str
    precision: str
    backends: Mapping[str, str]
    reasons: Mapping[str, str]

    @property
    def dtype(self) -> torch.dtype:
        """The torch dtype of `precision`."""
        import torch

        dtype: torch.dtype = getattr(torch, _DTYPES[self.precision])
        return dtype

    def describe(self) -> dict[str, Any]:
        """Plain values, for manifests: device, precision and op -> backend."""
        return {
            "device": self.device,
            "precision": self.precision,
            "backends": dict(sorted(self.backends.items())),
        }


def choose(device: str = "auto", precision: str = "auto", *, machine: Machine | None = None) -> Choice:
    """The choice for a device. Pure: the same arguments and machine give the same answer.

    Args:
        device: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`.
        precision: `auto`, `fp32`, `bf16` or `fp16`.
        machine: this one by default.

    Raises:
        ConfigError: a device or precision nobody knows, or fp16 on a CPU.
        BackendUnavailable: a GPU that is not there, or a GPU without triton.
    """
    seen = machine or Machine.look()
    one_of("precision", precision, PRECISIONS)
    kind, where, why_device = _device(device, seen)
    numbers, why_precision = _precision(precision, kind, seen)
    backends, reasons = _table(kind, seen)
    return Choice(where, numbers, backends, {**reasons, "device": why_device, "precision": why_precision})


def _device(device: str, seen: Machine) -> tuple[str, str, str]:
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


def _precision(precision: str, kind: str, seen: Machine) -> tuple[str, str]:
    if precision == "auto":
        if kind == "cuda":
            return "fp16", "smallest error of the two half formats (3.3e-3 against 2.6e-2), same rate"
        found = next((flag for flag in _MATRIX_BF16 if flag in seen.cpu_flags), None)
        if found:
            return "bf16", f"the CPU multiplies bf16 in hardware ({found})"
        return "fp32", "the CPU has neither avx512_bf16 nor amx_bf16"
    if precision == "fp16" and kind == "cpu":
        raise ConfigError(
            "precision 'fp16' on a CPU is emulated and slower than fp32; use bf16, fp32 or auto."
        )
    return precision, "asked for"


def _table(kind: str, seen: Machine) -> tuple[dict[str, str], dict[str, str]]:
    if kind == "cpu":
        return dict.fromkeys(OPS, "torch"), dict.fromkeys(OPS, _CPU)
    if not seen.has_triton:
        raise BackendUnavailable(
            "A GPU's kernels need triton: pip install 'v2f-engine[gpu]', or use device='cpu'."
        )
    backends, reasons = {}, {}
    for name, (wanted, why) in _CUDA.items():
        listed = wanted in op_named(name).backends
        backends[name] = wanted if listed else "torch"
        reasons[name] = why if listed else f"the op lists no {wanted} backend"
    return backends, reasons


def op_named(name: str) -> Op:
    """The op called `name`, e.g. `attention` or `upsample_conv3x3_folded`."""
    folder, attribute = _HOMES.get(name, (name, "OP"))
    op: Op = getattr(import_module(f"v2f_kernels.{folder}"), attribute)
    return op


def _cpu_flags() -> frozenset[str]:
    """Features of the first core, as Linux names them; empty elsewhere, where fp32 is the answer."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    found = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(found.partition(":")[2].split())
