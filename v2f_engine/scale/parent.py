"""Workers never outlive their coordinator by more than the shard in hand."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Has the kernel send this process SIGTERM when its parent dies (Linux; elsewhere `parent_lives` does)."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def parent_lives() -> Callable[[], bool]:
    """A function that says whether the process which is our parent now is still so."""
    parent = os.getppid()
    return lambda: os.getppid() == parent
