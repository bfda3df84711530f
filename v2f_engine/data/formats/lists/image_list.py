"""Text lists of images: a file of paths and labels, or of paths whose folder is the identity.

IDnet, FaceX-Zoo and SOTA-FR publish their sets so; nobody needs to write it. What lines look like: `table`.
"""

from __future__ import annotations

import os
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.formats.account import EXAMPLES, Account
from v2f_engine.data.formats.dataset import Dataset
from v2f_engine.data.formats.lists.lines import names_picture
from v2f_engine.data.formats.lists.table import read_list
from v2f_engine.data.formats.protocol import Readable
from v2f_engine.errors import DatasetError

SUFFIXES = (".txt", ".lst", ".csv", ".tsv", ".json", ".jsonl")
FOLDERS = 20
"""Folders beside a list in which its paths may begin; where there are more, they are people's."""
START = 1 << 16
"""Bytes of a file in which a list names its first picture."""


class ImageList(Dataset):
    """Reads the images that a text file names.

    Paths are absolute, or relative to the file's folder, to the folder above it, or to one folder beside it: the first
    of them in which the first picture lies.

    Raises:
        DatasetError: as in `read_list`.
    """

    def __init__(self, path: Path, split: str | None = None) -> None:
        super().__init__(path, "list", split)
        self.table = read_list(path, split=split)
        self._root = root_of(path, self.table.names[0])

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.table.labels

    @property
    def class_names(self) -> list[str] | None:
        """Name of each label: as written, or its folder; None where the file states numbers."""
        return self.table.class_names

    @cached_property
    def _account(self) -> Account:
        books = self.table.books
        missing = _missing([self._root / name for name in self.table.names])
        if missing:
            lines = [f"line {self.table.lines[row]}, {self.table.names[row]}" for row in missing[:EXAMPLES]]
            raise DatasetError(
                f"{self.path}: {len(missing)} of {len(self.table.names)} pictures do not exist: {'; '.join(lines)}. "
                "Paths are "
                f"relative to {self._root}. Nothing was read, since pictures would be missing."
            )
        account = books.close(len(np.unique(self.labels)))
        if self._root != self.path.parent:
            account = account.remarked(f"paths begin in {self._root}")
        return account.check(self.path)

    def account(self) -> Account:
        return self._account

    def where(self, index: int) -> str:
        return str(self._root / self.table.names[index])

    def data(self, index: int) -> bytes:
        path = self._root / self.table.names[index]
        try:
            return path.read_bytes()
        except OSError as error:
            raise DatasetError(
                f"{self.path}: image {index}: {path} cannot be read: {error.strerror}. Paths are relative to "
                f"{self._root}."
            ) from error


def root_of(path: Path, first: str) -> Path:
    """The folder in which a list's paths begin: the first in which its first picture lies, else its own."""
    if (path.parent / first).is_file() or (path.parent.parent / first).is_file():
        return path.parent if (path.parent / first).is_file() else path.parent.parent
    with os.scandir(path.parent) as entries:
        beside = [entry.path for entry in islice(entries, 4 * FOLDERS) if entry.is_dir()]
    found = [Path(folder) for folder in sorted(beside) if (Path(folder) / first).is_file()]
    if len(beside) > FOLDERS or not found:
        return path.parent
    if len(found) > 1:
        names = ", ".join(folder.name for folder in found)
        raise DatasetError(
            f"{path}: {first} lies in {len(found)} folders: {names}. Put the list into the right one."
        )
    return found[0]


def _missing(paths: list[Path]) -> list[int]:
    """Places of the paths that do not exist; each folder is listed once, since a look at a file is a round trip."""
    known: dict[str, frozenset[str]] = {}
    absent = []
    for place, path in enumerate(paths):
        folder, _, name = str(path).rpartition("/")
        if folder not in known:
            try:
                known[folder] = frozenset(os.listdir(folder or "/"))
            except OSError:
                known[folder] = frozenset()
        if name not in known[folder]:
            absent.append(place)
    return absent


class ListFormat(Readable):
    name = "list"

    def recognises(self, path: Path) -> bool:
        """A text that names a picture in its beginning."""
        if not path.is_file() or path.suffix.lower() not in SUFFIXES:
            return False
        with open(path, "rb") as file:
            start = file.read(START)
        if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
            start = start.replace(b"\0", b"")
        words = start.decode("utf-8", "replace").replace('"', " ").replace(",", " ").replace(";", " ").split()
        return any(names_picture(word) for word in words)

    def open(self, path: Path, split: str | None = None) -> Dataset:
        return ImageList(path, split)


FORMAT = ListFormat()
