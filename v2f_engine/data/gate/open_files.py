"""Positional reads, so that a file that is cut or swapped meanwhile is an error and never the end of the process."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import DatasetError


class _OpenFile:
    """A descriptor that closes with its last user, so that an eviction never pulls it from under a reader."""

    def __init__(self, path: Path) -> None:
        self.descriptor = -1
        # Not blocking: a named pipe under a data file's name is an error, not a wait without end.
        self.descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


class OpenFiles:
    """Positional reads from files of which the last 64 stay open.

    A file that is cut meanwhile gives an error, where a memory map would kill the process (SIGBUS).
    """

    def __init__(self) -> None:
        self._open = lru_cache(maxsize=64)(_OpenFile)

    def read(self, path: Path, offset: int, size: int) -> bytes:
        """Exactly `size` bytes at `offset`.

        Raises:
            DatasetError: the file is missing, or ends before that.
        """
        try:
            file = self._open(path)
            data = os.pread(file.descriptor, size, offset)
        except OSError as error:
            raise DatasetError(f"{path}: cannot be read: {error.strerror}.") from error
        except (OverflowError, ValueError) as error:  # an offset or size that no file has
            raise DatasetError(f"{path}: cannot be read at offset {offset}: {error}.") from error
        if len(data) != size:
            raise DatasetError(
                f"{path}: expected {size} bytes at offset {offset}, found {len(data)}: the file is cut."
            )
        return data

    def heads(self, path: Path, offsets: Iterable[int], size: int) -> NDArray[np.uint8]:
        """The first `size` bytes at each offset: uint8 `[N, size]`, zeros where the file ends before.

        One read each, about 1 us from memory; rows of frames are judged together afterwards.

        Raises:
            DatasetError: the file is missing.
        """
        try:
            descriptor = self._open(path).descriptor
            read = [os.pread(descriptor, size, offset).ljust(size, b"\0") for offset in offsets]
        except (OSError, OverflowError, ValueError) as error:
            raise DatasetError(f"{path}: cannot be read: {error}.") from error
        return np.frombuffer(b"".join(read), np.uint8).reshape(len(read), size)
