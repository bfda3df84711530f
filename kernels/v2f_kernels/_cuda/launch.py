"""Launches on a device, with torch tensors as arguments: no copy, on torch's current stream."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from v2f_kernels._cuda.compile import Shape, load, shape_for
from v2f_kernels._op import BackendUnavailable

Argument = torch.Tensor | np.generic | None


class Launcher(Protocol):
    """Runs the kernels of one source file, compiled for one shape."""

    shape: Shape
    device: torch.device
    processors: int

    def __call__(self, kernel: str, grid: tuple[int, int], threads: int, *arguments: Argument) -> None:
        """Enqueues a kernel; those that multiply get the shape's shared memory."""


@dataclass
class CupyLauncher:
    """The launcher for a GPU."""

    source: Path
    shape: Shape
    device: torch.device
    processors: int
    multiplies: frozenset[str]

    @classmethod
    def on(
        cls, device: torch.device, source: Path, dimension: int, multiplies: frozenset[str]
    ) -> CupyLauncher:
        """For this device.

        Raises:
            BackendUnavailable: no GPU, no CuPy, or a device before compute capability 8.0.
        """
        if device.type != "cuda" or not torch.cuda.is_available():
            raise BackendUnavailable(f"the cupy backend needs an NVIDIA GPU, and torch sees none ({device})")
        try:
            import cupy
        except ImportError as error:
            raise BackendUnavailable(f"`pip install v2f-engine[gpu]` brings CuPy ({error})") from error
        index = torch.cuda.current_device() if device.index is None else device.index
        properties = torch.cuda.get_device_properties(index)
        attributes = cupy.cuda.Device(index).attributes
        shape = shape_for(
            (properties.major, properties.minor), dimension, attributes["MaxSharedMemoryPerBlockOptin"]
        )
        where = torch.device("cuda", index)
        return cls(source, shape, where, properties.multi_processor_count, multiplies)

    def __call__(self, kernel: str, grid: tuple[int, int], threads: int, *arguments: Argument) -> None:
        import cupy

        stream = torch.cuda.current_stream(self.device).cuda_stream
        with cupy.cuda.Device(self.device.index), cupy.cuda.ExternalStream(stream, self.device.index):
            function = load(self.source, self.shape, self.device.index).get_function(kernel)
            shared = self.shape.shared_bytes if kernel in self.multiplies else 0
            if shared:
                function.max_dynamic_shared_size_bytes = shared
            function(grid, (threads,), tuple(_pointer(a) for a in arguments), shared_mem=shared)


def _pointer(argument: Argument) -> Any:
    """What CuPy passes on: a tensor's address, a NumPy scalar of the kernel's own type, or a null pointer."""
    if argument is None:
        return np.uint64(0)
    if isinstance(argument, torch.Tensor):
        if not argument.is_contiguous():
            raise ValueError("kernels take contiguous tensors")
        return np.uint64(argument.data_ptr())
    return argument
