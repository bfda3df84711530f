"""Child processes that end with their parent: one that is killed cannot tell them, so each looks for itself.

Linux can send a signal when a parent dies (`prctl`), but means the thread that started the child, which may well end
before the process does. So a thread of the child looks every half second whose child it is: a process whose parent
died is given another one at once.
"""

from __future__ import annotations

import os
import threading
import time

EVERY_S = 0.5
STATUS = 113
"""Exit status of an orphan; nobody is left to read it, but people in `ps` and core dumps."""
VARIABLE = "V2F_PARENT"
"""Environment variable in which a parent tells a child that it starts as a command who it is."""


def told() -> int | None:
    """The parent's process id out of `VARIABLE`, which goes no further: grandchildren have another parent."""
    text = os.environ.pop(VARIABLE, "")
    return int(text) if text.isdecimal() else None


def end_with_parent(parent: int | None = None, grace_s: float = 0.0) -> None:
    """From here on this process ends when its parent does.

    Args:
        parent: its process id, as the parent knows it, so that one that died before we looked is noticed too; by
            default whoever is our parent now.
        grace_s: seconds between the parent's death and our end, for what ends in better ways by itself.
    """
    expected = os.getppid() if parent is None else parent
    threading.Thread(target=_watch, args=(expected, grace_s), name="v2f-orphan", daemon=True).start()


def _watch(parent: int, grace_s: float) -> None:
    while os.getppid() == parent:
        time.sleep(EVERY_S)
    time.sleep(grace_s)
    os._exit(STATUS)  # no `finally`, no flush: as if killed, which everything we write is made for
