"""The CUDA graph runner's ring on imagined streams: copies are late, in any order that the events allow.

A GPU runs what a stream was given in order, and nothing orders two streams but events. Here that is simulated:
every device copy and every replay is queued; `synchronize` runs queues in a random order, only as far as it must.
So a missing wait, a buffer reused too early or a result read too soon changes bytes, on some seed. The tests take
the ring apart (no wait for the event, one device buffer for all) to show that the simulation notices.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from v2f_engine.runtime import cuda_graph

ROWS = 4


class Imagined:
    """Streams, events and device tensors of a GPU that is never in a hurry."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.streams: list[Imagined.Stream] = []
        self.current: Imagined.Stream | None = None

    class Stream:
        def __init__(self, gpu: Imagined) -> None:
            self.gpu, self.queue = gpu, deque[Callable[[], bool]]()
            gpu.streams.append(self)

        def wait_event(self, event: Imagined.Event) -> None:
            self.queue.append(lambda seen=event.number, e=event: e.reached >= seen)

    class Event:
        def __init__(self, gpu: Imagined) -> None:
            self.gpu, self.number, self.reached = gpu, 0, 0

        def record(self) -> None:
            self.number += 1

            def reach(number: int = self.number) -> bool:
                self.reached = number
                return True

            self.gpu.enqueue(reach)

        def synchronize(self) -> None:
            while self.reached < self.number:
                self.gpu.step()

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        self.current, kept = stream, self.current
        yield
        self.current = kept

    def enqueue(self, work: Callable[[], bool]) -> None:
        assert self.current is not None, "device work outside any stream"
        self.current.queue.append(work)

    def step(self) -> None:
        """Runs the next piece of a random stream, if its wait is over."""
        busy = [stream for stream in self.streams if stream.queue]
        assert busy, "waiting for what was never queued"
        stream = self.dice.choice(busy)
        if stream.queue[0]():
            stream.queue.popleft()

    def some_steps(self) -> None:
        for _ in range(self.dice.randrange(12)):
            if any(stream.queue for stream in self.streams):
                self.step()


class Late:
    """A tensor whose `copy_` is queued, and reads its source when it runs."""

    def __init__(self, gpu: Imagined, data: torch.Tensor) -> None:
        self.gpu, self.data = gpu, data

    def copy_(self, source: Any, non_blocking: bool = False) -> None:
        def copy() -> bool:
            self.data.copy_(getattr(source, "data", source))
            return True

        self.gpu.enqueue(copy)

    def __getitem__(self, rows: slice) -> torch.Tensor:
        return self.data[rows]


def network(vectors: torch.Tensor, noise: torch.Tensor, n_masked: torch.Tensor) -> torch.Tensor:
    """Bytes that depend on every input of their own row."""
    return ((vectors.sum(1) + noise.sum(1) + n_masked) % 256).to(torch.uint8)[:, None]


def imagined_runner(monkeypatch: pytest.MonkeyPatch, gpu: Imagined, slots: int) -> cuda_graph.CudaGraphRunner:
    fake = SimpleNamespace(stream=gpu.on, device=lambda _: nullcontext())
    monkeypatch.setattr(cuda_graph.torch, "cuda", fake)
    inputs = (torch.zeros(ROWS, 3), torch.zeros(ROWS, 2), torch.zeros(ROWS, dtype=torch.int64))
    output = torch.zeros(ROWS, 1, dtype=torch.uint8)

    def replay() -> None:
        def run() -> bool:
            output.copy_(network(*inputs))
            return True

        gpu.enqueue(run)

    runner = object.__new__(cuda_graph.CudaGraphRunner)
    runner.device, runner.batch_size, runner.n_dropped = torch.device("cpu"), ROWS, 5
    runner._compute, runner._copy = gpu.Stream(gpu), gpu.Stream(gpu)  # type: ignore[assignment]
    runner._inputs = tuple(Late(gpu, t) for t in inputs)  # type: ignore[assignment]
    runner._graph, runner._output = SimpleNamespace(replay=replay), output  # type: ignore[assignment]
    runner._free = deque()
    for _ in range(slots):
        slot = object.__new__(cuda_graph.Slot)
        slot.staged = [torch.zeros_like(t) for t in inputs]
        slot.views = [t.numpy() for t in slot.staged]
        slot.device_bytes = Late(gpu, torch.zeros_like(output))  # type: ignore[assignment]
        slot.host_bytes = Late(gpu, torch.zeros_like(output))  # type: ignore[assignment]
        slot.computed, slot.arrived = gpu.Event(gpu), gpu.Event(gpu)  # type: ignore[assignment]
        runner._free.append(slot)
    return runner


def batches(seed: int, n: int = 12) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    draw = np.random.default_rng(seed)
    sizes = draw.integers(1, ROWS + 1, n)
    return [
        (
            draw.integers(0, 99, (b, 3)).astype(np.float32),
            draw.integers(0, 9, (b, 2)).astype(np.float32),
            draw.integers(5, 40, b),
        )
        for b in sizes
    ]


def wrong_batches(runner: cuda_graph.CudaGraphRunner, gpu: Imagined, seed: int) -> int:
    """How many batches of a stream came out with other bytes than their own."""
    given, wrong = batches(seed), 0

    def slowly() -> Iterator[Any]:
        for inputs in given:
            gpu.some_steps()
            yield inputs

    kept = []
    for inputs, images in zip(given, runner.stream(slowly()), strict=True):
        gpu.some_steps()
        kept.append((inputs, images))
    for inputs, images in kept:  # only now: a result must stay the caller's own
        wrong += not np.array_equal(images, network(*map(torch.from_numpy, inputs)).numpy())
    return wrong


@pytest.mark.parametrize("slots", [2, 3, 5])
def test_every_order_that_the_events_allow_gives_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch, slots: int
) -> None:
    for seed in range(60):
        gpu = Imagined(seed)
        runner = imagined_runner(monkeypatch, gpu, slots)
        assert wrong_batches(runner, gpu, seed) == 0, f"seed {seed}"
        assert len(runner._free) == slots


def test_stopping_early_waits_for_copies_and_gives_the_buffers_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(30):
        gpu = Imagined(seed)
        runner = imagined_runner(monkeypatch, gpu, 3)
        stream = runner.stream(batches(seed))
        next(stream)
        stream.close()
        assert len(runner._free) == 3
        assert wrong_batches(runner, gpu, seed + 1000) == 0, f"seed {seed}"


def test_a_batch_that_does_not_fit_leaves_the_ring_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Imagined(0)
    runner = imagined_runner(monkeypatch, gpu, 2)
    with pytest.raises(cuda_graph.ConfigError, match="1 to 4 rows"):
        list(runner.stream([(np.zeros((5, 3)), np.zeros((5, 2)), np.zeros(5))]))  # type: ignore[list-item]
    assert len(runner._free) == 2
    assert wrong_batches(runner, gpu, 1) == 0


def no_wait(gpu: Imagined, runner: cuda_graph.CudaGraphRunner) -> None:
    monkey = runner._copy
    monkey.wait_event = lambda event: None  # type: ignore[method-assign]


def one_device_buffer(gpu: Imagined, runner: cuda_graph.CudaGraphRunner) -> None:
    for slot in runner._free:
        slot.device_bytes = runner._free[0].device_bytes


def one_staging_buffer(gpu: Imagined, runner: cuda_graph.CudaGraphRunner) -> None:
    for slot in runner._free:
        slot.staged, slot.views = runner._free[0].staged, runner._free[0].views


def no_synchronize(gpu: Imagined, runner: cuda_graph.CudaGraphRunner) -> None:
    for slot in runner._free:
        slot.arrived.synchronize = lambda: None  # type: ignore[method-assign]


@pytest.mark.parametrize("fault", [no_wait, one_device_buffer, one_staging_buffer, no_synchronize])
def test_the_simulation_sees_a_ring_that_is_taken_apart(
    monkeypatch: pytest.MonkeyPatch, fault: Callable[..., None]
) -> None:
    wrong = 0
    for seed in range(30):
        gpu = Imagined(seed)
        runner = imagined_runner(monkeypatch, gpu, 3)
        fault(gpu, runner)
        wrong += wrong_batches(runner, gpu, seed)
    assert wrong > 0
