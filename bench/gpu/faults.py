"""Injected deaths, to show that nothing written is lost: `V2F_BENCH_FAULT='{"ladder/4b ...": "kill@1"}'`.

A name of a job -> how it goes wrong once it has written so many rows (none by default):
`kill` (SIGKILL itself, as the kernel does when memory runs out), `hang` (never returns, and has a child that ignores
SIGTERM), `poison` (every torch operation raises from then on, `empty_cache` too, as after an illegal access).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

VARIABLE = "V2F_BENCH_FAULT"
WORDS = "CUDA error: an illegal memory access was encountered (injected)"
_modes: list[Any] = []


def after(job: str, rows: int) -> None:
    """Goes wrong if that is asked of `job` after `rows` rows."""
    wanted = json.loads(os.environ.get(VARIABLE, "{}")).get(job)
    if wanted is None:
        return
    kind, _, count = wanted.partition("@")
    if rows == int(count or 0):
        KINDS[kind]()


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hang() -> None:
    ignoring = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)"
    subprocess.Popen([sys.executable, "-c", ignoring])
    while True:
        time.sleep(1)


def _poison() -> None:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Poison(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            raise RuntimeError(WORDS)

    def raises(*args: object) -> None:
        raise RuntimeError(WORDS)

    for name in ("empty_cache", "synchronize"):
        setattr(torch.cuda, name, raises)
    _modes.append(Poison())  # type: ignore[no-untyped-call]
    _modes[0].__enter__()


def poisoned() -> bool:
    """Whether this process was poisoned here."""
    return bool(_modes)


KINDS = {"kill": _kill, "hang": _hang, "poison": _poison}
