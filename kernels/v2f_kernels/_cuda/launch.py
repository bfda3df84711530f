"""Launches on a device, with torch tensors as arguments: no copy, on torch's current stream."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from v2f_kernels._cuda.compile import Shape, load, shape_for
from v2f_kernels._extras import install
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
            raise BackendUnavailable(f"{install('gpu')} brings CuPy ({error})") from error
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

        stream = torch.cuda.current_stream(self.device)
        with cupy.cuda.Device(self.device.index), adopt(stream, self.device.index):
            function = load(self.source, self.shape, self.device.index).get_function(kernel)
            shared = self.shape.shared_bytes if kernel in self.multiplies else 0
            if shared:
                function.max_dynamic_shared_size_bytes = shared
            function(grid, (threads,), tuple(_pointer(a) for a in arguments), shared_mem=shared)


def adopt(stream: torch.cuda.Stream, device: int) -> AbstractContextManager[Any]:
    """CuPy's view of a torch stream, to be entered with `with` while the device of that index is current.

    CuPy 14 deprecates `ExternalStream` and warns at every launch; its `Stream.from_external` takes whatever speaks the
    CUDA stream protocol, as torch's streams do since 2.10. CuPy 13 has `ExternalStream` only.
    """
    import cupy

    if hasattr(cupy.cuda.Stream, "from_external"):
        view: AbstractContextManager[Any] = cupy.cuda.Stream.from_external(stream)
    else:
        view = cupy.cuda.ExternalStream(stream.cuda_stream, device)
    return view


def _pointer(argument: Argument) -> Any:
    """What CuPy passes on: a tensor's address, a NumPy scalar of the kernel's own type, or a null pointer."""
    if argument is None:
        return np.uint64(0)
    if isinstance(argument, torch.Tensor):
        if not argument.is_contiguous():
            raise ValueError("kernels take contiguous tensors")
        return np.uint64(argument.data_ptr())
    return argument
