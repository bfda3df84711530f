"""Named stages of the work: `with stage("replay"): ...`.

A stage is a range for a profiler (Nsight Systems) where the nvtx package is installed, and seconds where somebody
listens (`recorded`). With neither it is nothing; listened to, it costs about a microsecond, and there are some twenty
in a batch of 256 images.

What a person who waits should read of it goes another way: `doing("steering: iteration 12 of at most 40")`, to whoever
watches (`watched`); the first stages of a run say themselves what they do.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import TracebackType
from typing import Any

DOMAIN = "v2f"


class Recorded:
    """Wall seconds by stage, of all threads together: a stage that four threads are in counts four times."""

    def __init__(self) -> None:
        self._seconds: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, name: str, seconds: float) -> None:
        with self._lock:
            self._seconds[name] += seconds  # type: ignore[assignment]  # counts seconds

    @property
    def seconds(self) -> dict[str, float]:
        """Stage -> seconds so far, in the order in which the stages first ended."""
        with self._lock:
            return dict(self._seconds)


_listeners: list[Recorded] = []


@contextmanager
def recorded() -> Iterator[Recorded]:
    """Listens to the stages that end inside the block, in any thread; blocks may be nested and each hears all."""
    mine = Recorded()
    _listeners.append(mine)
    try:
        yield mine
    finally:
        _listeners[:] = [other for other in _listeners if other is not mine]


class _Timed:
    """A range that is told to the listeners of its end."""

    __slots__ = ("_name", "_range", "_start")

    def __init__(self, name: str, inner: AbstractContextManager[Any]) -> None:
        self._name, self._range, self._start = name, inner, 0.0

    def __enter__(self) -> None:
        self._range.__enter__()
        self._start = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = time.perf_counter() - self._start
        for listener in tuple(_listeners):
            listener.add(self._name, seconds)
        self._range.__exit__(kind, error, trace)


@cache
def _annotate() -> Any:
    return import_module("nvtx").annotate if find_spec("nvtx") else None


SAID: Mapping[str, str] = {
    "import": "importing",
    "load weights": "loading weights",
    "prepare network": "preparing the network",
    "warm up": "warming up",
    "capture": "capturing the CUDA graph",
    "identities": "sampling identities",
}
"""Stage -> words of it, for those that are waited for before anything is counted."""
_watchers: list[Callable[[str], object]] = []


@contextmanager
def watched(told: Callable[[str], object]) -> Iterator[None]:
    """Inside the block `told` is called with what is going on, from any thread; the innermost block's alone."""
    _watchers.append(told)
    try:
        yield
    finally:
        _watchers.remove(told)


def doing(words: Callable[[], str]) -> None:
    """Tells whoever watches what is going on; `words` is called only if somebody does."""
    if _watchers:
        _watchers[-1](words())


def stage(name: str) -> AbstractContextManager[Any]:
    """A range called `name` in the domain `v2f`; a no-op where nvtx is not installed and nobody listens."""
    if _watchers and name in SAID:
        doing(lambda: SAID[name])
    annotate = _annotate()
    inner: AbstractContextManager[Any] = nullcontext() if annotate is None else annotate(name, domain=DOMAIN)
    return _Timed(name, inner) if _listeners else inner
