"""Pieces: what a shard is made of on disk, each with its size and sha256, and how to check one.

Three kinds: a whole file; a region of a file (LMDB and RecordIO keep every shard in one file); a set of
folders (`images/000000 ...`), whose hash covers names, sizes and bytes in sorted order.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from v2f_engine.atomic import Region, Written, write_file
from v2f_engine.data.gate.strict_json import fields
from v2f_engine.data.layout import ATTRIBUTES
from v2f_engine.errors import DatasetError

READ_BLOCK = 1 << 20


@dataclass(frozen=True)
class Piece:
    """One piece of a dataset.

    Args:
        kind: `"file"`, `"region"` or `"folders"`.
        name: path inside the dataset, with `/`.
        bytes: size in bytes (for folders: the sum over their files).
        sha256: of the bytes (for folders: of `folder_header` and bytes of each file in order).
        offset: where a region starts.
        folders: names of the folders inside `name`.
    """

    kind: str
    name: str
    bytes: int
    sha256: str
    offset: int = 0
    folders: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        record = {"kind": self.kind, "name": self.name, "bytes": self.bytes, "sha256": self.sha256}
        if self.kind == "region":
            record["offset"] = self.offset
        return {**record, "folders": list(self.folders)} if self.kind == "folders" else record

    @classmethod
    def from_json(cls, value: Any, where: str) -> Piece:
        """Strict: a piece can never point outside its dataset.

        Raises:
            DatasetError: unknown kind, wrong keys, a hash that is none, a path that leaves the folder.
        """
        kind = value.get("kind") if isinstance(value, dict) else None
        extra: Mapping[str, dict[str, type]] = {
            "file": {},
            "region": {"offset": int},
            "folders": {"folders": list},
        }
        if not isinstance(kind, str) or kind not in extra:
            raise DatasetError(f"{where}.kind: expected one of {sorted(extra)}, found {kind!r}.")
        record = fields(value, {"kind": str, "name": str, "bytes": int, "sha256": str, **extra[kind]}, where)
        check_name(record["name"], f"{where}.name")
        if not is_sha256(record["sha256"]):
            raise DatasetError(
                f"{where}.sha256: expected 64 hexadecimal digits, found {record['sha256']!r:.80}."
            )
        folders = record.get("folders", [])
        for folder in folders:
            if not isinstance(folder, str) or "/" in folder:
                raise DatasetError(f"{where}.folders: expected folder names, found {folder!r:.80}.")
            check_name(folder, f"{where}.folders")
        return cls(
            kind, record["name"], record["bytes"], record["sha256"], record.get("offset", 0), tuple(folders)
        )


def file_piece(name: str, written: Written) -> Piece:
    """The piece that is the whole file `name`."""
    return Piece("file", name, written.bytes, written.sha256)


def region_piece(name: str, region: Region) -> Piece:
    """The piece that is `region` of the file `name`."""
    return Piece("region", name, region.bytes, region.sha256, region.offset)


def write_piece(root: Path, name: str, data: bytes, writer: str) -> Piece:
    """Writes a small file of a dataset, whole or not at all."""
    return file_piece(name, write_file(root / name, data, writer))


def is_attribute(piece: Piece) -> bool:
    """Whether it is a sidecar of attributes; everything else in a shard holds its images."""
    return piece.name.startswith(f"{ATTRIBUTES}/")


def attribute_pieces(pieces: Iterable[Piece]) -> tuple[Piece, ...]:
    """The sidecars among a shard's pieces."""
    return tuple(piece for piece in pieces if is_attribute(piece))


def image_pieces(pieces: Iterable[Piece]) -> tuple[Piece, ...]:
    """The pieces of a shard that hold its images."""
    return tuple(piece for piece in pieces if not is_attribute(piece))


def is_sha256(text: str) -> bool:
    return len(text) == 64 and not set(text) - set("0123456789abcdef")


def check_name(name: str, where: str) -> None:
    """A relative path without `..`, empty parts, backslashes or NUL."""
    parts = name.split("/")
    if PurePosixPath(name).is_absolute() or set(name) & {"\\", "\0"} or {"", ".", ".."} & set(parts):
        raise DatasetError(f"{where}: expected a path inside the dataset, found {name!r:.80}.")


def folder_header(name: str, size: int) -> bytes:
    """What precedes a file's bytes in the hash of a folders piece."""
    return name.encode() + b"\0" + size.to_bytes(8, "little")


def blocks(path: Path, offset: int, size: int) -> Iterator[bytes]:
    """The bytes [offset, offset + size) of a file, by plain reads: a file cut meanwhile never kills us."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a named pipe is an error, not a wait
    try:
        while size:
            block = os.pread(descriptor, min(READ_BLOCK, size), offset)
            if not block:
                return
            yield block
            offset += len(block)
            size -= len(block)
    finally:
        os.close(descriptor)


def _digest(path: Path, offset: int, size: int) -> str:
    running = hashlib.sha256()
    for block in blocks(path, offset, size):
        running.update(block)
    return running.hexdigest()


def _check_bytes(path: Path, piece: Piece, found: int, full: bool) -> str | None:
    if not path.is_file():
        return f"{piece.name}: missing"
    if found != piece.bytes:
        return f"{piece.name}: expected {piece.bytes} bytes, found {found}"
    if full and _digest(path, piece.offset, piece.bytes) != piece.sha256:
        return f"{piece.name}: sha256 differs"
    return None


def _check_file(root: Path, piece: Piece, full: bool) -> str | None:
    path = root / piece.name
    return _check_bytes(path, piece, path.stat().st_size if path.is_file() else 0, full)


def _check_region(root: Path, piece: Piece, full: bool) -> str | None:
    path = root / piece.name
    available = max(0, path.stat().st_size - piece.offset) if path.is_file() else 0
    return _check_bytes(path, piece, min(available, piece.bytes), full)


def _check_folders(root: Path, piece: Piece, full: bool) -> str | None:
    running = hashlib.sha256()
    total = 0
    for folder in piece.folders:
        path = root / piece.name / folder
        if not path.is_dir():
            return f"{piece.name}/{folder}: missing"
        with os.scandir(path) as entries:
            listing = sorted((entry.name, entry.stat(follow_symlinks=False).st_size) for entry in entries)
        for name, size in listing:
            total += size
            if full:
                running.update(folder_header(f"{folder}/{name}", size))
                for block in blocks(path / name, 0, size):
                    running.update(block)
    where = f"{piece.name}/{piece.folders[0]}..{piece.folders[-1]}" if piece.folders else piece.name
    if total != piece.bytes:
        return f"{where}: expected {piece.bytes} bytes, found {total}"
    if full and running.hexdigest() != piece.sha256:
        return f"{where}: sha256 differs"
    return None


_CHECKS: Mapping[str, Callable[[Path, Piece, bool], str | None]] = {
    "file": _check_file,
    "region": _check_region,
    "folders": _check_folders,
}


def check_piece(root: Path, piece: Piece, *, full: bool) -> str | None:
    """None when the piece is as recorded; otherwise what is wrong with it.

    Args:
        full: also read the bytes and compare their sha256; otherwise existence and size only.
    """
    try:
        return _CHECKS[piece.kind](root, piece, full)
    except OSError as error:
        return f"{piece.name}: cannot be read: {error.strerror}"


def are_there(root: Path, pieces: Iterable[Piece], *, full: bool) -> bool:
    """Whether all are there with the recorded size and, if `full`, sha256."""
    return all(check_piece(root, piece, full=full) is None for piece in pieces)
