"""A graph of cuDNN as something to call: planned once for a shape, kept, run on torch's current stream.

    class Convolution(NamedTuple):      # what decides the plan: hashable, no tensors
        ...
        precompiled = True
        def describe(self, graph, library) -> dict[str, Any]:   # adds the operations; name -> tensor of the graph

    plan_for(Convolution(...), device).run({"x": x, "weight": weight, "y": y})

A plan belongs to one device; the handle of a device is made once. Running is thread-safe: a handle's stream and the
launch on it are set under one lock (about 10 us of host time), and the workspace comes from torch's allocator at each
call, so that two streams never share it and a captured graph owns what it will write to.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from v2f_kernels._cudnn.library import cudnn
from v2f_kernels._op import BackendUnavailable

DTYPES = {torch.float16: "HALF", torch.bfloat16: "BFLOAT16"}
PLACES = ("cuda", "meta")
"""Kinds of devices whose tensors are taken; a test whose library runs on a CPU adds that."""
ALIGNMENT = 16
"""Bytes: cuDNN takes a tensor's address to be a multiple of this, and its kernels load so many at once."""
_REFUSED = ("NONDETERMINISTIC", "REDUCED_PRECISION_REDUCTION", "DOWN_CONVERT_INPUTS", "WINOGRAD", "FFT")
"""Numerical notes of plans that do not add in fp32 or do not repeat their bits: never taken."""
_lock = threading.RLock()
_plans: dict[tuple[type, Description, torch.device], Plan] = {}
_handles: dict[torch.device, Any] = {}


class Description(Protocol):
    """What a plan is built from, and its key: equal descriptions are the same plan."""

    @property
    def precompiled(self) -> bool:
        """Whether only kernels that cuDNN ships are wanted; otherwise it may compile one at run time (seconds)."""

    def describe(self, graph: Any, library: Any) -> dict[str, Any]:
        """Adds the operations to an empty graph; names of operands -> tensors of the graph."""

    def __hash__(self) -> int: ...


@dataclass(frozen=True)
class Plan:
    """A built graph.

    Args:
        graph: of cuDNN.
        operands: name -> tensor of the graph.
        engine: the plan's name as cuDNN gives it: its engine and knobs.
        workspace: bytes that a run needs.
        notes: what cuDNN says of the plan's behaviour.
    """

    graph: Any
    operands: Mapping[str, Any]
    engine: str
    workspace: int
    notes: tuple[str, ...]

    def run(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """Enqueues it on the device's current stream.

        Args:
            tensors: name -> dense memory in the layout the graph was described with, `ALIGNMENT` aligned.
        """
        pack = {self.operands[name]: tensor for name, tensor in tensors.items()}
        workspace = torch.empty(self.workspace, dtype=torch.uint8, device=device)
        with _lock, _current(device):
            handle = handle_of(device)
            # Anew at each call: inside a capture the current stream is another one.
            cudnn().set_stream(handle=handle, stream=stream_of(device))
            self.graph.execute(pack, workspace, handle=handle)


def plan_for(what: Description, device: torch.device) -> Plan:
    """The plan of a description on a device, built at the first call.

    Raises:
        BackendUnavailable: cuDNN proposes nothing that is admissible, or this first call is inside a capture, where
            modules cannot be loaded.
    """
    device = _numbered(device)
    key = (type(what), what, device)  # the type too: named tuples of equal values are equal
    plan = _plans.get(key)
    if plan is not None:
        return plan
    with _lock, _current(device):
        if key not in _plans:
            if capturing(device):
                raise BackendUnavailable(
                    f"cudnn: the plan of {what} was first asked for inside the capture of a CUDA graph, where kernels"
                    " cannot be loaded; run the network once on the same shapes before capturing it"
                )
            _plans[key] = build(what, handle=handle_of(device))
        return _plans[key]


def build(what: Description, **target: Any) -> Plan:
    """The first admissible plan in cuDNN's own order (heuristic mode A).

    Args:
        target: `handle=` of a device, or `device_property=` of one that is not there: then it is planned, not run.

    Raises:
        BackendUnavailable: none is admissible; the message lists what was proposed.
    """
    library = cudnn()
    single = library.data_type.FLOAT
    graph = library.pygraph(intermediate_data_type=single, compute_data_type=single, **target)
    operands = what.describe(graph, library)
    refused: list[str] = []
    try:
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([library.heur_mode.A])
    except (
        ImportError
    ) as error:  # a graph with a product asks the frontend's own engines, which want cuda.bindings
        raise BackendUnavailable(
            f"cudnn: {error}: pip install cuda-bindings, or {what} cannot be planned"
        ) from error
    except library.cudnnGraphNotSupportedError as error:
        raise BackendUnavailable(f"cudnn: no plan for {what}: {error}") from error
    graph.deselect_numeric_notes([getattr(library.numerical_note, name) for name in _REFUSED])
    for index in range(graph.get_execution_plan_count()):
        name = graph.get_plan_name_at_index(index)
        if not name.startswith("eng"):  # one of the frontend's own kernels, compiled by another package
            refused.append(f"{name} (not cuDNN's)")
            continue
        notes = tuple(
            str(note).rpartition(".")[2] for note in graph.get_behavior_notes_for_plan_at_index(index)
        )
        if what.precompiled and "RUNTIME_COMPILATION" in notes:
            refused.append(f"{name} (compiled at run time)")
            continue
        try:
            graph.build_plan_at_index(index)
        except (library.cudnnGraphNotSupportedError, RuntimeError, ValueError) as error:
            refused.append(f"{name} ({str(error)[:80]})")
            continue
        return Plan(graph, operands, name, graph.get_workspace_size_plan_at_index(index), notes)
    raise BackendUnavailable(
        f"cudnn: no admissible plan for {what}; proposed: {', '.join(refused) or 'nothing'}"
    )


def handle_of(device: torch.device) -> Any:
    """cuDNN's handle for a device: one, and never destroyed, since captured graphs may still hold its work."""
    if device not in _handles:
        _handles[device] = cudnn().create_handle()
    return _handles[device]


def require(op: str, dtype: torch.dtype, *tensors: Tensor | None) -> None:
    """Refuses what no plan can be given.

    Raises:
        BackendUnavailable: a tensor is not on a GPU. ValueError: another dtype than float16 and bfloat16.
    """
    for tensor in tensors:
        if tensor is not None and tensor.device.type not in PLACES:
            raise BackendUnavailable(
                f"{op}/cudnn needs CUDA tensors, found one on {tensor.device}; move the model and its input to a GPU,"
                " or choose the backend 'torch'"
            )
    if dtype not in DTYPES:
        raise ValueError(f"{op}/cudnn: expected float16 or bfloat16, found {dtype}; use 'torch'")


def aligned(tensor: Tensor) -> Tensor:
    """The tensor, or a copy where its address is no multiple of `ALIGNMENT`: a view that begins in between."""
    return tensor if tensor.data_ptr() % ALIGNMENT == 0 else tensor.clone()


def stream_of(device: torch.device) -> int:
    """torch's current stream on a device, as cuDNN takes it."""
    return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0


def capturing(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _current(device: torch.device) -> Any:
    return torch.cuda.device(device if device.type == "cuda" else -1)  # -1: leaves everything as it is


def _numbered(device: torch.device) -> torch.device:
    """`cuda` without a number is the current device: two names of one device are one key."""
    if device == torch.device("cuda"):
        return torch.device("cuda", torch.cuda.current_device())
    return device
