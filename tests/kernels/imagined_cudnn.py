"""A cuDNN frontend made of Python, for what cannot run here: it records graphs, proposes plans as the real library does
(`test_cudnn_plans.py` holds the real one to the same rules) and executes them with torch on the memory it is given.

Operands are read and written by the strides that the graph declared, not by those of the tensors passed in, and every
output begins as NaN: a wrong layout, a mixed-up operand or another shape's plan is a wrong result.
"""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from v2f_kernels._cudnn import library, plans

MODULES = ("v2f_kernels.conv3x3.cudnn_graph", "bench.candidates.gelu_linear.cudnn_graph")
"""Which can be imported only where the library is."""

HALF, BFLOAT16, FLOAT = "HALF", "BFLOAT16", "FLOAT"
TORCH = {HALF: torch.float16, BFLOAT16: torch.bfloat16}


class NotSupported(RuntimeError):
    """The real one's `cudnnGraphNotSupportedError`."""


class Tensor:
    def __init__(self, graph: Graph, source: Any = None, **told: Any) -> None:
        self.graph, self.source, self.output = graph, source, False
        self.dim, self.stride, self.dtype = told.get("dim"), told.get("stride"), told.get("data_type")

    def set_output(self, output: bool) -> Tensor:
        self.output = output
        return self

    def set_data_type(self, dtype: str) -> Tensor:
        self.dtype = dtype
        return self

    def set_dim(self, dim: list[int]) -> Tensor:
        self.dim = dim
        return self

    def set_stride(self, stride: list[int]) -> Tensor:
        self.stride = stride
        return self


class Handle:
    stream: int | None = None


class Graph:
    """`cudnn.pygraph`. `steps`: the operations in order, what the proposal goes by."""

    def __init__(self, library: Imagined, **told: Any) -> None:
        self.library, self.told = library, told
        self.steps: list[str] = []
        self.inputs: list[Tensor] = []
        self.built: int | None = None
        self.refused_notes: list[str] = []
        self.executed = 0

    def tensor(self, **told: Any) -> Tensor:
        made = Tensor(self, **told)
        self.inputs.append(made)
        return made

    def _step(self, name: str, compute: Any, *operands: Tensor) -> Tensor:
        self.steps.append(name)
        return Tensor(self, source=(compute, operands))

    def conv_fprop(
        self, *, image: Tensor, weight: Tensor, padding: Any, stride: Any, dilation: Any
    ) -> Tensor:
        return self._step(
            "conv",
            lambda x, w: F.conv2d(x, w, stride=stride, padding=padding, dilation=dilation),
            image,
            weight,
        )

    def add(self, *, a: Tensor, b: Tensor) -> Tensor:
        return self._step("bias" if b.dim[0] == 1 and b.dim[2:] == [1, 1] else "residual", torch.add, a, b)

    def matmul(self, *, A: Tensor, B: Tensor) -> Tensor:
        return self._step("matmul", torch.matmul, A, B)

    def bias(self, *, input: Tensor, bias: Tensor) -> Tensor:
        return self._step("bias", torch.add, input, bias)

    def gelu(self, *, input: Tensor) -> Tensor:
        return self._step("gelu", F.gelu, input)

    def gelu_approx_tanh(self, *, input: Tensor) -> Tensor:
        return self._step("gelu by tanh", lambda z: F.gelu(z, approximate="tanh"), input)

    def validate(self) -> None:
        assert self.told["compute_data_type"] == self.told["intermediate_data_type"] == FLOAT

    def build_operation_graph(self) -> None:
        pass

    def create_execution_plans(self, modes: list[str]) -> None:
        """(name, workspace, notes): what cuDNN 9.28 proposes on sm_90, the first ones."""
        assert modes == ["A"]
        if self.library.missing and "matmul" in self.steps:
            raise ModuleNotFoundError(self.library.missing)
        known = {
            ("conv",): [("eng62_k2=0", 131, ())],
            ("conv", "bias"): [("eng41_k2=0", 131, ())],
            ("conv", "residual", "bias"): [("eng41_k2=0", 131, ())],
        }
        compiled = [("eng4_k24=3", 0, ("behavior_note.RUNTIME_COMPILATION",))]
        self.plans = [*self.library.first, *known.get(tuple(self.steps), compiled)]

    def deselect_numeric_notes(self, notes: list[str]) -> None:
        self.refused_notes += notes

    def get_execution_plan_count(self) -> int:
        return len(self.plans)

    def get_plan_name_at_index(self, index: int) -> str:
        return self.plans[index][0]

    def get_behavior_notes_for_plan_at_index(self, index: int) -> tuple[str, ...]:
        return self.plans[index][2]

    def get_workspace_size_plan_at_index(self, index: int) -> int:
        return self.plans[index][1]

    def build_plan_at_index(self, index: int) -> None:
        if self.plans[index][0].startswith("eng0"):
            raise NotSupported("this one does not build")
        self.built = index
        self.library.built.append(self)

    def execute(self, pack: dict[Tensor, torch.Tensor], workspace: torch.Tensor, *, handle: Handle) -> None:
        assert self.built is not None, "executed before it was built"
        assert handle in self.library.handles
        assert handle.stream is not None, "no stream was set"
        assert workspace.dtype == torch.uint8
        assert workspace.numel() >= self.plans[self.built][1]
        assert all(tensor.graph is self for tensor in pack), "an operand of another graph"
        (output,) = [tensor for tensor in pack if tensor.output]
        assert set(pack) == {*self.inputs, output}
        self.executed += 1
        self.library.streams.append(handle.stream)
        view(output, pack[output]).fill_(float("nan")).copy_(self._value(output, pack))

    def _value(self, tensor: Tensor, pack: dict[Tensor, torch.Tensor]) -> torch.Tensor:
        if tensor.source is None:
            return view(tensor, pack[tensor]).float()
        compute, operands = tensor.source
        result: torch.Tensor = compute(*(self._value(operand, pack) for operand in operands))
        return result


def view(told: Tensor, given: torch.Tensor) -> torch.Tensor:
    """The memory of a torch tensor as the graph's description has it."""
    assert given.dtype == TORCH[told.dtype]
    assert given.data_ptr() % 16 == 0, "cuDNN takes addresses to be aligned"
    assert given.numel() == torch.Size(told.dim).numel()
    # 1-D memory first: `as_strided` may not look beyond what the tensor itself covers.
    return given.as_strided(told.dim, told.stride)


class Imagined:
    """The module `cudnn`. `first`: plans proposed before the usual ones; `missing`: what planning a product lacks."""

    __version__ = "1.32.0"
    cudnnGraphNotSupportedError = NotSupported

    def __init__(self) -> None:
        self.first: list[tuple[str, int, tuple[str, ...]]] = []
        self.missing = ""
        self.built: list[Graph] = []
        self.handles: list[Handle] = []
        self.streams: list[int] = []
        self.data_type = SimpleNamespace(HALF=HALF, BFLOAT16=BFLOAT16, FLOAT=FLOAT)
        self.heur_mode = SimpleNamespace(A="A", B="B", FALLBACK="FALLBACK")
        names = ("NONDETERMINISTIC", "REDUCED_PRECISION_REDUCTION", "DOWN_CONVERT_INPUTS", "WINOGRAD", "FFT")
        self.numerical_note = SimpleNamespace(**{name: name for name in names})

    def backend_version(self) -> int:
        return 92801

    def pygraph(self, **told: Any) -> Graph:
        return Graph(self, **told)

    def create_handle(self) -> Handle:
        self.handles.append(Handle())
        return self.handles[-1]

    def set_stream(self, *, handle: Handle, stream: int) -> None:
        handle.stream = stream


def forget() -> None:
    """Everything that was found, built or imported with one library, before and after another takes its place."""
    library.cudnn.cache_clear()
    plans._plans.clear()
    plans._handles.clear()
    for name in MODULES:
        if module := sys.modules.pop(name, None):
            delattr(importlib.import_module(name.rpartition(".")[0]), "cudnn_graph")
            getattr(module, "_no_bias", {}).clear()
