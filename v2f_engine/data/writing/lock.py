"""One writer per dataset: a lock file under flock, freed by the kernel when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from v2f_engine.errors import OutputFolderError


@contextlib.contextmanager
def exclusive(path: Path, root: Path) -> Iterator[None]:
    """Holds the lock file `path` inside the block.

    The holder removes the file (and its folder, when nothing else is in it) on leaving; whoever opened it
    meanwhile notices that its file is no longer the one under that name and opens it again.

    Raises:
        OutputFolderError: another process holds it; the message names that process.
    """
    descriptor = _acquire(path, root)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()
        os.close(descriptor)


def _acquire(path: Path, root: Path) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue  # the previous holder just removed the folder
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                    return descriptor
        except BlockingIOError as error:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
            os.close(descriptor)
            raise OutputFolderError(
                f"{root} is being written by {holder}. Expected no other writer; wait for it, end it, or "
                "choose another output folder."
            ) from error
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
