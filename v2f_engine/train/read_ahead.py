"""What the next steps need, read by a thread while this one computes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Read = TypeVar("Read")

AHEAD = 2
"""Steps read in advance: one being copied, one being decoded."""


class ReadAhead(Generic[Read]):
    """`read(step)` of any step, and the steps after it begun.

    Args:
        read: a function of the step alone; one thread calls it.
        name: of the thread.
    """

    def __init__(self, read: Callable[[int], Read], name: str) -> None:
        self._read = read
        self._thread = ThreadPoolExecutor(1, name)
        self._begun: dict[int, Future[Read]] = {}

    def __call__(self, step: int) -> Read:
        """Raises whatever `read` raised for this step."""
        self._begun = {s: f for s, f in self._begun.items() if s >= step or not f.cancel()}
        for number in range(step, step + AHEAD + 1):
            if number not in self._begun:
                self._begun[number] = self._thread.submit(self._read, number)
        return self._begun.pop(step).result()

    def close(self) -> None:
        """Stops reading ahead."""
        self._thread.shutdown(wait=True, cancel_futures=True)
