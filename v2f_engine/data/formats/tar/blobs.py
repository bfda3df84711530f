"""Archives to read at any place: files as they lie, compressed ones unpacked once into a temporary file without a name.

A gzip stream has no random access, and an index of it (zran) would keep 32 KiB of state for every MiB; pictures do not
shrink, so unpacking costs the archive's size. The file lies where Python puts temporary files (`TMPDIR`) and goes with
the process.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, cast

from v2f_engine.data.gate.open_files import OpenFiles
from v2f_engine.errors import DatasetError

MAX_RATIO = 200
"""Bytes out of one byte in. JPEGs in a tar give 1.1, grey bitmaps 50; a bomb of gzip 1000."""
_FLOOR = 64 << 20
"""Bytes that any archive may unpack to: the ratio of a small one means nothing."""
_CHUNK = 1 << 20
_KEEP_FREE = 256 << 20


@dataclass(frozen=True)
class Blob:
    """An archive's bytes.

    Args:
        path: its file, for messages.
        length: bytes in all, unpacked.
        read: (offset, size) -> exactly these bytes; raises DatasetError where they end before.
        unpacked: whether they lie in a temporary file.
    """

    path: Path
    length: int
    read: Callable[[int, int], bytes]
    unpacked: bool = False


def _gzip(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.GzipFile(path, "rb"))


def _bzip2(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", bz2.BZ2File(path, "rb"))


def _xz(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", lzma.LZMAFile(path, "rb"))


_OPENERS: Mapping[bytes, tuple[str, Callable[[Path], IO[bytes]] | None]] = {
    b"\x1f\x8b": ("gzip", _gzip),
    b"BZh": ("bzip2", _bzip2),
    b"\xfd7zXZ\0": ("xz", _xz),
    b"\x28\xb5\x2f\xfd": ("zstd", None),
}
"""First bytes -> name of the compression, what opens it; what the standard library cannot open is refused by name."""


def open_blobs(paths: Sequence[Path]) -> list[Blob]:
    """Each archive, ready for reading; whether it is compressed is seen by its bytes, not by its name.

    Raises:
        DatasetError: unreadable, cut, of a compression that is not read, or so large unpacked that it is hostile or
            does not fit the disk.
    """
    files = OpenFiles()
    scratch: _Scratch | None = None
    blobs = []
    for path in paths:
        try:
            length = path.stat().st_size
        except OSError as error:
            raise DatasetError(f"{path}: cannot be read: {error.strerror}.") from error
        head = files.read(path, 0, min(8, length))
        found = next((each for magic, each in _OPENERS.items() if head.startswith(magic)), None)
        if found is None:
            blobs.append(Blob(path, length, partial(files.read, path)))
            continue
        scratch = scratch or _Scratch()
        blobs.append(scratch.add(path, *found))
    return blobs


class _Scratch:
    """One temporary file for all archives of a set: a thousand shards are not a thousand open files."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="v2f-unpacked-")  # noqa: SIM115 (as long as the reader)
        self._end = 0

    def add(self, path: Path, name: str, opener: Callable[[Path], IO[bytes]] | None) -> Blob:
        if opener is None:
            raise DatasetError(
                f"{path}: compressed by {name}, which is not read here; unpack it first (`{name} -d`)."
            )
        start, most = self._end, max(_FLOOR, MAX_RATIO * path.stat().st_size)
        try:
            with opener(path) as stream:
                while chunk := stream.read(_CHUNK):
                    if self._end - start + len(chunk) > most:
                        raise DatasetError(
                            f"{path}: {path.stat().st_size} bytes unpack to more than {most}; no set of pictures does."
                        )
                    self._room(path)
                    self._file.write(chunk)
                    self._end += len(chunk)
            self._file.flush()
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise DatasetError(
                f"{path}: cannot be unpacked ({error}): cut, damaged, or the disk is full."
            ) from error
        return Blob(
            path, self._end - start, partial(self._read, path, start, self._end - start), unpacked=True
        )

    def _room(self, path: Path) -> None:
        if self._end % (64 * _CHUNK) < _CHUNK and shutil.disk_usage(tempfile.gettempdir()).free < _KEEP_FREE:
            raise DatasetError(
                f"{path}: no room to unpack it in {tempfile.gettempdir()}. Unpack it to another disk, or let TMPDIR "
                "name a folder with room."
            )

    def _read(self, path: Path, start: int, length: int, offset: int, size: int) -> bytes:
        data = os.pread(self._file.fileno(), size, start + offset) if offset + size <= length else b""
        if len(data) != size:
            raise DatasetError(
                f"{path}: expected {size} bytes at offset {offset}, found {len(data)}: it is cut."
            )
        return data


def unpacked_remark(blobs: Sequence[Blob]) -> list[str]:
    """What the account says of archives that were unpacked."""
    sizes = [blob.length for blob in blobs if blob.unpacked]
    if not sizes:
        return []
    return [f"{len(sizes)} compressed archives, unpacked into a temporary file of {sum(sizes)} bytes"]
