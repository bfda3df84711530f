"""Out of memory at every step: the same bytes, few retries; empty images; batch invariance as measured."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

import numpy as np
import pytest
import torch

from v2f_engine.errors import OutOfMemory
from v2f_engine.pipeline.empty import again_if_empty, constant
from v2f_engine.runtime import Inputs
from v2f_engine.runtime.batch_invariance import measure
from v2f_engine.runtime.micro_batch import MicroBatches, is_out_of_memory, with_rows

BATCH = 16


class Device:
    """A fake device that runs out of memory: from call `fails_at` on, more than `room` rows do not fit."""

    def __init__(self, fails_at: int, room: int) -> None:
        self.fails_at, self.room, self.calls = fails_at, room, 0


class FakeRunner:
    """Images that depend on their own row; with `leaky`, on the number of rows too."""

    n_dropped = 5

    def __init__(self, device: Device, batch_size: int = BATCH, leaky: bool = False) -> None:
        self.device, self.batch_size, self.leaky = device, batch_size, leaky

    def __call__(self, vectors: Any, noise: Any, n_masked: Any) -> np.ndarray:
        step, self.device.calls = self.device.calls, self.device.calls + 1
        assert len(vectors) <= self.batch_size
        if step >= self.device.fails_at and self.batch_size > self.device.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        images = np.zeros((len(vectors), 112, 112, 3), np.uint8)
        images[:, 0, 0, 0] = (vectors[:, 0] * 251).astype(np.int64) % 256
        images[:, 1, 0, 0] = n_masked
        if self.leaky:
            images[:, 2, 0, 0] = self.batch_size
        return images

    def stream(self, batches: Iterable[Inputs]) -> Generator[np.ndarray]:
        ahead: list[Inputs] = []  # one batch ahead, as the graph runner is
        for inputs in batches:
            ahead.append(inputs)
            if len(ahead) == 2:
                yield self(*ahead.pop(0))
        for inputs in ahead:
            yield self(*inputs)

    def describe(self) -> dict[str, Any]:
        return {"runner": "fake"}


def smaller(runner: Any, rows: int) -> FakeRunner:
    return FakeRunner(runner.device, rows, runner.leaky)


def inputs(batches: int = 6) -> list[Inputs]:
    rng = np.random.default_rng(0)
    sizes = [BATCH] * (batches - 1) + [5]
    return [
        (rng.random((n, 512), np.float32), rng.random((n, 49), np.float32), rng.integers(5, 49, n))
        for n in sizes
    ]


def test_out_of_memory_at_every_step_changes_no_byte() -> None:
    expected = np.concatenate([FakeRunner(Device(99, 0))(*part) for part in inputs()])
    points = 0
    for step in range(1, 6):
        for room in (8, 4, 2, 1):
            micro = MicroBatches(FakeRunner(Device(step, room)), smaller)
            np.testing.assert_array_equal(np.concatenate(list(micro.stream(inputs()))), expected)
            assert micro.retries <= 4  # log2(16)
            assert micro.rows == room
            again = list(micro.stream(inputs()))  # the next shard starts with what fits
            np.testing.assert_array_equal(np.concatenate(again), expected)
            points += 1
    print(f"out of memory at {points} points: bytes equal, at most 4 retries each")


def test_other_bytes_are_refused_and_named() -> None:
    micro = MicroBatches(FakeRunner(Device(2, 8), leaky=True), smaller)
    with pytest.raises(OutOfMemory, match=r"16 of 16 images differ in some bit"):
        list(micro.stream(inputs()))


def test_the_first_batch_that_does_not_fit_says_what_to_do() -> None:
    with pytest.raises(OutOfMemory, match=r"first batch of 16 rows.*--compute-batch 8"):
        list(MicroBatches(FakeRunner(Device(0, 8)), smaller).stream(inputs()))
    with pytest.raises(OutOfMemory, match="Not even one image"):
        list(MicroBatches(FakeRunner(Device(2, 0)), smaller).stream(inputs()))
    with pytest.raises(OutOfMemory, match="no fewer"):
        with_rows(FakeRunner(Device(0, 0)), 4)


def test_other_errors_pass() -> None:
    class Broken(FakeRunner):
        def __call__(self, *parts: Any) -> np.ndarray:
            raise RuntimeError("device-side assert")

    with pytest.raises(RuntimeError, match="device-side"):
        list(MicroBatches(Broken(Device(9, 9)), smaller).stream(inputs()))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"))


def test_batch_invariance_is_measured() -> None:
    full = inputs(2)[0]
    found = measure(FakeRunner(Device(99, 0)), full, smaller)
    assert found.invariant
    assert set(found.differing) == {1, 2, 3, 7, 8}
    assert str(found).startswith("batch-invariant")
    leaky = measure(FakeRunner(Device(99, 0), leaky=True), full, smaller)
    assert not leaky.invariant
    assert leaky.differing[1] == BATCH
    assert leaky.permuted == 0
    assert "not batch-invariant" in str(leaky)


def test_empty_images_are_made_again_then_recorded() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 112, 112, 3), dtype=np.uint8)
    good = images.copy()
    images[1] = 0  # transient
    images[3] = 128  # for good
    images[2, 0] = 7  # a constant first row is no constant image
    calls: list[int] = []

    def remake() -> np.ndarray:
        calls.append(1)
        fresh = good.copy()
        fresh[3] = 128
        return fresh

    assert constant(images).tolist() == [False, True, False, True]
    sound, failed = again_if_empty(images, remake)
    assert failed.tolist() == [0, 0, 0, 1]
    np.testing.assert_array_equal(sound[1], good[1])
    assert len(calls) == 1
    assert again_if_empty(good, remake)[1].tolist() == [0] * 4
    assert len(calls) == 1


def test_a_nan_in_the_network_makes_a_constant_image() -> None:
    from v2f_engine.pipeline import Engine

    engine = Engine.load("mini", device="cpu", compute_batch=2)
    vector = np.arange(1, 513, dtype=np.float32)[None] / 256 - 1
    good = next(engine.images(vector, 2))
    assert good.attributes["failed"].tolist() == [0, 0]
    with torch.no_grad():
        engine.runner.model.token_emb.LayerNorm.weight[3] = float("nan")  # type: ignore[attr-defined]
    bad = next(engine.images(vector, 2))
    assert bad.attributes["failed"].tolist() == [1, 1]
