"""The fast runner: the frozen network as one CUDA graph, finished bytes leaving on a stream of their own.

The network is captured once, at a fixed batch. A call copies its inputs into the graph's own buffers, replays
it, moves the bytes out of the graph's output (device to device, 38 KB an image) and lets a second stream bring
them to pinned host memory while the next replay runs. Nothing random happens inside: noise is an input.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from v2f_engine.backends import Choice
from v2f_engine.batch import IMAGE_SIZE
from v2f_engine.config import at_least
from v2f_engine.errors import BackendUnavailable, ConfigError
from v2f_engine.models.vec2face import Vec2Face
from v2f_engine.models.weights import LoadedModel
from v2f_engine.ranges import stage
from v2f_engine.runtime import Inputs
from v2f_engine.runtime.eager import frozen_model

WARM_UP = 3
"""Runs before the capture: libraries pick their algorithms and Triton compiles, neither of which can be
captured."""


def require_cuda(device: str, instead: str = "runner='eager'") -> torch.device:
    """The device, if it is a GPU that torch can use; `instead` is what the refusal advises.

    Raises:
        BackendUnavailable: it is not, or there is none.
    """
    where = torch.device(device)
    if where.type != "cuda":
        raise BackendUnavailable(f"A CUDA graph needs a GPU; the choice is for {device!r}. Use {instead}.")
    if not torch.cuda.is_available():
        raise BackendUnavailable(
            f"A CUDA graph needs a GPU and torch sees none here. Use {instead}, or install a driver and a torch built"
            " for CUDA."
        )
    return where


def fill(target: NDArray[Any], rows: NDArray[Any]) -> None:
    """Writes rows into the first places of `target` and repeats the last one in the others.

    Raises:
        ConfigError: no rows, more than there are places, or rows of another shape.
    """
    if not 1 <= len(rows) <= len(target) or rows.shape[1:] != target.shape[1:]:
        raise ConfigError(
            f"A runner of batch size {len(target)} expected 1 to {len(target)} rows of shape"
            f" {target.shape[1:]}, found {rows.shape}."
        )
    target[: len(rows)] = rows
    target[len(rows) :] = rows[-1:]


def open_cuda_graph(loaded: LoadedModel, choice: Choice, n_dropped: int, batch_size: int) -> CudaGraphRunner:
    """The captured runner of a loaded generator; refuses before anything is copied to a device."""
    require_cuda(choice.device)
    return CudaGraphRunner(frozen_model(loaded, choice), choice, n_dropped=n_dropped, batch_size=batch_size)


class Slot:
    """Buffers of one batch in flight: pinned inputs, a device copy of the bytes, pinned bytes."""

    def __init__(self, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        self.staged = [torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in inputs]
        self.views = [t.numpy() for t in self.staged]
        self.device_bytes = torch.empty_like(output)
        self.host_bytes = torch.empty(output.shape, dtype=torch.uint8, pin_memory=True)
        self.computed = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self.arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self.rows = 0


class CudaGraphRunner:
    """Runs a frozen `Vec2Face` as a captured graph; the same contract as `EagerRunner`.

    Args:
        model: frozen and bound to its ops, on the choice's device.
        choice: the device, precision and backends it was bound to.
        n_dropped: rows that never enter the encoder: part of the graph's shapes.
        batch_size: rows of every replay; shorter inputs are padded by repeating their last row.
        slots: batches in flight in `stream`; at least 2.

    Raises:
        BackendUnavailable: the choice is not for a GPU, or there is none.
    """

    def __init__(
        self, model: Vec2Face, choice: Choice, *, n_dropped: int, batch_size: int, slots: int = 3
    ) -> None:
        self.device = require_cuda(choice.device)
        at_least("batch_size", batch_size, 1)
        at_least("slots", slots, 2)
        self.model, self.choice = model, choice
        self.n_dropped, self.batch_size = n_dropped, batch_size
        with torch.cuda.device(self.device):
            self._compute, self._copy = torch.cuda.Stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
            self._inputs = (
                torch.randn(batch_size, model.config.vector_dim, device=self.device),
                torch.rand(batch_size, 49, device=self.device),
                torch.full((batch_size,), n_dropped, dtype=torch.int64, device=self.device),
            )
            self._graph, self._output = self._capture()
            self._free = deque(Slot(self._inputs, self._output) for _ in range(slots))

    @torch.inference_mode()
    def _capture(self) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
        self._compute.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._compute):
            with stage("warm up"):
                for _ in range(WARM_UP):
                    self._forward()
                self._compute.synchronize()
            graph = torch.cuda.CUDAGraph()
            # thread_local: threads that draw inputs or read rows may pin memory meanwhile, which the default mode
            # forbids to the whole process (PyTorch PR 175425).
            with (
                stage("capture"),
                torch.cuda.graph(graph, stream=self._compute, capture_error_mode="thread_local"),
            ):
                output = self._forward()
        expected = (self.batch_size, IMAGE_SIZE, IMAGE_SIZE, 3)
        if output.dtype != torch.uint8 or tuple(output.shape) != expected:
            raise ConfigError(
                f"decode: expected uint8 {expected}, found {output.dtype} {tuple(output.shape)}"
            )
        return graph, output

    def _forward(self) -> torch.Tensor:
        vectors, noise, n_masked = self._inputs
        return self.model.decode(vectors.to(self.choice.dtype), noise, n_masked, self.n_dropped)

    def replay(self) -> torch.Tensor:
        """One replay on what the input buffers hold; uint8 `[batch_size, 112, 112, 3]` on the device.

        For measuring the device alone. The tensor is the graph's own: the next replay overwrites it.
        """
        with torch.cuda.stream(self._compute):
            self._graph.replay()
        torch.cuda.current_stream(self.device).wait_stream(self._compute)
        return self._output

    @torch.inference_mode()
    def _start(self, inputs: Inputs) -> Slot:
        slot = self._free.popleft()
        try:
            with stage("copy to device"):
                for view, rows in zip(slot.views, inputs, strict=True):
                    fill(view, rows)  # type: ignore[arg-type]  # zip forgets what a tuple's parts are
        except Exception:
            self._free.appendleft(slot)
            raise
        slot.rows = len(inputs[0])
        with torch.cuda.device(self.device):
            with stage("decode"), torch.cuda.stream(self._compute):
                for static, staged in zip(self._inputs, slot.staged, strict=True):
                    static.copy_(staged, non_blocking=True)
                self._graph.replay()
                slot.device_bytes.copy_(self._output)
                slot.computed.record()
            with stage("copy to host"), torch.cuda.stream(self._copy):
                self._copy.wait_event(slot.computed)
                slot.host_bytes.copy_(slot.device_bytes, non_blocking=True)
                slot.arrived.record()
        return slot

    def _finish(self, slot: Slot) -> NDArray[np.uint8]:
        with stage("wait"):
            slot.arrived.synchronize()
        # A copy (38 KB an image): the caller keeps its array, and the pinned buffer goes round.
        images: NDArray[np.uint8] = slot.host_bytes[: slot.rows].numpy().copy()
        self._free.append(slot)
        return images

    def __call__(
        self, vectors: NDArray[np.float32], noise: NDArray[np.float32], n_masked: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        return self._finish(self._start((vectors, noise, n_masked)))

    def stream(self, batches: Iterable[Inputs]) -> Generator[NDArray[np.uint8]]:
        """Images of each batch, in order, with up to `slots - 1` batches computed ahead of the caller."""
        flying: deque[Slot] = deque()
        try:
            for inputs in batches:
                flying.append(self._start(inputs))
                if not self._free:
                    yield self._finish(flying.popleft())
            while flying:
                yield self._finish(flying.popleft())
        finally:
            for slot in flying:  # the caller stopped early: wait, so that no copy writes into a reused buffer
                slot.arrived.synchronize()
                self._free.append(slot)

    def describe(self) -> dict[str, Any]:
        return {"runner": "cuda_graph", "batch_size": self.batch_size, **self.choice.describe()}
