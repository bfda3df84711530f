"""The launches of our own ops: their launchers run on meta tensors, and every `kernel[grid](...)` is written down.

So what is counted is what the launcher does: the same branches by shape, the same helpers of torch between its
kernels. Bytes are those of a kernel's tensors, each once; FLOP of products are said by the op (`FLOP`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import _disable_current_modes
from v2f_kernels._triton.launch import ASSUMED_SECTION
from v2f_kernels._triton.register import CALLS

from bench.training.trace.imagined import Mode
from bench.training.trace.kernels import Kernel, elementwise, flat
from bench.training.trace.operators import kernels_of

Flop = Callable[[Any, Sequence[torch.Tensor]], float]


def _upsample(call: Any, outputs: Sequence[torch.Tensor]) -> float:
    """Four taps of the folded 4x4 kernel a value."""
    return 2.0 * outputs[0].numel() * call.folded.shape[0] * 4


def _convolution(call: Any, outputs: Sequence[torch.Tensor]) -> float:
    return 2.0 * outputs[0].numel() * prod(call.weight.shape[1:])


def _linear(call: Any, outputs: Sequence[torch.Tensor]) -> float:
    return 2.0 * outputs[0].numel() * call.x.shape[-1]


FLOP: Mapping[str, tuple[str, Flop]] = {
    # op -> (part of the name of the kernel that multiplies, its FLOP)
    "v2f::upsample_conv3x3": ("upsample_conv3x3", _upsample),
    "v2f::conv3x3": ("conv3x3", _convolution),
    "v2f::gelu_linear": ("gelu_linear", _linear),
}


MULTIPLIES = re.compile("conv(?!.*bias)|gemm|gelu_linear")
"""Names of kernels that multiply, whose op must stand in `FLOP`: at memory's rate a step would be promised too much."""


class _Inside(Mode):
    """Writes down what torch itself launches between an op's kernels."""

    def __init__(self, record: list[Kernel]) -> None:
        super().__init__()
        self.record = record

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.record += kernels_of(func, (args, kwargs or {}, out))
        return out


@contextmanager
def _recorded(record: list[Kernel]) -> Iterator[None]:
    from triton.runtime.jit import JITFunction

    def noted(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        given = [getattr(a, "base", a) for a in (*args, *kwargs.values())]
        tensors = list({id(t): t for t in given if isinstance(t, torch.Tensor)}.values())
        kind = "reduction" if re.search("moments|sums", self.__name__) else "memory"
        record.append(elementwise(self.__name__, tensors, [], kind))

    with mock.patch.object(JITFunction, "run", noted), _Inside(record):
        yield


class Launches:
    """Kernels of calls of our ops, by op and shapes."""

    def __init__(self, section: str) -> None:
        self.section = section
        self._known: dict[Any, list[Kernel]] = {}

    def of(self, name: str, arguments: Sequence[Any]) -> list[Kernel]:
        """What `name` (`v2f::attention`) launches for arguments of these shapes.

        Raises:
            RuntimeError: it launched nothing, so that nothing would be counted.
        """
        key = (name, *(_key(a) for a in arguments))
        if key not in self._known:
            self._known[key] = self._run(name, arguments)
        return self._known[key]

    def _run(self, name: str, arguments: Sequence[Any]) -> list[Kernel]:
        record: list[Kernel] = []
        token = ASSUMED_SECTION.set(self.section)
        try:
            with _disable_current_modes(), torch.no_grad():
                call = CALLS[name](*(_meta(a) for a in arguments))
                made = call.outputs()
                outputs = list(flat(made))
                with _recorded(record):
                    call.launch(*(made if isinstance(made, tuple) else (made,)))
        finally:
            ASSUMED_SECTION.reset(token)
        if not record:
            raise RuntimeError(f"{name}: nothing was launched on {[_key(a) for a in arguments]}")
        unknown = [k.name for k in record if MULTIPLIES.search(k.name)]
        if unknown and name not in FLOP:
            raise RuntimeError(f"{name}: {unknown} seem to multiply; say their FLOP in {__name__}.FLOP")
        if name in FLOP:
            part, flop = FLOP[name]
            record = [_multiplies(k, flop(call, outputs)) if part in k.name else k for k in record]
        return record


def _multiplies(kernel: Kernel, flop: float) -> Kernel:
    return Kernel(kernel.name, "convolution", kernel.elements, kernel.bytes, flop, shape=kernel.shape)


def _key(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.stride(), value.dtype
    return tuple(map(_key, value)) if isinstance(value, (list, tuple)) else value


def _meta(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
    return type(value)(map(_meta, value)) if isinstance(value, (list, tuple)) else value
