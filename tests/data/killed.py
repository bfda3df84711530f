"""Work in a forked process, and how it dies before one file-system operation: for scripts that kill writers."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from v2f_engine import disk


def in_child(work: Callable[[], object]) -> int:
    """Runs `work` in a forked process; returns its process id."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
    return child


def finish(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def dying(work: Callable[[], object], kill_at: int, log: Path | None = None) -> None:
    """Works, and dies before operation number `kill_at`; `log` is told how many there were, and what `work` gave."""
    done = 0

    def before(operation: str, path: str) -> None:
        nonlocal done
        if done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1

    disk.before = before
    gave = work()
    if log is not None:
        log.write_text(f"{done} {gave}")
