"""Text lists of images: a file of `path label`, or of paths whose folder is the identity.

IDnet, FaceX-Zoo and SOTA-FR publish their sets so; nobody needs to write it.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.formats.dataset import Dataset
from v2f_engine.data.formats.protocol import Readable
from v2f_engine.data.gate.pictures import IMAGE_SUFFIXES
from v2f_engine.errors import DatasetError

MAX_LIST_LINE = 4096


class ImageList(Dataset):
    """Reads the images that a text file names: a `path label` or a `path` per line.

    Paths are relative to the file's folder, or absolute. Without labels the folder that holds an image is its
    identity, and labels are the ranks of the sorted folders.

    Raises:
        DatasetError: no line, lines with and without label, or a label that is no whole number from 0.
    """

    def __init__(self, path: Path, split: str | None = None) -> None:
        super().__init__(path, "list", split)
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


class ListFormat(Readable):
    name = "list"

    def recognises(self, path: Path) -> bool:
        """A `.txt` or `.lst` whose first line names an image."""
        if not path.is_file() or path.suffix.lower() not in (".txt", ".lst"):
            return False
        with open(path, encoding="utf-8", errors="replace") as file:
            first = next((line for line in file if line.strip()), "")
        return Path(split_line(first)[0]).suffix.lower() in IMAGE_SUFFIXES

    def open(self, path: Path, split: str | None = None) -> Dataset:
        return ImageList(path, split)


FORMAT = ListFormat()
