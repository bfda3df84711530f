"""Ends by a signal: SIGINT, SIGTERM and SIGHUP as one exception in commands, with what is kept said on the way out.

A signal that was ignored when the process began (`nohup`, `command &` in a script) stays ignored.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, `kill` and batch systems, a terminal that is closed."""


class Stopped(BaseException):
    """A signal that asks to end. No `KeyboardInterrupt`: libraries of commands turn that into an end of their own.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """What a shell shows of a process that the signal ended: 130, 143, 129."""
        return 128 + self.number


def unignored() -> list[signal.Signals]:
    """Those of `SIGNALS` that this process does not ignore."""
    return [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


@contextlib.contextmanager
def as_exceptions() -> Iterator[None]:
    """Inside the block, in the main thread, the signals raise `Stopped`."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    previous = {number: signal.signal(number, stop) for number in unignored()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextlib.contextmanager
def saying_what_is_kept(kept: Callable[[], str]) -> Iterator[None]:
    """Adds `kept()` as a note to whatever signal ends the block: `Stopped`, or Python's own KeyboardInterrupt."""
    try:
        yield
    except (Stopped, KeyboardInterrupt) as stop:
        stop.add_note(kept())
        raise
