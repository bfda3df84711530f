"""Items of a generator made ahead in a thread of its own, so that who hands work to a device never waits for draws."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")

AHEAD = 2
"""Batches drawn ahead: one being taken, one ready; 256 rows of vectors and masks are 0.6 MB."""


@dataclass(frozen=True)
class _Made(Generic[Item]):
    item: Item


class _End:
    """The generator is done, or has raised `error`."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def made_ahead(source: Iterator[Item], ahead: int = AHEAD) -> Generator[Item]:
    """The items of `source`, in order, with up to `ahead` of them made before they are asked for.

    `source` runs in a thread from the first `next` on. What it raises is raised here, after the items before it. Closed
    early (or dropped), it lets the item in hand be finished, closes `source` in its thread, and waits for that.

    Args:
        source: used by that thread alone from now on.
        ahead: at least 1.
    """
    ready: queue.SimpleQueue[_Made[Item] | _End] = queue.SimpleQueue()
    room, stopped = threading.Semaphore(ahead), threading.Event()

    def work() -> None:
        error: BaseException | None = None
        try:
            with contextlib.closing(source) if isinstance(source, Generator) else contextlib.nullcontext():
                while True:
                    room.acquire()
                    if stopped.is_set():
                        return
                    try:
                        ready.put(_Made(next(source)))
                    except StopIteration:
                        break
        except BaseException as raised:
            error = raised
        ready.put(_End(error))

    thread = threading.Thread(target=work, name="v2f-draw", daemon=True)
    thread.start()
    try:
        while isinstance(got := ready.get(), _Made):
            room.release()
            yield got.item
        if got.error is not None:
            raise got.error
    finally:
        stopped.set()
        room.release()
        if (
            thread is not threading.current_thread()
        ):  # a collector may close a dropped generator from any thread
            thread.join()
