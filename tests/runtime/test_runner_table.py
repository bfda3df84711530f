"""The runner table and what the engine asks of a runner: named refusals, streaming ahead, order, early stop."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from v2f_engine.backends import Choice, choose
from v2f_engine.batch import ImageBatch
from v2f_engine.errors import BackendUnavailable, ConfigError
from v2f_engine.models.mask_schedule import MASK_SCHEDULES
from v2f_engine.pipeline import Engine
from v2f_engine.runtime import RUNNERS, Inputs, open_runner, runner_for


class AheadRunner:
    """Takes two batches ahead, as the CUDA graph does; an image's bytes are its noise, times 255."""

    batch_size, n_dropped = 4, 5

    def __init__(self) -> None:
        self.taken = 0
        self.closed = False

    def __call__(
        self, vectors: NDArray[np.float32], noise: NDArray[np.float32], n_masked: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        images = np.zeros((len(noise), 112, 112, 3), np.uint8)
        images[:, 0, :49, 0] = noise * 255
        images[:, 1, 0, 0] = n_masked
        return images

    def stream(self, batches: Iterable[Inputs]) -> Generator[NDArray[np.uint8]]:
        flying: deque[NDArray[np.uint8]] = deque()
        try:
            for inputs in batches:
                self.taken += 1
                flying.append(self(*inputs))
                if len(flying) == 3:
                    yield flying.popleft()
            while flying:
                yield flying.popleft()
        finally:
            self.closed = True

    def describe(self) -> dict[str, Any]:
        return {"runner": "ahead"}


def engine_of(runner: AheadRunner) -> Engine:
    loaded = SimpleNamespace(name="ahead", statistics="gaussian", max_cosine=0.3)
    return Engine(loaded, runner, MASK_SCHEDULES["generate"])  # type: ignore[arg-type]


VECTORS = np.random.default_rng(0).standard_normal((5, 512), dtype=np.float32)


@pytest.mark.parametrize("size", [1, 4, 6, 64])
def test_what_belongs_to_an_image_stays_with_it_while_the_runner_is_ahead(size: int) -> None:
    batches = list(engine_of(AheadRunner()).images(VECTORS, 5, seed=3, batch_size=size))
    assert [len(b) for b in batches] == [size] * (25 // size) + [25 % size] * (25 % size > 0)

    def joined(read: str) -> NDArray[Any]:
        return np.concatenate([getattr(b, read) for b in batches])

    identity, image = joined("identity"), joined("image")
    np.testing.assert_array_equal(identity, np.repeat(np.arange(5), 5))
    np.testing.assert_array_equal(image, np.tile(np.arange(5), 5))
    noise, n_masked = MASK_SCHEDULES["generate"].draw(3, identity, image)
    images = joined("images")
    np.testing.assert_array_equal(images[:, 0, :49, 0], (noise * 255).astype(np.uint8))
    np.testing.assert_array_equal(images[:, 1, 0, 0], n_masked)
    told = np.concatenate([b.attributes["n_masked"] for b in batches])
    np.testing.assert_array_equal(told, n_masked)


def test_the_runner_is_fed_ahead_and_closed_when_the_caller_stops() -> None:
    runner = AheadRunner()
    images = iter(engine_of(runner).images(VECTORS, 40, batch_size=4))
    first = next(images)
    assert isinstance(first, ImageBatch)
    assert runner.taken == 3
    assert not runner.closed
    del images
    assert runner.closed


def test_auto_is_the_graph_on_a_gpu_and_eager_on_a_cpu() -> None:
    assert runner_for("auto", "cuda:1") == "cuda_graph"
    assert runner_for("auto", "cpu") == "eager"
    assert all(runner_for(name, "cpu") == name for name in RUNNERS)


def test_a_runner_nobody_knows_and_one_that_cannot_run_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'cuda_graph'.*eager"):
        Engine.load("mini", runner="cudagraph")
    if not torch.cuda.is_available():
        with pytest.raises(BackendUnavailable, match="eager"):
            Engine.load("mini", device="cpu", runner="cuda_graph")
    with pytest.raises(ConfigError, match="batch_size"):
        open_runner("eager", None, choose("cpu"), 5, 0)  # type: ignore[arg-type]


def test_the_table_is_read_when_a_runner_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def opened(loaded: object, choice: Choice, n_dropped: int, batch_size: int) -> AheadRunner:
        asked.append((loaded, choice.device, n_dropped, batch_size))
        return AheadRunner()

    monkeypatch.setattr(__import__(__name__), "opened", opened, raising=False)
    monkeypatch.setitem(RUNNERS, "ahead", f"{__name__}:opened")
    engine = Engine.load("mini", device="cpu", runner="ahead", compute_batch=7)
    assert asked == [(engine.loaded, "cpu", 5, 7)]
    assert engine.describe()["runner"] == {"runner": "ahead"}
