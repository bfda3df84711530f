"""Layouts that training sets are published in and that nobody needs to write: zips of folders, and text lists.

zip    one `.zip`, or a folder of them, with a folder per identity inside (DigiFace-1M and many re-uploads);
       read in place, nothing is extracted to the disk
list   a text file of `path label`, or of paths whose folder is the identity (IDnet, FaceX-Zoo, SOTA-FR)
"""

from __future__ import annotations

import zipfile
import zlib
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.dataset import Dataset, OpenFiles
from v2f_engine.errors import DatasetError

EXTENSIONS = {".jpg", ".jpeg", ".png"}
MAX_MEMBER = 64 << 20
"""Bytes of one image, folded or unfolded."""
LOCAL_HEADER = 30
MAX_LIST_LINE = 4096


class Zip(Dataset):
    """Reads images out of zips by position; labels are the ranks of the sorted folder names, over all zips.

    Args:
        path: a `.zip`, or a folder that holds some.

    Raises:
        DatasetError: no zip, a damaged one, or one without an image in a folder.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "zip")
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
                if name.suffix.lower() in EXTENSIONS and not member.is_dir() and not hidden:
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


def is_zip(path: Path) -> bool:
    """A `.zip`, or a folder with some and without folders of its own."""
    if path.is_file():
        return path.suffix.lower() == ".zip"
    return bool(archives(path))


class ImageList(Dataset):
    """Reads the images that a text file names: a `path label` or a `path` per line.

    Paths are relative to the file's folder, or absolute. Without labels the folder that holds an image is its
    identity, and labels are the ranks of the sorted folders.

    Raises:
        DatasetError: no line, lines with and without label, or a label that is no whole number from 0.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "list")
        paths: list[str] = []
        numbers: list[int | None] = []
        try:
            text = path.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise DatasetError(f"{path}: cannot be read: {error.strerror}.") from error
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                continue
            if len(line) > MAX_LIST_LINE:
                raise DatasetError(f"{path}: line {number}: {len(line)} characters; expected `path label`.")
            name, label = split_line(line)
            if bool(numbers) and (label is None) != (numbers[0] is None):
                raise DatasetError(
                    f"{path}: line {number}: {line.strip()[:60]!r}: with label or without, not both."
                )
            paths.append(name)
            numbers.append(label)
        if not paths:
            raise DatasetError(f"{path}: no line; expected a `path label` or a `path` on each.")
        self._paths = [path.parent / name for name in paths]
        self._names: list[str] | None = None
        if numbers[0] is None:
            folders, ranks = np.unique(
                [str(PurePosixPath(name).parent) for name in paths], return_inverse=True
            )
            self._names = [str(name) for name in folders]
            self._labels = ranks.astype(np.int64)
        else:
            self._labels = np.asarray(numbers, np.int64)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        return self._labels

    @property
    def class_names(self) -> list[str] | None:
        """Folder of each label; None where the file states labels."""
        return self._names

    def where(self, index: int) -> str:
        return str(self._paths[index])

    def data(self, index: int) -> bytes:
        try:
            return self._paths[index].read_bytes()
        except OSError as error:
            raise DatasetError(
                f"{self.path}: image {index}: {self._paths[index]} cannot be read: {error.strerror}. Paths are "
                f"relative to {self.path.parent}."
            ) from error


def split_line(line: str) -> tuple[str, int | None]:
    """(path, label or None) of a line; a path may hold blanks."""
    parts = line.strip().rsplit(None, 1)
    if len(parts) == 2 and parts[1].isdigit() and len(parts[1]) < 19:
        return parts[0], int(parts[1])
    return line.strip(), None


def is_list(path: Path) -> bool:
    """A `.txt` or `.lst` whose first line names an image."""
    if not path.is_file() or path.suffix.lower() not in (".txt", ".lst"):
        return False
    with open(path, encoding="utf-8", errors="replace") as file:
        first = next((line for line in file if line.strip()), "")
    return Path(split_line(first)[0]).suffix.lower() in EXTENSIONS


READ_ONLY = {"list": (is_list, ImageList), "zip": (is_zip, Zip)}
"""Name -> (looks like it, opens it); asked after the formats that we write."""
