"""Out of memory at every step: the same bytes, few retries; empty images; batch invariance as measured."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

import numpy as np
import pytest
import torch

from v2f_engine.errors import OutOfMemory
from v2f_engine.pipeline.draws import Draw
from v2f_engine.pipeline.finish import constant, sound
from v2f_engine.pipeline.makers import Made, Maker
from v2f_engine.pipeline.makers.plain import Plain
from v2f_engine.pipeline.memory import WithinMemory, is_out_of_memory
from v2f_engine.runtime import Inputs, with_rows
from v2f_engine.runtime.batch_invariance import measure

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


class FakePlain(Plain):
    """A plain maker of a fake runner, which has smaller ones."""

    def smaller(self, rows: int) -> FakePlain:
        return FakePlain(smaller(self.runner, rows))


def within(device: Device, leaky: bool = False) -> WithinMemory:
    return WithinMemory(FakePlain(FakeRunner(device, leaky=leaky)))


def draws(batches: int = 6) -> list[Draw]:
    return [
        Draw(0, place, place, place, *part)
        for part in inputs(batches)
        for place in [np.arange(len(part[0]), dtype=np.int64)]
    ]


def images(made: Iterable[tuple[Draw, Made]]) -> np.ndarray:
    return np.concatenate([one.images for _, one in made])


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
    for step, rooms in ((1, (8, 4, 2, 1)), (2, (8, 1)), (3, (4,)), (5, (8, 2))):
        for room in rooms:
            maker, asked = within(Device(step, room)), draws()
            made = list(maker.stream(asked))
            np.testing.assert_array_equal(images(made), expected)
            assert [draw for draw, _ in made] == asked
            assert maker.retries <= 4  # log2(16)
            assert maker.rows == room
            again = images(maker.stream(draws()))  # the next shard starts with what fits
            np.testing.assert_array_equal(again, expected)
            points += 1
    print(f"out of memory at {points} points: bytes equal, at most 4 retries each")


@pytest.mark.parametrize("step", range(6))
def test_a_moment_without_memory_changes_not_even_the_rows(step: int) -> None:
    class Moment(Device):
        """Out of memory in one call alone, whatever the rows."""

        @property
        def room(self) -> int:
            return 0 if self.calls == step + 1 else BATCH

        @room.setter
        def room(self, value: int) -> None:
            pass

    maker = within(Moment(step, 0), leaky=True)
    expected = np.concatenate([FakeRunner(Device(99, 0), leaky=True)(*part) for part in inputs()])
    np.testing.assert_array_equal(images(maker.stream(draws())), expected)
    assert (maker.rows, maker.retries) == (BATCH, 0)


def test_other_bytes_are_refused_and_named() -> None:
    with pytest.raises(OutOfMemory, match=r"16 of 16 images differ in some bit"):
        list(within(Device(2, 8), leaky=True).stream(draws()))


def test_the_first_batch_that_does_not_fit_says_what_to_do() -> None:
    with pytest.raises(OutOfMemory, match=r"first batch of 16 rows.*--compute-batch 8"):
        list(within(Device(0, 8)).stream(draws()))
    with pytest.raises(OutOfMemory, match="Not even one image"):
        list(within(Device(2, 0)).stream(draws()))
    with pytest.raises(OutOfMemory, match="no fewer"):
        with_rows(FakeRunner(Device(0, 0)), 4)


def test_other_errors_pass() -> None:
    class Broken(FakeRunner):
        def __call__(self, *parts: Any) -> np.ndarray:
            raise RuntimeError("device-side assert")

    with pytest.raises(RuntimeError, match="device-side"):
        list(WithinMemory(FakePlain(Broken(Device(9, 9)))).stream(draws()))
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


class Told(Maker):
    """Gives what it was told to, and notes which rows it was asked for."""

    rows = batch = 4

    def __init__(self, made: Made) -> None:
        self.made, self.asked = made, list[list[int]]()

    def __call__(self, draw: Draw) -> Made:
        self.asked.append(draw.image.tolist())
        rows = draw.image
        level = {name: values[rows] for name, values in self.made.attributes.items()}
        return Made(self.made.images[rows], level, doubtful=np.zeros(len(rows), bool))

    def smaller(self, rows: int) -> Told:
        raise NotImplementedError


def test_what_is_empty_or_doubtful_is_made_again_then_recorded() -> None:
    good = np.random.default_rng(0).integers(0, 256, (4, 112, 112, 3), dtype=np.uint8)
    fresh, first = good.copy(), good.copy()
    first[1] = 0  # transient
    first[3] = fresh[3] = 128  # for good
    first[2, 0] = fresh[2, 0] = 7  # a constant first row is no constant image
    assert constant(first).tolist() == [False, True, False, True]
    (draw,) = (one.rows(slice(4)) for one in draws(2)[:1])
    maker = Told(Made(fresh, {"level": np.array([5, 6, 7, 8], np.float32)}))
    told = Made(first, {"level": np.array([1, 2, 3, 4], np.float32)}, doubtful=np.array([1, 0, 0, 0], bool))
    made, failed = sound(WithinMemory(maker), draw, told)
    assert failed.tolist() == [0, 0, 0, 1]
    assert maker.asked == [[0, 1, 3]]
    np.testing.assert_array_equal(made.images, fresh)
    assert made.attributes["level"].tolist() == [5, 6, 3, 8]
    assert first[1].max() == 0, "what was given is not changed"
    assert sound(WithinMemory(maker), draw, Made(good))[1].tolist() == [0] * 4
    assert len(maker.asked) == 1


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
