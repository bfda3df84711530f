"""Files that appear under their name whole or not at all: temporary name, write, fsync, rename, fsync of the folder.

The order is the promise: a crash or a full disk leaves the old file or the new one, never a part. Size and sha256
come from the bytes in memory, not from reading back. A failed fsync is never retried and called good (PostgreSQL's
fsyncgate): the temporary file is dropped and the error goes up. The steps themselves are in `disk`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from v2f_engine import disk
from v2f_engine.errors import DiskFull, OutputFolderError

BLOCK = 1 << 20
"""Bytes gathered before a write: at 7 KB a record this is one system call and one hash update per 150."""


@dataclass(frozen=True)
class Written:
    """What a finished file holds: `bytes` and their `sha256`, taken while writing ("" if not `whole`)."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Region:
    """A byte range of a file, with the sha256 of its bytes."""

    offset: int
    bytes: int
    sha256: str


class DurableFile:
    """A file being prepared under a temporary name.

    `prepare` makes the bytes durable and says what they are; `publish` gives the file its name. Between
    the two a caller may still compare the hash with an expected one, or check that it holds its lease.

    Args:
        path: the final name; its folder exists.
        writer: distinguishes the temporaries of concurrent writers.
        whole: hash the file as a whole; False for files that are hashed region by region.
    """

    def __init__(self, path: Path, writer: str, *, whole: bool = True) -> None:
        self.path = path
        self._temporary = disk.temporary_path(path, writer)
        self._name = str(self._temporary)
        disk.before("create", self._name)
        self._descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        self._whole_hash = hashlib.sha256() if whole else None
        self._region_hash: hashlib._Hash | None = None
        self._region_start = 0
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self.size = 0

    def write(self, data: bytes) -> None:
        self._pending.append(data)
        self._pending_bytes += len(data)
        self.size += len(data)
        if self._pending_bytes >= BLOCK:
            self._flush()

    def _flush(self) -> None:
        if not self._pending:
            return
        block = b"".join(self._pending)
        self._pending = []
        self._pending_bytes = 0
        for running in (self._whole_hash, self._region_hash):
            if running is not None:
                running.update(block)
        disk.write_all(self._descriptor, block, self._name)

    def begin_region(self) -> None:
        """From here on, bytes count towards a region."""
        self._flush()
        self._region_hash = hashlib.sha256()
        self._region_start = self.size

    def end_region(self) -> Region:
        self._flush()
        if self._region_hash is None:
            raise RuntimeError("end_region without begin_region")
        region = Region(self._region_start, self.size - self._region_start, self._region_hash.hexdigest())
        self._region_hash = None
        return region

    def rewrite(self, offset: int, data: bytes) -> Region:
        """Fills in bytes left blank earlier; they lie in no other region."""
        self._flush()
        view = memoryview(data)
        at = offset
        while view:
            disk.before("write", self._name)
            count = os.pwrite(self._descriptor, view, at)
            view = view[count:]
            at += count
        return Region(offset, len(data), hashlib.sha256(data).hexdigest())

    def prepare(self) -> Written:
        """Flush, fsync, close. The bytes are safe under the temporary name."""
        self._flush()
        disk.fsync(self._descriptor, self._name)
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)
        return Written(self.size, self._whole_hash.hexdigest() if self._whole_hash is not None else "")

    def publish(self) -> None:
        """Rename to the final name, fsync of the folder."""
        disk.rename(self._temporary, self.path)
        disk.fsync_folder(self.path.parent)

    def abort(self) -> None:
        """Drops the temporary file; safe to call at any point, more than once."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._temporary.unlink(missing_ok=True)


class Abortable(Protocol):
    """What leaves something behind until it is aborted or published."""

    def abort(self) -> None: ...


@contextmanager
def aborted_on_error(*files: Abortable) -> Iterator[None]:
    """Aborts them where the block ends with an exception."""
    try:
        yield
    except BaseException:
        for file in files:
            file.abort()
        raise


def write_file(path: Path, data: bytes, writer: str) -> Written:
    """Writes a whole file by the protocol."""
    file = DurableFile(path, writer)
    with aborted_on_error(file):
        file.write(data)
        written = file.prepare()
        file.publish()
    return written


@contextmanager
def replacing(path: Path, size: int) -> Iterator[Path]:
    """A temporary name to write `path`'s content to inside the block, for writers that want a name; then it is durable.

    Args:
        path: final name.
        size: bytes that will be written, for the message of a full disk.

    Raises:
        DiskFull: no room; a file of that name that was there before is untouched.
        OutputFolderError: the folder does not exist or cannot be written.
    """
    temporary = disk.temporary_path(path, str(os.getpid()))
    with _named_errors(path, size):
        try:
            yield temporary
            with temporary.open("rb+") as file:
                disk.fsync(file.fileno(), str(temporary))
            disk.rename(temporary, path)
            disk.fsync_folder(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a single file's `content`. Raises as `replacing`."""
    with _named_errors(path, len(content)):
        write_file(path, content, str(os.getpid()))


@contextmanager
def _named_errors(path: Path, size: int) -> Iterator[None]:
    try:
        yield
    except (DiskFull, OutputFolderError):
        raise
    except OSError as error:
        if error.errno in disk.FULL:
            free = disk.free_bytes(path.parent)
            raise DiskFull(
                f"{path}: {error.strerror}: needs {size:,} bytes, {free:,} are free. Make room (or mend the disk)."
            ) from error
        raise OutputFolderError(
            f"{path}: cannot be written ({error.strerror}). Give a writable folder."
        ) from error
