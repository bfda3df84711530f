"""Reads and decodes the next steps' rows in threads while this step computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

from v2f_engine.config import at_least
from v2f_engine.data.training.rows import RowNumbers, Rows, TrainingSet

Batch = TypeVar("Batch")


class Prefetcher(Generic[Batch]):
    """Batches of consecutive steps, in order, each made whole by one of several threads.

    What a step sees is what `rows_of` and the data say, whatever the threads do; decoding leaves the GIL.

    Args:
        data: read from in several threads at once.
        rows_of: step -> row numbers, e.g. a shuffle keyed by (seed, step).
        prepare: (step, rows) -> what the trainer wants, e.g. augmented tensors; runs in the thread.
        start: the first step.
        stop: the first step that is not read, or None for no end.
        threads: that decode; 1 keeps one core busy.
        ahead: steps read in advance.
    """

    def __init__(
        self,
        data: TrainingSet,
        rows_of: Callable[[int], RowNumbers],
        prepare: Callable[[int, Rows], Batch],
        *,
        start: int = 0,
        stop: int | None = None,
        threads: int = 1,
        ahead: int = 2,
    ) -> None:
        at_least("threads", threads, 1)
        at_least("ahead", ahead, 1)
        self._data, self._rows_of, self._prepare = data, rows_of, prepare
        self._next, self._stop, self._ahead = start, stop, max(ahead, threads)
        self._pool = ThreadPoolExecutor(threads, "v2f-read")
        self._waiting: list[Future[Batch]] = []
        _ = data.labels  # found once here, not by every thread at once

    def _make(self, step: int) -> Batch:
        return self._prepare(step, self._data.read(self._rows_of(step)))

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        """The next step's batch.

        Raises:
            DatasetError: a row of this step cannot be used and the set refuses such rows.
        """
        while len(self._waiting) < self._ahead and (self._stop is None or self._next < self._stop):
            self._waiting.append(self._pool.submit(self._make, self._next))
            self._next += 1
        if not self._waiting:
            raise StopIteration
        return self._waiting.pop(0).result()

    def close(self) -> None:
        """Drops what was read in advance and waits for what is being read."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Prefetcher[Batch]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
