"""SIGINT, SIGTERM and SIGHUP as requests: the shard in hand is finished if that is quick, else cleanly abandoned."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from v2f_engine.stopping import unignored


class StopRequest:
    """Whether somebody asked us to stop, and how urgently."""

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._deadline: float | None = None
        self.signal: int | None = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        again = self.signal is not None
        self.signal = number
        self._deadline = time.monotonic() + (0.0 if again else self._grace_s)

    @property
    def requested(self) -> bool:
        """Stop after the shard in hand."""
        return self.signal is not None

    @property
    def overdue(self) -> bool:
        """Stop now: the grace time is over, or the signal came twice."""
        return self._deadline is not None and time.monotonic() >= self._deadline


@contextlib.contextmanager
def stop_request(grace_s: float) -> Iterator[StopRequest]:
    """Inside the block, SIGINT, SIGTERM and SIGHUP only set a flag; after it, a signal that came is raised as usual.

    So the caller's own handlers, KeyboardInterrupt and the exit status stay what they would have been. A signal that
    the caller ignores (a shell has SIGINT ignored by what it runs with `&`) stays ignored: taken for a request, it
    would end the run early, and raised again afterwards it would say nothing. Outside the main thread no handler can
    be set, and signals go their usual way.
    """
    request = StopRequest(grace_s)
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = {number: signal.signal(number, request._note) for number in unignored()}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        if request.signal is not None:
            signal.raise_signal(request.signal)
