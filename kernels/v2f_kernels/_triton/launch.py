"""How a kernel is launched: the `launch` entries of `v2f_kernels/tuned/<device>.json` (format: `v2f_kernels._tuned`).

    {"forward": {"num_warps": 4, "num_stages": 2, "BLOCK_M": 128}, "forward/half": {...}}

The default's entries are complete; a device's file holds what was measured to be better there. A kernel may have
variants, written `kernel/variant`; the most specific entry wins, the device's before the default's. A
configuration changes speed and never results beyond the rounding of a different tile.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

import torch

from v2f_kernels._op import BackendUnavailable
from v2f_kernels._triton.guard import watch
from v2f_kernels._tuned import DEFAULT as DEFAULT
from v2f_kernels._tuned import TUNED as TUNED
from v2f_kernels._tuned import WARPS, tables

INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether this process's kernels are interpreted: Triton decides it once, when a kernel is imported."""
ASSUMED_SECTION: ContextVar[str] = ContextVar("ASSUMED_SECTION", default=DEFAULT)
"""Section that launches on meta tensors read: the compile gate walks through all of them."""


@dataclass(frozen=True)
class LaunchConfig:
    """One way to launch a kernel.

    Args:
        num_warps: warps per program; a power of two.
        num_stages: software-pipeline depth of the kernel's loops.
        blocks: tile sizes by their constexpr names.
        source: `device:key` of the entry it came from, for reports.
    """

    num_warps: int
    num_stages: int
    blocks: Mapping[str, int]
    source: str

    def __post_init__(self) -> None:
        if self.num_warps not in WARPS:
            raise ValueError(
                f"{self.source}: num_warps: expected a power of two up to 32, found {self.num_warps}"
            )
        if self.num_stages < 1:
            raise ValueError(f"{self.source}: num_stages must be at least 1, found {self.num_stages}")

    @property
    def arguments(self) -> dict[str, int]:
        """Keyword arguments of the launch: `kernel[grid](..., **config.arguments)`."""
        return {**self.blocks, "num_warps": self.num_warps, "num_stages": self.num_stages}


def sections(op: str) -> Mapping[str, Mapping[str, Any]]:
    """Section -> kernel key -> entry of an op: `default`, then every device whose file launches this op in its own way,
    each of those with its `capability` (such as 90) beside the kernels.

    Raises:
        TunedTableError: a file of `tuned/` cannot be used.
    """
    found: dict[str, Mapping[str, Any]] = {DEFAULT: tables(TUNED)[DEFAULT].launch.get(op, {})}
    for device, table in tables(TUNED).items():
        if device != DEFAULT and table.launch.get(op):
            found[device] = {"capability": table.measured["capability"], **table.launch[op]}
    return MappingProxyType(found)


def launched_ops() -> tuple[str, ...]:
    """Every op whose kernels some file of `tuned/` launches."""
    return tuple(sorted({op for table in tables(TUNED).values() for op in table.launch}))


def launch_config(op: str, kernel: str, device: torch.device, variant: str = "") -> LaunchConfig:
    """The most specific configuration of `kernel` for `device`.

    Args:
        op: the op's folder name.
        kernel: key of the kernel within the op, e.g. `forward`.
        device: where the launch runs. A meta device reads the section named by `ASSUMED_SECTION`.
        variant: e.g. `d=48`; looked up as `forward/d=48` before `forward`.

    Raises:
        KeyError: neither the device nor the default section lists the kernel.
    """
    section = ASSUMED_SECTION.get() if device.type == "meta" else _section_name(device)
    return _lookup(op, kernel, variant, section)


@cache
def _section_name(device: torch.device) -> str:
    """The device's section; every launch asks for it first, so machine code is watched from here on."""
    if device.type != "cuda":
        return DEFAULT
    watch()
    return torch.cuda.get_device_name(device)


@cache
def _lookup(op: str, kernel: str, variant: str, section: str) -> LaunchConfig:
    table = sections(op)
    keys = (f"{kernel}/{variant}", kernel) if variant else (kernel,)
    for name in (section, DEFAULT):
        for key in keys:
            if key in table.get(name, {}):
                entry = dict(table[name][key])
                warps, stages = entry.pop("num_warps"), entry.pop("num_stages")
                return LaunchConfig(warps, stages, MappingProxyType(entry), f"{name}:{key}")
    raise KeyError(f"tuned/default.json launches no {kernel!r} of {op}; known: {sorted(table[DEFAULT])}")


def require_cuda(op: str, *tensors: torch.Tensor) -> None:
    """Refuses tensors that no Triton kernel can read.

    CPU tensors pass under the Triton interpreter (TRITON_INTERPRET=1), meta tensors always: the gate of
    `_triton.aot` compiles from them and never launches.

    Raises:
        BackendUnavailable: a tensor lives on another device.
    """
    for tensor in tensors:
        kind = tensor.device.type
        if kind in ("cuda", "meta") or (kind == "cpu" and INTERPRETING):
            continue
        raise BackendUnavailable(
            f"{op}/triton needs CUDA tensors, found one on {tensor.device}; move the model and its input "
            "to a GPU, or choose the backend 'torch'"
        )
