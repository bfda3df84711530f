"""Which backend runs each op on a device, and why: decided once, shown by `v2f env`, kept in manifests.

On a CPU every op is torch's. On a GPU the answer is read from `v2f_kernels/tuned/<device>.json`, by op, shape class,
dtype and use; see `v2f_kernels._tuned` for the format and `RULE` for what serves a shape or a device that no file
names. Nothing here looks anything up in a hot loop, and no environment variable changes the answer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2f_kernels._shapes import ANY, SHAPES
from v2f_kernels._tuned import DEFAULT, Pick, Table, tables
from v2f_kernels._tuned import op_named as op_named

from v2f_engine.config import one_of
from v2f_engine.errors import BackendUnavailable, ConfigError

if TYPE_CHECKING:
    import torch

_CPU = "oneDNN and ATen: the fastest form measured on a CPU"

OPS = tuple(SHAPES)
"""The ops a `Vec2Face` binds."""

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_MATRIX_BF16 = ("avx512_bf16", "amx_bf16")
"""CPU features that multiply bf16 in hardware; without them bf16 is emulated and slower than fp32."""


RULE = (
    "a shape that the device's table does not name takes the device's entry for any shape, then the default table's;"
    " an entry without gradients says nothing about training"
)


@dataclass(frozen=True)
class Machine:
    """What the choice depends on, gathered by `look` or made up by a test.

    Args:
        cuda_devices: how many CUDA devices torch sees.
        cpu_flags: CPU features as the kernel names them.
        has_triton: whether triton can be imported.
        gpus: their names as torch gives them; one that is missing is a GPU that no table knows.
    """

    cuda_devices: int
    cpu_flags: frozenset[str]
    has_triton: bool
    gpus: tuple[str, ...] = ()

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
        )


@dataclass(frozen=True)
class Choice:
    """What runs where.

    Args:
        device: `cpu` or `cuda:N`.
        precision: `fp32`, `bf16` or `fp16`.
        backends: op -> backend of every shape that `shapes` does not name.
        reasons: op -> why; `precision`, `device` and `table` have reasons too.
        shapes: op -> shape class -> what runs there and why, for this precision and use.
        gradients: whether it was made for training.
        launch: what identifies the device's own launch configurations; empty where it has none.
    """

    device: str
    precision: str
    backends: Mapping[str, str]
    reasons: Mapping[str, str]
    shapes: Mapping[str, Mapping[str, Pick]] = field(default_factory=dict)
    gradients: bool = False
    launch: str = ""

    @property
    def dtype(self) -> torch.dtype:
        """The torch dtype of `precision`."""
        import torch

        dtype: torch.dtype = getattr(torch, _DTYPES[self.precision])
        return dtype

    def backend_of(self, op: str, shape: str) -> str:
        """What runs `op` on a shape class (`v2f_kernels._shapes`)."""
        pick = self.shapes.get(op, {}).get(shape)
        return self.backends[op] if pick is None else pick.use

    def describe(self) -> dict[str, Any]:
        """Plain values, for manifests: device, precision and op -> backend.

        Where a shape class has another backend than the rest of its op, `shapes` has op -> class -> backend; where
        the device has launch configurations of its own, `launch` identifies them. On a CPU and on a GPU without a
        table neither is there, so that datasets begun before they existed go on.
        """
        told: dict[str, Any] = {
            "device": self.device,
            "precision": self.precision,
            "backends": dict(sorted(self.backends.items())),
        }
        other = {
            op: {shape: pick.use for shape, pick in sorted(listed.items()) if pick.use != self.backends[op]}
            for op, listed in sorted(self.shapes.items())
        }
        if any(other.values()):
            told["shapes"] = {op: shapes for op, shapes in other.items() if shapes}
        if self.launch:
            told["launch"] = self.launch
        return told


def choose(
    device: str = "auto",
    precision: str = "auto",
    *,
    gradients: bool = False,
    machine: Machine | None = None,
    known: Mapping[str, Table] | None = None,
) -> Choice:
    """The choice for a device. Pure: the same arguments, machine and tables give the same answer.

    Args:
        device: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`.
        precision: `auto`, `fp32`, `bf16` or `fp16`.
        gradients: whether the network will be trained, where another backend may be the better one.
        machine: this one by default.
        known: device -> table; the committed ones by default, read once a process.

    Raises:
        ConfigError: a device or precision nobody knows, or fp16 on a CPU.
        BackendUnavailable: a GPU that is not there, or a GPU without triton.
        TunedTableError: a file of `v2f_kernels/tuned` that cannot be used.
    """
    seen = machine or Machine.look()
    one_of("precision", precision, PRECISIONS)
    kind, where, why_device = _device(device, seen)
    numbers, why_precision = _precision(precision, kind, seen)
    about = {"device": why_device, "precision": why_precision}
    if kind == "cpu":
        reasons = {**dict.fromkeys(OPS, _CPU), **about, "table": "none: a CPU runs torch's own operators"}
        return Choice(where, numbers, dict.fromkeys(OPS, "torch"), reasons, gradients=gradients)
    if not seen.has_triton:
        raise BackendUnavailable(
            "A GPU's kernels need triton: pip install 'v2f-engine[gpu]', or use device='cpu'."
        )
    name = next(iter(seen.gpus[int(where.partition(":")[2]) :]), "")
    return _chosen(where, numbers, gradients, name, about, tables() if known is None else known)


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


def _chosen(
    where: str,
    precision: str,
    gradients: bool,
    gpu: str,
    about: Mapping[str, str],
    known: Mapping[str, Table],
) -> Choice:
    """What the GPU's table and the default say, the most specific entry first."""
    own = [known[gpu]] if gpu in known and gpu != DEFAULT else []
    order = [*own, known[DEFAULT]]
    backends, reasons, shapes = {}, {}, {}
    for op in OPS:
        rest = next(
            (table, pick)
            for table in order
            if (pick := table.pick(op, ANY, precision, gradients)) is not None
        )
        backends[op], reasons[op] = rest[1].use, rest[1].why
        # A table's `*` hides what later tables say of single shapes.
        reached = order[: order.index(rest[0]) + 1]
        named = {
            shape: pick
            for table in reversed(reached)
            for shape, pick in table.named(op, precision, gradients)
        }
        if named:
            shapes[op] = named
    reasons |= {**about, "table": _origin(gpu, own)}
    return Choice(where, precision, backends, reasons, shapes, gradients, _launch_of(own))


def _origin(gpu: str, own: list[Table]) -> str:
    """Where the answer comes from, in words."""
    if not own:
        return f"tuned/{DEFAULT}.json: no table was measured on {gpu or 'a GPU without a name'!r}"
    told = own[0].measured
    return (
        f"tuned/{own[0].file}: measured {told['date']} at {told['commit']}, torch {told['torch']}, triton "
        f"{told['triton']}, ptxas {told['ptxas']}; {told['source']}"
    )


def _launch_of(own: list[Table]) -> str:
    """Twelve digits of the sha256 of a device's own launch configurations."""
    entries = {
        op: {key: dict(entry) for key, entry in listed.items()}
        for table in own
        for op, listed in table.launch.items()
    }
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()[:12] if entries else ""


def _cpu_flags() -> frozenset[str]:
    """Features of the first core, as Linux names them; empty elsewhere, where fp32 is the answer."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    found = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(found.partition(":")[2].split())
