"""Zips of folders: one `.zip`, or a folder of them, with a folder per identity inside.

DigiFace-1M and many re-uploads are published so. Read in place, nothing is extracted to the disk; nobody needs to
write it.
"""

from __future__ import annotations

import zipfile
import zlib
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.formats.dataset import Dataset
from v2f_engine.data.formats.protocol import Readable
from v2f_engine.data.gate.open_files import OpenFiles
from v2f_engine.data.gate.pictures import IMAGE_SUFFIXES
from v2f_engine.errors import DatasetError

MAX_MEMBER = 64 << 20
"""Bytes of one image, folded or unfolded."""
LOCAL_HEADER = 30


class Zip(Dataset):
    """Reads images out of zips by position; labels are the ranks of the sorted folder names, over all zips.

    Args:
        path: a `.zip`, or a folder that holds some.

    Raises:
        DatasetError: no zip, a damaged one, or one without an image in a folder.
    """

    def __init__(self, path: Path, split: str | None = None) -> None:
        super().__init__(path, "zip", split)
        self._files = OpenFiles()
        found: list[tuple[str, str, Path, zipfile.ZipInfo]] = []
        for archive in archives(path):
            try:
                with zipfile.ZipFile(archive) as opened:
                    members = opened.infolist()
            except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
                raise DatasetError(f"{archive}: not a zip that can be read ({error}).") from error
            for member in members:
                name = PurePosixPath(member.filename)
                hidden = any(part.startswith((".", "__MACOSX")) for part in name.parts)
                if name.suffix.lower() in IMAGE_SUFFIXES and not member.is_dir() and not hidden:
                    found.append((str(name.parent), name.name, archive, member))
        if not found:
            raise DatasetError(f"{path}: no image; expected folders such as 0/ holding 0.png and so on.")
        found.sort(key=lambda entry: entry[:2])
        self._entries = [(archive, member) for _, _, archive, member in found]
        self._classes, labels = np.unique([folder for folder, *_ in found], return_inverse=True)
        self._labels = labels.astype(np.int64)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        return self._labels

    @property
    def class_names(self) -> list[str]:
        """Folder of each label."""
        return [str(name) for name in self._classes]

    def where(self, index: int) -> str:
        archive, member = self._entries[index]
        return f"{archive}: {member.filename}"

    def data(self, index: int) -> bytes:
        archive, member = self._entries[index]
        if member.flag_bits & 1:
            raise DatasetError(f"{self.where(index)}: encrypted; unpack it with its password.")
        if max(member.file_size, member.compress_size) > MAX_MEMBER:
            raise DatasetError(
                f"{self.where(index)}: {member.file_size} bytes; expected at most {MAX_MEMBER}."
            )
        head = self._files.read(archive, member.header_offset, LOCAL_HEADER)
        if head[:4] != b"PK\x03\x04":
            raise DatasetError(f"{self.where(index)}: no file header where the directory points; damaged.")
        skip = int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
        packed = self._files.read(archive, member.header_offset + LOCAL_HEADER + skip, member.compress_size)
        data = packed if member.compress_type == zipfile.ZIP_STORED else self._unfold(index, member, packed)
        if len(data) != member.file_size or zlib.crc32(data) != member.CRC:
            raise DatasetError(f"{self.where(index)}: its checksum does not fit: the zip is damaged.")
        return data

    def _unfold(self, index: int, member: zipfile.ZipInfo, packed: bytes) -> bytes:
        if member.compress_type != zipfile.ZIP_DEFLATED:
            raise DatasetError(
                f"{self.where(index)}: compression {member.compress_type}; expected stored or deflated."
            )
        try:
            return zlib.decompressobj(-15).decompress(packed, member.file_size + 1)
        except zlib.error as error:
            raise DatasetError(f"{self.where(index)}: damaged ({error}).") from error


def archives(path: Path) -> list[Path]:
    """The zips at `path`: itself, or those a folder holds, by name."""
    return [path] if path.is_file() else sorted(path.glob("*.zip"))


class ZipFormat(Readable):
    name = "zip"

    def recognises(self, path: Path) -> bool:
        """A `.zip`, or a folder with some."""
        return path.suffix.lower() == ".zip" if path.is_file() else bool(archives(path))

    def open(self, path: Path, split: str | None = None) -> Dataset:
        return Zip(path, split)


FORMAT = ZipFormat()
