"""A GPU that is not there: torch takes the CUDA path (autocast, layouts, cuDNN or not) on tensors without memory.

`imagined_cuda.cpp` says to ATen that there is one CUDA device with cuDNN. Inside `imagined()` every tensor is a fake
one, so nothing is computed and nothing allocated; a step of the base size runs in seconds on a core. Outside nothing
has changed: the hooks are put back.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from v2f_engine.machine import Machine

GPU = "NVIDIA H200"
"""The device whose table chooses backends and launches."""
SOURCE = Path(__file__).with_name("imagined_cuda.cpp")


@cache
def _library() -> Any:
    """The compiled source, once a process: 2 s.

    Raises:
        RuntimeError: no compiler, or it refused; its words are in the message.
    """
    torch_folder = Path(torch.__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "imagined_cuda.so"
        command = [
            "g++", "-O0", "-shared", "-fPIC", "-std=c++20", f"-I{torch_folder / 'include'}", str(SOURCE), "-o",
            str(made), f"-L{torch_folder / 'lib'}", "-lc10", "-ltorch_cpu",
        ]  # fmt: skip
        try:
            told = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise RuntimeError("tracing a step for a GPU needs g++, which is not there") from error
        if told.returncode:
            raise RuntimeError(
                f"{SOURCE.name} does not compile against torch {torch.__version__}: {told.stderr[-2000:]}"
            )
        return ctypes.CDLL(str(made))


def _applied(
    module: nn.Module, change: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True
) -> nn.Module:
    """`nn.Module._apply` for fake tensors, whose memory cannot be exchanged: parameters are made anew."""
    for child in module.children():
        child._apply(change)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            with torch.no_grad():
                changed = change(parameter)
            module._parameters[name] = nn.Parameter(changed, parameter.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = change(buffer)
    return module


class _HostGenerator(torch.Generator):
    """Random numbers of a device that is not there come from the host's."""

    def __new__(cls, *_: Any, **__: Any) -> _HostGenerator:
        return super().__new__(cls)


class Mode(TorchDispatchMode):
    """Sees every operator, without the guard against torch.compile that torch puts around such classes."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class _Answers(Mode):
    """What the host reads from a device that computed nothing: 1, or True; every element is found not to be zero."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and isinstance(args[0], FakeTensor):
            return _one(args[0].dtype) if not getattr(args[0], "refused", False) else False
        if func is torch.ops.aten.nonzero.default and isinstance(args[0], FakeTensor):
            (mask,) = args
            return torch.empty((mask.numel(), mask.ndim), dtype=torch.int64, device=mask.device)
        if func._schema.name.startswith("aten::_fused_"):
            return None  # an optimiser's step, in place; torch has no fake form where the rate is a tensor
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.lt.Scalar and isinstance(out, FakeTensor):
            out.refused = True  # type: ignore[attr-defined]  # 1 < x: optimisers ask whether their rate is below 0
        return out


def _one(dtype: torch.dtype) -> Any:
    return True if dtype is torch.bool else 1.0 if dtype.is_floating_point else 1


@contextmanager
def imagined() -> Iterator[FakeTensorMode]:
    """Inside, `cuda` is a device of `GPU`'s kind, tensors are fake, and backward runs in the calling thread."""
    seen = Machine.look()
    machine = Machine(1, seen.cpu_flags, True, (GPU,), seen.no_extension)
    guarded: Any = FakeTensorMode.__torch_dispatch__
    unguarded = getattr(guarded, "__wrapped__", guarded)
    replaced: list[tuple[Any, str, Any]] = [
        (torch.cuda, "is_bf16_supported", lambda *_, **__: True),
        (torch.cuda.amp.common, "amp_definitely_not_available", lambda: False),
        (torch, "Generator", _HostGenerator),
        (Machine, "look", lambda: machine),
        (nn.Module, "_apply", _applied),
        # The guard against torch.compile evaluates every frame below: a process was killed by it sooner or later.
        (FakeTensorMode, "__torch_dispatch__", unguarded),
    ]
    library = _library()
    with ExitStack() as stack:
        library.imagine(1)
        stack.callback(library.imagine, 0)
        for owner, name, value in replaced:
            stack.enter_context(mock.patch.object(owner, name, value))
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        mode = stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(_Answers())
        yield mode
