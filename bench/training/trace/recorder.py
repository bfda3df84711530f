"""Listens to every operator of a step on fake CUDA tensors: its kernels by part, and the memory that is held."""

from __future__ import annotations

import weakref
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import torch

from bench.training.trace.imagined import GPU, Mode
from bench.training.trace.kernels import Kernel, flat
from bench.training.trace.launches import CALLS, Launches
from bench.training.trace.operators import kernels_of
from bench.training.trace.parts import Parts


@dataclass
class Memory:
    """Bytes held, by who holds them: `static` was there before the step.

    Args:
        held: now.
        peak: by kind, at the moment at which their sum was largest.
    """

    held: Counter[str] = field(default_factory=Counter)
    peak: dict[str, int] = field(default_factory=dict)
    largest: int = 0

    def add(self, kind: str, count: int) -> None:
        self.held[kind] += count
        total = sum(self.held.values())
        if total > self.largest:
            self.largest, self.peak = total, dict(self.held)


class Recorder(Mode):
    """Kernels by (part, whether backward)."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.parts = parts
        self.kernels: dict[tuple[str, bool], list[Kernel]] = defaultdict(list)
        self.memory = Memory()
        self.phase = ""
        self.waits = 0  # of the host for the device
        self._launches = Launches(GPU)
        self._users: dict[int, list[Any]] = {}  # storage -> tensors on it, who holds it, bytes

    def hold(self, tensors: Any, kind: str) -> None:
        """Counts the memory of tensors that is not counted yet, until the last tensor on it is let go."""
        for tensor in flat(tensors):
            if tensor.device.type != "cuda":
                continue
            # No storage object is asked for: those of fake CUDA tensors break the interpreter's end (torch 2.13).
            place = torch._C._storage_id(tensor)
            if place not in self._users:
                count = -(-_extent(tensor) // 512) * 512
                self._users[place] = [0, kind, count]
                self.memory.add(kind, count)
            self._users[place][0] += 1
            weakref.finalize(tensor, self._let_go, place).atexit = False

    def _let_go(self, place: int) -> None:
        user = self._users[place]
        user[0] -= 1
        if not user[0]:
            _, kind, count = self._users.pop(place)
            self.memory.held[kind] -= count

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func is torch.ops.aten.native_batch_norm_backward.default and not args[7] and out[0] is not None:
            # torch's CUDA code answers in NCHW in eval mode, whatever it was given
            out = (out[0].contiguous(), *out[1:])
        name = func._schema.name
        if name in ("aten::_local_scalar_dense", "aten::nonzero"):
            self.waits += 1
        part, backward = self.parts.now()
        if name in CALLS:
            found = self._launches.of(name, _all_arguments(func, args, kwargs))
        else:
            found = kernels_of(func, (args, kwargs, out))
        self.kernels[part, backward] += found
        self.hold(out, self.phase or ("gradients and temporaries" if backward else "activations"))
        return out


def _all_arguments(func: Any, args: Any, kwargs: Any) -> list[Any]:
    schema = func._schema.arguments
    return [
        args[place] if place < len(args) else kwargs.get(argument.name, argument.default_value)
        for place, argument in enumerate(schema)
    ]


def _extent(tensor: torch.Tensor) -> int:
    """Bytes from the beginning of its memory to the end of the tensor."""
    if not tensor.numel():
        return 0
    last = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    return (tensor.storage_offset() + last + 1) * tensor.element_size()
