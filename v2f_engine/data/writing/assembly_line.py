"""The assembly line: the caller's thread generates, a pool encodes, one thread writes and commits.

So the next batch is generated while the last ones are encoded, and the next shard begins while the last one
is hashed, fsynced and committed. The queue between them is short: a slow disk slows the generator down
instead of filling the memory.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from v2f_engine import disk
from v2f_engine.batch import ImageBatch
from v2f_engine.data.writing.encode import Encoder, check_batch, collect, submit
from v2f_engine.data.writing.run import DatasetRun
from v2f_engine.data.writing.sink import ShardSink
from v2f_engine.ranges import stage

BATCHES_AHEAD = 4
"""Batches between generator and writer: 4 x 256 images of 38 kB are 39 MB."""


@dataclass
class Tally:
    """What the writer has done so far; read by the generating thread, written by the writing one."""

    images: int = 0
    writing_s: float = 0.0


@dataclass(frozen=True)
class _Batch:
    number: int
    batch: ImageBatch
    encoded: list[Future[list[bytes]]]


@dataclass(frozen=True)
class _Commit:
    number: int


class AssemblyLine:
    """A context manager: `add` each batch of a shard, then `commit` it; leaving the block waits for the last commit.

    Args:
        run: an open run.
        encoder: turns images into bytes.
        threads: encoding threads.
    """

    def __init__(self, run: DatasetRun, encoder: Encoder, threads: int) -> None:
        self.tally = Tally()
        self._run = run
        self._encoder = encoder
        self._pool = ThreadPoolExecutor(threads, "v2f-encode")
        self._queue: queue.Queue[_Batch | _Commit | None] = queue.Queue(BATCHES_AHEAD)
        self._error: BaseException | None = None
        self._sink: ShardSink | None = None
        self._thread = threading.Thread(target=self._work, name="v2f-write", daemon=True)

    def __enter__(self) -> AssemblyLine:
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Waits until every complete shard is committed; a shard in hand is dropped."""
        self._queue.put(None)
        self._thread.join()
        self._pool.shutdown(cancel_futures=True)
        if error is None:
            self.check()

    def check(self) -> None:
        """Raises what went wrong in the writing thread, if anything did."""
        if self._error is not None:
            raise self._error

    def add(self, number: int, batch: ImageBatch) -> None:
        """Hands over the next batch of shard `number`."""
        self.check()
        check_batch(batch)
        self._queue.put(_Batch(number, batch, submit(self._pool, self._encoder, batch)))

    def commit(self, number: int) -> None:
        """Says that shard `number` is complete."""
        self.check()
        self._queue.put(_Commit(number))

    def _work(self) -> None:
        while True:
            item = self._queue.get()
            if item is None:
                break
            if self._error is None:
                try:
                    with stage("write"), disk.named_errors(self._run.root, self._run.bytes_needed):
                        self._step(item)
                except BaseException as error:
                    self._error = error
        if self._sink is not None:
            with contextlib.suppress(OSError):
                self._sink.abort()

    def _step(self, item: _Batch | _Commit) -> None:
        if self._sink is None:
            self._sink = self._run.sink(item.number)
        if isinstance(item, _Batch):
            self._write(self._sink, item)
            return
        started = time.perf_counter()
        self._run.commit(self._sink)
        self._sink = None
        self.tally.writing_s += time.perf_counter() - started

    def _write(self, sink: ShardSink, item: _Batch) -> None:
        encoded = collect(item.encoded)
        started = time.perf_counter()
        sink.write_all(item.batch.identity, item.batch.image, encoded)
        sink.add_attributes(item.batch)
        self.tally.images += len(encoded)
        self.tally.writing_s += time.perf_counter() - started
