"""One thread computes, one request at a time: a newer one cancels the older, so nothing piles up.

A job looks whether it is still wanted wherever it can stop: before it begins, between batches, at every iteration of
steering. One that waited in line and is no longer wanted never begins.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")
Line = dict[str, Any]
Emit = Callable[[Line], None]
Check = Callable[[], None]


class Superseded(Exception):
    """A newer request took the place of this one, or whoever asked has gone."""


@dataclass
class Job:
    """One request's work.

    Args:
        unwanted: set once nobody waits for it.
    """

    unwanted: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raises Superseded once nobody waits for it."""
        if self.unwanted.is_set():
            raise Superseded


class Desk:
    """Where requests are taken; its methods are called from one event loop."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="v2f-ui")
        self._now = Job()

    def begin(self) -> Job:
        """A new job; the one before is no longer wanted."""
        self._now.unwanted.set()
        self._now = Job()
        return self._now

    async def lines(self, job: Job, work: Callable[[Emit, Check], None]) -> AsyncGenerator[Line]:
        """What `work` emits, as it comes; Superseded or its own error ends it."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Line | None] = asyncio.Queue()

        def put(line: Line | None) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, line)

        def run() -> None:
            try:
                job.check()
                work(put, job.check)
            finally:
                put(None)

        done = loop.run_in_executor(self._pool, run)
        done.add_done_callback(_looked_at)
        try:
            while (line := await queue.get()) is not None:
                yield line
            await done
        finally:
            job.unwanted.set()

    async def run(self, job: Job, work: Callable[[Check], T]) -> T:
        """What `work` returns.

        Raises:
            Superseded: a newer request came first.
        """

        def checked() -> T:
            job.check()
            return work(job.check)

        return await asyncio.get_running_loop().run_in_executor(self._pool, checked)

    def close(self) -> None:
        """Nothing is wanted any longer."""
        self._now.unwanted.set()
        self._pool.shutdown(wait=False, cancel_futures=True)


def _looked_at(done: asyncio.Future[None]) -> None:
    """Whoever has left does not hear how it ended."""
    if not done.cancelled():
        done.exception()
