"""Zips of folders: one `.zip`, or a folder of them, with a folder per identity inside.

DigiFace-1M and many re-uploads are published so. Read in place, nothing is extracted to the disk; nobody needs to
write it.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np

from v2f_engine.data.formats.account import Tally
from v2f_engine.data.formats.dataset import Dataset
from v2f_engine.data.formats.folders.archives import ZIPS, archives_at, refuse_shared
from v2f_engine.data.formats.folders.container_files import Names
from v2f_engine.data.formats.folders.folder_dataset import FolderDataset
from v2f_engine.data.formats.folders.people import people_of
from v2f_engine.data.formats.protocol import Readable
from v2f_engine.data.gate.member_names import clean
from v2f_engine.data.gate.open_files import OpenFiles
from v2f_engine.data.gate.pictures import is_picture
from v2f_engine.errors import DatasetError

MAX_MEMBER = 64 << 20
"""Bytes of one image, folded or unfolded."""
LOCAL_HEADER = 30
_UTF8 = 0x800
"""Flag of a member: its name is UTF-8."""
_UNIX = 3
"""System that made a member: its upper attributes are a Unix mode."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Zip(FolderDataset):
    """Reads images out of zips by position; labels are the ranks of the sorted folder names, over all zips.

    Several zips are parts of one set: a person's folder may go on in the next, a file of one name may not.

    Args:
        path: a `.zip`, or a folder that holds some.
        split: which of several sets in them.

    Raises:
        DatasetError: no zip, a damaged or encrypted one, one without an image in a folder, and as in `people_of`.
    """

    def __init__(self, path: Path, split: str | None = None) -> None:
        super().__init__(path, "zip", split)
        self._files = OpenFiles()
        archives, remarks, inside = archives_at(path, ZIPS).chosen(split)
        tally = Tally("members", remarks=remarks)
        found = [
            (place, name, member)
            for place, archive in enumerate(archives)
            for name, member in _members(archive, tally)
        ]

        def head(row: int) -> bytes:
            return self._read(archives[found[row][0]], found[row][2])

        people = people_of(Names(path, [name for _, name, _ in found], head, whole_paths=True), tally, inside)
        kept = [found[row] for row in people.rows.tolist()]
        for row in sorted(set(range(len(found))) - set(people.rows.tolist())):
            place, _, member = found[row]  # names of pictures are compared when they are read
            self._skip(archives[place], member)
        self._entries = [(archives[place], member) for place, _, member in kept]
        _refuse_unreadable(path, self._entries)
        places = np.array([place for place, *_ in kept], np.int64)
        refuse_shared(path, archives, places, people.labels, people.class_names)
        self.found(people)

    def where(self, index: int) -> str:
        archive, member = self._entries[index]
        return f"{archive}: {member.filename}"

    def data(self, index: int) -> bytes:
        return self._read(*self._entries[index])

    def _read(self, archive: Path, member: zipfile.ZipInfo) -> bytes:
        where = f"{archive}: {member.filename}"
        if max(member.file_size, member.compress_size) > MAX_MEMBER:
            raise DatasetError(f"{where}: {member.file_size} bytes; expected at most {MAX_MEMBER}.")
        skip = self._skip(archive, member)
        packed = self._files.read(archive, member.header_offset + skip, member.compress_size)
        data = packed if member.compress_type == zipfile.ZIP_STORED else _unfold(where, member, packed)
        if len(data) != member.file_size or zlib.crc32(data) != member.CRC:
            raise DatasetError(f"{where}: its checksum does not fit: the zip is damaged.")
        return data

    def _skip(self, archive: Path, member: zipfile.ZipInfo) -> int:
        """Bytes of a file's own header, which has to give the name that the directory gives, as `zipfile` asks."""
        name = member.orig_filename.encode("utf-8" if member.flag_bits & _UTF8 else "cp437")
        head = self._files.read(archive, member.header_offset, LOCAL_HEADER + len(name))
        if head[:4] != b"PK\x03\x04":
            raise DatasetError(
                f"{archive}: {member.filename}: no file header where the directory points; damaged."
            )
        length = int.from_bytes(head[26:28], "little")
        if length != len(name) or head[LOCAL_HEADER:] != name:
            raise DatasetError(
                f"{archive}: the directory calls a file {member.filename!r}, its own header says "
                f"{head[LOCAL_HEADER:].decode('utf-8', 'replace')!r}: the zip is damaged."
            )
        return LOCAL_HEADER + length + int.from_bytes(head[28:30], "little")


def _unfold(where: str, member: zipfile.ZipInfo, packed: bytes) -> bytes:
    if member.compress_type != zipfile.ZIP_DEFLATED:
        raise DatasetError(f"{where}: compression {member.compress_type}; expected stored or deflated.")
    try:
        return zlib.decompressobj(-15).decompress(packed, member.file_size + 1)
    except zlib.error as error:
        raise DatasetError(f"{where}: damaged ({error}).") from error


def _members(archive: Path, tally: Tally) -> list[tuple[str, zipfile.ZipInfo]]:
    """(name, entry) of the files in a zip, with `/` between parts; folders and links are set aside."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members, stated = opened.infolist(), _stated(archive, len(opened.comment))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as error:
        raise DatasetError(f"{archive}: not a zip that can be read ({error}).") from error
    if stated is not None and (len(members) - stated) % (1 << 16):  # Java once wrote the count modulo 65,536
        raise DatasetError(
            f"{archive}: its directory states {stated} members, {len(members)} can be read: the zip is damaged."
        )
    found = []
    for member in members:
        text = _text(member)
        name = clean(text, str(archive))
        if text.endswith("/") or not name:
            tally.aside("folders", name or "/")
        elif member.create_system == _UNIX and stat.S_ISLNK(member.external_attr >> 16):
            if is_picture(name):
                raise DatasetError(
                    f"{archive}: {name!r} is a link, not a picture. Pack the set again with links followed "
                    "(zip without -y)."
                )
            tally.aside("links", name)
        else:
            found.append((name, member))
    return found


def _stated(archive: Path, comment: int) -> int | None:
    """How many members the end of the directory counts, which `zipfile` does not ask; None where it does not say."""
    with open(archive, "rb") as file:
        file.seek(-min(archive.stat().st_size, 98 + comment), os.SEEK_END)
        tail = file.read()
    end = len(tail) - 22 - comment
    count = int.from_bytes(tail[end + 10 : end + 12], "little")
    if count != (1 << 16) - 1:
        return count
    record = tail[end - 76 : end - 20]  # zip64's, before its locator
    return int.from_bytes(record[32:40], "little") if record[:4] == b"PK\6\6" else None


def _text(member: zipfile.ZipInfo) -> str:
    """A member's name: UTF-8 where its bytes are, whether the flag says so or not; `/` for Windows' backslash.

    `zipfile` takes bytes without the flag for code page 437, in which every byte is a letter, so nothing is lost; macOS
    and Info-ZIP leave the flag out and write UTF-8. A name without any `/` is one of .NET before 4.6.1.
    """
    name = member.filename
    if not member.flag_bits & _UTF8:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name if "/" in name else name.replace("\\", "/")


def _refuse_unreadable(path: Path, entries: list[tuple[Path, zipfile.ZipInfo]]) -> None:
    """Raises where pictures are encrypted or compressed in a way that is not read."""
    locked = [f"{archive.name}: {member.filename}" for archive, member in entries if member.flag_bits & 1]
    if locked:
        raise DatasetError(
            f"{path}: {len(locked)} of {len(entries)} pictures are encrypted, such as {locked[0]}. Unpack it with its "
            "password."
        )
    others = [
        f"{member.filename} ({member.compress_type})"
        for _, member in entries
        if member.compress_type not in _METHODS
    ]
    if others:
        raise DatasetError(
            f"{path}: {len(others)} of {len(entries)} pictures are compressed by other methods than 0 (stored) and 8 "
            f"(deflated), such as {others[0]}. Unpack it, or pack it again."
        )


class ZipFormat(Readable):
    name = "zip"

    def recognises(self, path: Path) -> bool:
        """A `.zip`, or a folder with some."""
        return bool(archives_at(path, ZIPS).files)

    def open(self, path: Path, split: str | None = None) -> Dataset:
        return Zip(path, split)


FORMAT = ZipFormat()
