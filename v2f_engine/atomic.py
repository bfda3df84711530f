"""One file, replaced as a whole: a crash or a full disk leaves the old file or the new one, never a part.

For single files: weights, tables of vectors, checkpoints. Datasets, which commit many files and resume, have
the same order of steps in `data.fs`, where every step can be counted and failed by tests.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from v2f_engine.errors import DiskFull, OutputFolderError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes `content`: temporary name, flush, fsync, rename, fsync of the folder.

    Raises:
        DiskFull: no room; a file of that name that was there before is untouched.
        OutputFolderError: the folder does not exist or cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
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
            raise DiskFull(
                f"{path}: needs {len(content):,} bytes, {free:,} are free. Free some space."
            ) from error
        raise OutputFolderError(
            f"{path}: cannot be written ({error.strerror}). Give a writable folder."
        ) from error
