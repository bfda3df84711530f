"""Heartbeats: a worker writes a growing counter, others notice when it no longer changes."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from types import TracebackType


class Silence:
    """How long each watched thing has not changed, in the watcher's own waking seconds."""

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._seen: dict[str, tuple[bytes, float]] = {}
        self._now = 0.0
        self._last = time.monotonic()

    def tick(self) -> None:
        """To be called at each look; a gap longer than a few steps means that we slept, and is not counted."""
        now = time.monotonic()
        self._now += min(now - self._last, 5 * self._step_s)
        self._last = now

    def of(self, name: str, content: bytes) -> float:
        """Seconds for which `name` has had this content."""
        known = self._seen.get(name)
        if known is None or known[0] != content:
            self._seen[name] = (content, self._now)
            return 0.0
        return self._now - known[1]


class Beat:
    """Writes this worker's heartbeat from a thread of its own until the block is left."""

    def __init__(self, path: Path, every_s: float) -> None:
        self._path = path
        self._every_s = every_s
        self._ended = threading.Event()
        self._count = 0
        self.images = 0
        self._thread = threading.Thread(target=self._run, name="v2f-beat", daemon=True)

    def __enter__(self) -> Beat:
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o666)
        self._write()
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        os.close(self._descriptor)
        self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        self._count += 1
        os.pwrite(self._descriptor, b"%016d %016d\n" % (self._count, self.images), 0)
        os.fsync(self._descriptor)  # a network file system shows it to other hosts only then

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            with contextlib.suppress(OSError):  # a full disk is the shard's trouble, not the heartbeat's
                self._write()
