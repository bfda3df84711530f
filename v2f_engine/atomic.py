"""One file, replaced as a whole: a crash or a full disk leaves the old file or the new one, never a part.

For single files: weights, tables of vectors, checkpoints. Datasets, which commit many files and resume, have
the same order of steps in `data.fs`, where every step can be counted and failed by tests.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from v2f_engine.errors import DiskFull, OutputFolderError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def replacing(path: Path, size: int) -> Iterator[Path]:
    """A temporary name to write `path`'s content to inside the block; then fsync, rename, fsync of the folder.

    Args:
        path: final name.
        size: bytes that will be written, for the message of a full disk.

    Raises:
        DiskFull: no room; a file of that name that was there before is untouched.
        OutputFolderError: the folder does not exist or cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in _FULL:
            free = shutil.disk_usage(path.parent).free
            raise DiskFull(f"{path}: needs {size:,} bytes, {free:,} are free. Free some space.") from error
        raise OutputFolderError(
            f"{path}: cannot be written ({error.strerror}). Give a writable folder."
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Writes `content`. Raises as `replacing`."""
    with replacing(path, len(content)) as temporary:
        temporary.write_bytes(content)
