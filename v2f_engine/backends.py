"""Which backend runs each op on a device, and why: decided once, shown by `v2f env`, kept in manifests.

The only place where a backend is chosen. `TABLE` lists every op; what it calls `TUNED` is read from
`v2f_kernels/tuned/<device>.json`, by op, shape class, dtype and use; see `v2f_kernels._tuned` for the format and
`RULE` for what serves a shape or a device that no file names. Nothing here looks anything up in a hot loop, and no
environment variable changes the answer.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from v2f_kernels._cpu_shapes import cpu_shapes
from v2f_kernels._extras import install
from v2f_kernels._shapes import ANY, SHAPES, TRAINED
from v2f_kernels._tuned import DEFAULT, Pick, Table, tables
from v2f_kernels._tuned import op_named as op_named

from v2f_engine.errors import BackendUnavailable
from v2f_engine.machine import Machine, device_of, no_extension, precision_of

if TYPE_CHECKING:
    import torch

TUNED = "tuned"
"""In `TABLE`: the GPU's file decides, by shape class and dtype."""
HOST = "host"
"""In `TABLE`: NumPy arrays go in and come out wherever the network runs, and every backend gives the same bits."""

TABLE: Mapping[str, tuple[str, str, str]] = {
    # op                        CPU          CPU, gradients    CUDA
    "attention":               ("torch",     "torch_products", TUNED),
    "batch_norm_prelu":        ("torch",     "torch",          TUNED),
    "bias_prelu":              ("torch",     "torch",          TUNED),
    "bias_residual":           ("torch",     "torch",          TUNED),
    "conv3x3":                 ("torch",     "torch",          TUNED),
    "expand_tokens":           ("torch",     "torch",          TUNED),
    "gelu_linear":             ("torch",     "torch",          TUNED),
    "group_norm_leaky":        ("torch",     "torch",          TUNED),
    "group_norm_silu":         ("torch",     "torch_rows",     TUNED),
    "layer_norm":              ("torch",     "torch",          TUNED),
    "multi_scale_stem":        ("torch",     "torch",          TUNED),
    "to_uint8":                ("torch",     "torch",          TUNED),
    "unit_distance":           ("torch",     "torch",          TUNED),
    "upsample_conv3x3":        ("torch",     "torch",          TUNED),
    "upsample_conv3x3_folded": ("torch",     "torch",          TUNED),
    "nearest_cosine":          (HOST,        HOST,             HOST),
    "perturb_measured":        (HOST,        HOST,             HOST),
    "philox_draw":             (HOST,        HOST,             HOST),
    "reject_similar":          (HOST,        HOST,             HOST),
    "similar_to_earlier":      (HOST,        HOST,             HOST),
    "add_statistics":          ("reference", "reference",      "triton"),
    "group_statistics":        ("reference", "reference",      "triton"),
    "perturb":                 ("reference", "reference",      "reference"),
    "perturb_drawn":           ("reference", "reference",      "reference"),
    "philox":                  ("reference", "reference",      "reference"),
    "ssim":                    ("torch",     "torch",          "triton"),
}  # fmt: skip
"""Op -> backend on a CPU, on a CPU where gradients are asked for, and on a GPU. First what the network calls, then
what vectors and random numbers call, then what only other ops, measurements and losses call."""

_WHY = {
    "torch": "oneDNN and ATen: the fastest form measured on a CPU",
    "torch_products": "two batched products go back in 8 ms where ATen's flash attention takes 45",
    "torch_rows": "sums over rows: forward and backward in 130 ms where ATen's GroupNorm takes 258",
    "triton": "the form made for a GPU",
    "reference": "no other form runs here",
}

OPS = tuple(TABLE)
_HOST_OPS = tuple(op for op, row in TABLE.items() if HOST in row)

_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}

RULE = (
    "a shape that the device's table does not name takes the device's entry for any shape, then the default table's;"
    " an entry without gradients says nothing about training"
)


@dataclass(frozen=True)
class Choice:
    """What runs where.

    Args:
        device: `cpu` or `cuda:N`.
        precision: `fp32`, `bf16` or `fp16`.
        backends: every op -> backend of every shape that `shapes` does not name.
        reasons: op -> why; `precision`, `device` and `table` have reasons too.
        shapes: op -> shape class -> what runs there and why, for this precision and use.
        gradients: whether it was made for training.
        launch: what identifies the device's own launch configurations; empty where it has none.
        chunk: images that go through the upper levels of the image decoder at a time; 0 for all of a batch.
    """

    device: str
    precision: str
    backends: Mapping[str, str]
    reasons: Mapping[str, str]
    shapes: Mapping[str, Mapping[str, Pick]] = field(default_factory=dict)
    gradients: bool = False
    launch: str = ""
    chunk: int = 0

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

    def describe(self, reached: Container[tuple[str, str]] | None = None) -> dict[str, Any]:
        """Plain values, for manifests: device, precision and op -> backend, of the ops that decide an image's bytes.

        Args:
            reached: (op, shape class) pairs that the network has, where others decide none of its bytes; all if None.

        Ops on host arrays give the same bits by any backend: see `told_on_host`. Where a shape class has another
        backend than the rest of its op, `shapes` has op -> class -> backend; where the device has launch
        configurations of its own, `launch` identifies them. For a network that reaches none of a CPU's shapes, and on
        a GPU without a table, neither is there, so that datasets begun before they existed go on.
        """
        told: dict[str, Any] = {
            "device": self.device,
            "precision": self.precision,
            "backends": {
                op: use for op, use in sorted(self.backends.items()) if op in SHAPES.keys() - TRAINED
            },
        }
        other = {
            op: {
                shape: pick.use
                for shape, pick in sorted(listed.items())
                if pick.use != self.backends[op] and (reached is None or (op, shape) in reached)
            }
            for op, listed in sorted(self.shapes.items())
            if op not in TRAINED
        }
        if any(other.values()):
            told["shapes"] = {op: shapes for op, shapes in other.items() if shapes}
        if self.launch:
            told["launch"] = self.launch
        if self.chunk:
            told["chunk"] = self.chunk
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
    kind, where, why_device = device_of(device, seen)
    numbers, why_precision = precision_of(precision, kind, seen)
    picks: dict[str, Pick] = {}
    shapes: dict[str, Mapping[str, Pick]] = {}
    column, table, launch = int(gradients), "none: a CPU runs torch's own operators", ""
    if kind == "cpu" and (shapes := cpu_shapes(numbers, gradients, seen.cpu_flags, seen.no_extension)):
        table = "v2f_kernels/_cpu_shapes.py: measured on a CPU with avx512_bf16; other shapes run torch's own operators"
    chunk = None
    if kind == "cuda":
        if not seen.has_triton:
            raise BackendUnavailable(f"A GPU's kernels need triton: {install('gpu')}, or use device='cpu'.")
        name = next(iter(seen.gpus[int(where.partition(":")[2]) :]), "")
        listed = tables() if known is None else known
        own = [listed[name]] if name in listed and name != DEFAULT else []
        picks, shapes = _tuned([*own, listed[DEFAULT]], numbers, gradients)
        if seen.no_cudnn:
            picks, shapes = _without_cudnn(picks, shapes, seen.no_cudnn, listed[DEFAULT])
        column, table, launch = 2, _origin(name, own), _launch_of(own)
        chunk = own[0].chunks.get(numbers) if own and not gradients else None
    picks |= {op: _listed(op, column, seen) for op in OPS if op not in picks}
    reasons = {op: pick.why for op, pick in picks.items()}
    reasons |= {"device": why_device, "precision": why_precision, "table": table}
    uses = {op: picks[op].use for op in OPS}
    if chunk is None:
        return Choice(where, numbers, uses, reasons, shapes, gradients, launch)
    reasons["chunk"] = chunk.why
    return Choice(where, numbers, uses, reasons, shapes, gradients, launch, chunk.images)


def function(op: str, backend: str = "auto") -> Callable[..., Any]:
    """The function of an op: by a backend's name, or, of an op on host arrays, as `on_host` has it.

    Raises:
        UnknownBackend, BackendUnavailable: a name that the op lacks, or that cannot run on this machine.
    """
    return op_named(op).backend(on_host(op) if backend == "auto" else backend)


@cache
def on_host(op: str) -> str:
    """The backend of an op on host arrays, whichever device the network runs on; the fastest, as bits are the same.

    Without the compiled extension that is NumPy, of which the user is warned, once a process.
    """
    if op not in _HOST_OPS:
        raise ValueError(
            f"{op}: expected one of {sorted(_HOST_OPS)}; the others are chosen by device: `choose`"
        )
    if no_extension():
        _warn()
    return _on_host(no_extension()).use


@cache
def _warn() -> None:
    warnings.warn(
        f"{', '.join(sorted(_HOST_OPS))} run in NumPy, with the same results many times slower, because"
        f" {no_extension()}.",
        RuntimeWarning,
        stacklevel=4,
    )


def told_on_host() -> str:
    """What ran the ops on host arrays, for manifests, where it is information: it decides no byte."""
    return f"{_on_host(no_extension()).use} ({' '.join(sorted(_HOST_OPS))})"


def _on_host(missing: str) -> Pick:
    if missing:
        return Pick("reference", f"NumPy: {missing}")
    return Pick("native", "the compiled extension; the same bits as NumPy, many times faster")


def _listed(op: str, column: int, seen: Machine) -> Pick:
    """What `TABLE` says in a column that is not `TUNED`."""
    use = TABLE[op][column]
    return _on_host(seen.no_extension) if use == HOST else Pick(use, _WHY[use])


def _tuned(
    order: list[Table], precision: str, gradients: bool
) -> tuple[dict[str, Pick], dict[str, Mapping[str, Pick]]]:
    """(op -> pick of every shape that is not named, op -> shape class -> pick) of tables, the most specific first."""
    picks: dict[str, Pick] = {}
    shapes: dict[str, Mapping[str, Pick]] = {}
    for op in (op for op, row in TABLE.items() if TUNED in row):
        table, picks[op] = next(
            (table, pick)
            for table in order
            if (pick := table.pick(op, ANY, precision, gradients)) is not None
        )
        # A table's `*` hides what later tables say of single shapes.
        reached = order[: order.index(table) + 1]
        named = {
            shape: pick
            for table in reversed(reached)
            for shape, pick in table.named(op, precision, gradients)
        }
        if named:
            shapes[op] = named
    return picks, shapes


def _without_cudnn(
    picks: dict[str, Pick], shapes: dict[str, Mapping[str, Pick]], missing: str, default: Table
) -> tuple[dict[str, Pick], dict[str, Mapping[str, Pick]]]:
    """The same where a table's `cudnn` is not installed: the op's pick for any shape in its place, and both reasons.

    An optional package may not be what a table insists on; what runs instead is shown and kept in manifests.
    """

    def instead(pick: Pick, other: Pick) -> Pick:
        return Pick(other.use, f"{other.why}; measured was {pick.why}, but {missing}")

    kept = {
        op: instead(pick, default.backends[op][ANY]) if pick.use == "cudnn" else pick
        for op, pick in picks.items()
    }
    named = {
        op: {s: instead(p, kept[op]) if p.use == "cudnn" else p for s, p in listed.items()}
        for op, listed in shapes.items()
    }
    return kept, {**named}


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
