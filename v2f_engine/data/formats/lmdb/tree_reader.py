"""Reads LMDB files whatever is in them (layout: `lmdb_layout`)."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from v2f_engine.data.formats.lmdb.layout import (
    BIGDATA,
    BRANCH,
    HEADER,
    LEAF,
    MAGIC,
    META_END,
    META_SIZE,
    META_START,
    NODE,
    OVERFLOW_HEADER,
    PAGE,
    TREE,
    VERSION,
)
from v2f_engine.data.gate.open_files import OpenFiles
from v2f_engine.data.gate.pictures import is_hidden
from v2f_engine.errors import DatasetError

FOLDERS = 20
"""Folders in a folder up to which they are looked into for `data.mdb`."""


class Extent(NamedTuple):
    """Where a value lies in the file."""

    offset: int
    size: int


class TreeReader:
    """Reads an LMDB file whatever is in it.

    Args:
        path: the data file itself (`x.lmdb`, or `data.mdb` of a folder).

    Raises:
        DatasetError: not an LMDB file of version 1, or shorter than its own last page says.
    """

    def __init__(self, path: Path, split: str | None = None) -> None:
        self.path = path
        self._files = OpenFiles()
        first = self._files.read(path, 0, min(PAGE, path.stat().st_size))
        self.page_size = self._page_size(first)
        second = self._files.read(path, self.page_size, HEADER.size + META_SIZE)
        metas = [self._meta(first), self._meta(second)]
        self.last_page, _, (_, _, depth, _, _, _, self.entries, self._root) = max(
            metas, key=lambda meta: meta[1]
        )
        self._depth: int = depth
        self.size = path.stat().st_size
        if self.size < (self.last_page + 1) * self.page_size:
            raise DatasetError(
                f"{path}: {self.size} bytes; its meta page speaks of "
                f"{(self.last_page + 1) * self.page_size}. The file was cut; copy it again."
            )
        if self._depth > 32:
            raise DatasetError(f"{path}: a tree of depth {self._depth}; the file is damaged.")
        self._page = lru_cache(maxsize=4096)(self._read_page)

    def _page_size(self, page: bytes) -> int:
        if len(page) < HEADER.size + META_SIZE:
            raise DatasetError(f"{self.path}: {len(page)} bytes; expected an LMDB file.")
        magic, version, _, _ = META_START.unpack_from(page, HEADER.size)
        if magic != MAGIC or version != VERSION:
            raise DatasetError(
                f"{self.path}: expected an LMDB file (magic {MAGIC:#x}, version {VERSION}), "
                f"found {magic:#x}, {version}."
            )
        size = int.from_bytes(page[HEADER.size + META_START.size :][:4], "little")
        if size not in (1 << power for power in range(8, 17)):
            raise DatasetError(f"{self.path}: pages of {size} bytes; the file is damaged.")
        return size

    def _meta(self, page: bytes) -> tuple[int, int, tuple[int, ...]]:
        """(last page, transaction, main tree) of a meta page."""
        magic, version, _, _ = META_START.unpack_from(page, HEADER.size)
        if magic != MAGIC or version != VERSION:
            raise DatasetError(f"{self.path}: a damaged meta page.")
        last, transaction = META_END.unpack_from(page, HEADER.size + META_START.size + 2 * TREE.size)
        return last, transaction, TREE.unpack_from(page, HEADER.size + META_START.size + TREE.size)

    def _read_page(self, number: int) -> tuple[bytes, int, int]:
        """(bytes, flags, number of keys) of a leaf or branch page."""
        if number > self.last_page:
            raise DatasetError(f"{self.path}: page {number} of {self.last_page}; the file is damaged.")
        page = self._files.read(self.path, number * self.page_size, self.page_size)
        stated, _, flags, lower, upper = HEADER.unpack_from(page)
        # 0x10 and above mark pages of an unfinished transaction; they never count on disk
        if stated != number or flags not in (LEAF, BRANCH) or not HEADER.size <= lower <= upper <= len(page):
            raise DatasetError(f"{self.path}: page {number} is not a tree page; the file is damaged.")
        return page, flags, (lower - HEADER.size) // 2

    def _node(self, number: int, page: bytes, index: int) -> tuple[int, bytes]:
        """(offset within the page, key) of a node."""
        offset = int.from_bytes(page[HEADER.size + 2 * index :][:2], "little")
        if not HEADER.size <= offset <= len(page) - NODE.size:
            raise DatasetError(f"{self.path}: page {number}: node {index} lies outside; the file is damaged.")
        size = int.from_bytes(page[offset + 6 : offset + 8], "little")
        key = page[offset + NODE.size : offset + NODE.size + size]
        if len(key) != size:
            raise DatasetError(f"{self.path}: page {number}: key {index} lies outside; the file is damaged.")
        return offset, key

    def _extent(self, number: int, page: bytes, offset: int, key: bytes) -> Extent:
        low, high, flags, _ = NODE.unpack_from(page, offset)
        size = low | high << 16
        start = offset + NODE.size + len(key)
        if flags not in (0, BIGDATA):
            raise DatasetError(
                f"{self.path}: key {key!r:.40} has sub-databases or duplicates; expected plain values."
            )
        if flags == 0:
            extent = Extent(number * self.page_size + start, size)
        else:
            where = int.from_bytes(page[start : start + 8], "little")
            extent = Extent(where * self.page_size + OVERFLOW_HEADER.size, size)
        if extent.offset + size > (self.last_page + 1) * self.page_size:
            raise DatasetError(f"{self.path}: the value of {key!r:.40} lies outside; the file is damaged.")
        return extent

    def find(self, key: bytes) -> Extent | None:
        """Where the value of `key` lies; None when there is no such key."""
        number = self._root
        for _ in range(self._depth):
            page, flags, count = self._page(number)
            low, high = (
                (0, count) if flags == LEAF else (1, count)
            )  # a branch's first key stands for -infinity
            while low < high:
                middle = (low + high) // 2
                if self._node(number, page, middle)[1] <= key:
                    low = middle + 1
                else:
                    high = middle
            if low == 0:
                return None
            offset, found = self._node(number, page, low - 1)
            if flags == LEAF:
                return self._extent(number, page, offset, found) if found == key else None
            number = int.from_bytes(page[offset : offset + 6], "little")
        return None

    def get(self, key: bytes, limit: int = 1 << 31) -> bytes | None:
        """The value of `key`; None when there is none.

        Raises:
            DatasetError: damage, or a value above `limit` bytes.
        """
        extent = self.find(key)
        if extent is None:
            return None
        if extent.size > limit:
            raise DatasetError(
                f"{self.path}: the value of {key!r:.40} has {extent.size} bytes; limit {limit}."
            )
        return self._files.read(self.path, *extent)

    def read_part(self, extent: Extent, offset: int, size: int) -> bytes:
        """`size` bytes at `offset` of a value; both must lie within it."""
        return self._files.read(self.path, extent.offset + offset, size)

    def items(self) -> Iterator[tuple[bytes, Extent]]:
        """All (key, extent), sorted by key."""
        visits = 0
        stack = [(self._root, 1)] if self.entries else []
        while stack:
            number, depth = stack.pop()
            visits += 1
            if visits > self.last_page + 1 or depth > self._depth:
                raise DatasetError(f"{self.path}: the tree runs in circles; the file is damaged.")
            page, flags, count = self._page(number)
            nodes = [self._node(number, page, index) for index in range(count)]
            if flags == LEAF:
                yield from ((key, self._extent(number, page, offset, key)) for offset, key in nodes)
            else:
                children = [int.from_bytes(page[offset : offset + 6], "little") for offset, _ in nodes]
                stack += [(child, depth + 1) for child in reversed(children)]


def is_lmdb(path: Path) -> bool:
    """Whether the file starts as an LMDB data file does."""
    try:
        with open(path, "rb") as file:
            start = file.read(HEADER.size + 4)
    except OSError:
        return False
    return start[HEADER.size :] == struct.pack("<I", MAGIC)


def data_files(path: Path) -> dict[str, Path]:
    """Name -> data file of the LMDBs at `path`: a file, a folder with `data.mdb`, or a folder of either kind.

    Empty files, which an environment leaves that was opened under a wrong name, do not count.
    """
    if not path.is_dir():
        return {path.stem: path}
    if (path / "data.mdb").is_file():
        inside = {"": path / "data.mdb"}
    else:
        inside = {folder.parent.name.removesuffix(".lmdb"): folder for folder in _inside(path)}
    inside |= {file.stem: file for file in sorted(path.glob("*.lmdb")) if file.is_file()}
    return {name: file for name, file in inside.items() if os.path.getsize(file) and not is_hidden(file.name)}


def _inside(path: Path) -> list[Path]:
    """The `data.mdb` of the folders in a folder; a folder of many people is not searched."""
    with os.scandir(path) as entries:
        folders = [entry.name for entry in islice(entries, 4 * FOLDERS) if entry.is_dir()]
    few = folders if len(folders) <= FOLDERS else [name for name in folders if name.endswith(".lmdb")]
    return [path / name / "data.mdb" for name in sorted(few) if (path / name / "data.mdb").is_file()]
