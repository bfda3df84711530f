"""LMDB files (data version 1, as liblmdb 0.9 has it) by hand: a bulk writer and a reader that cannot crash.

Why not liblmdb. Reading: it maps the file and trusts it; 163 of 200 byte-flipped files killed the process by
signal. Here every page is a plain read with its bounds checked, and damage is a DatasetError. Writing: its
bytes depend on the machine's page size, on library version and on transaction history; here they depend on
the data alone, are written front to back, and each shard's values fill a contiguous run of pages with a hash
of its own.

File: pages of 4,096 bytes. Pages 0 and 1 are meta pages (the one with the larger transaction number counts).
Every value lies in overflow pages (16-byte header, then the bytes); leaf pages hold (key, size, page) sorted
by key, branch pages hold (first key, page). Layout: `struct MDB_page`, `MDB_meta`, `MDB_node` in liblmdb's
mdb.c.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from v2f_engine.data.dataset import OpenFiles
from v2f_engine.data.fs import DurableFile
from v2f_engine.errors import DatasetError

PAGE = 4096
MAGIC, VERSION = 0xBEEFC0DE, 1
BRANCH, LEAF, OVERFLOW, META = 0x01, 0x02, 0x04, 0x08
BIGDATA = 0x01
"""Node flag: the value lies in overflow pages, the node holds their number."""

_HEADER = struct.Struct("<QHHHH")  # page number, pad, flags, lower, upper
_OVERFLOW = struct.Struct("<QHHI")  # page number, pad, flags, number of pages
_NODE = struct.Struct(
    "<HHHH"
)  # leaf: size low, size high, flags, key size; branch: page number in the first three
_START = struct.Struct("<IIQQ")  # magic, version, fixed address, map size
_TREE = struct.Struct("<IHHQQQQQ")  # pad, flags, depth, branch, leaf and overflow pages, entries, root
_END = struct.Struct("<QQ")  # last page, transaction
_NO_PAGE = 2**64 - 1
_INTEGER_KEY, _NO_SUBDIR = 0x08, 0x4000
_ROOM = PAGE - _HEADER.size
_META_SIZE = _START.size + 2 * _TREE.size + _END.size


def value_pages(size: int) -> int:
    """Overflow pages of a value of `size` bytes."""
    return -(-(_OVERFLOW.size + size) // PAGE)


class TreeWriter:
    """Writes an LMDB file front to back: values in any order, then the tree over the sorted keys, the metas.

    Args:
        file: a fresh file; its region bookkeeping is the caller's.
    """

    def __init__(self, file: DurableFile) -> None:
        self._file = file
        self._file.write(bytes(2 * PAGE))
        self._next = 2
        self._overflow_pages = 0

    def value(self, value: bytes) -> int:
        """Writes a value; returns its page number."""
        return self.value_in_parts(len(value), (value,))

    def value_in_parts(self, size: int, parts: Iterable[bytes]) -> int:
        """Writes a value of `size` bytes that comes in parts."""
        page, pages = self._next, value_pages(size)
        self._file.write(_OVERFLOW.pack(page, 0, OVERFLOW, pages))
        for part in parts:
            self._file.write(part)
        self._file.write(bytes(pages * PAGE - _OVERFLOW.size - size))
        self._next += pages
        self._overflow_pages += pages
        return page

    def tree(self, entries: Iterable[tuple[bytes, int, int]]) -> bytes:
        """Writes leaf and branch pages over `entries` = (key, value's page, value's size), sorted by key.

        Returns:
            the two meta pages; they belong at offset 0.
        """
        count = 0

        def nodes() -> Iterator[tuple[bytes, bytes]]:
            nonlocal count
            for key, page, size in entries:
                count += 1
                node = (
                    _NODE.pack(size & 0xFFFF, size >> 16, BIGDATA, len(key))
                    + key
                    + page.to_bytes(8, "little")
                )
                yield key, node + bytes(len(node) & 1)

        level = self._level(LEAF, nodes())
        leaves, branches, depth = len(level), 0, 1
        while len(level) > 1:
            level = self._level(BRANCH, ((key, _branch_node(key, page)) for key, page in level))
            branches += len(level)
            depth += 1
        root = level[0][1] if level else _NO_PAGE
        empty = _TREE.pack(0, 0, 0, 0, 0, 0, 0, _NO_PAGE)
        main = _TREE.pack(0, 0, depth if level else 0, branches, leaves, self._overflow_pages, count, root)
        return self._meta(0, empty, 1) + self._meta(1, main, self._next - 1)

    def _level(self, flags: int, nodes: Iterator[tuple[bytes, bytes]]) -> list[tuple[bytes, int]]:
        """Packs nodes into pages; returns (first key, page number) of each page.

        One page is held back: a branch page of one child is not legal, so a lone last node gets company.
        """
        written: list[tuple[bytes, int]] = []
        held: list[tuple[bytes, bytes]] = []
        current: list[tuple[bytes, bytes]] = []
        used = 0
        for key, node in nodes:
            if flags == BRANCH and not current:
                node = _branch_node(b"", int.from_bytes(node[:6], "little"))
            if used + len(node) + 2 > _ROOM:
                if held:
                    written.append(self._page(flags, held))
                held, current, used = current, [], 0
                if flags == BRANCH:
                    node = _branch_node(b"", int.from_bytes(node[:6], "little"))
            current.append((key, node))
            used += len(node) + 2
        if flags == BRANCH and held and len(current) == 1:
            key, node = held.pop()
            alone_key, alone = current[0]
            full = _branch_node(alone_key, int.from_bytes(alone[:6], "little"))
            current = [(key, _branch_node(b"", int.from_bytes(node[:6], "little"))), (alone_key, full)]
        written += [self._page(flags, page) for page in (held, current) if page]
        return written

    def _page(self, flags: int, nodes: list[tuple[bytes, bytes]]) -> tuple[bytes, int]:
        offsets: list[int] = []
        upper = PAGE
        for _, node in nodes:
            upper -= len(node)
            offsets.append(upper)
        lower = _HEADER.size + 2 * len(nodes)
        page = self._next
        self._file.write(_HEADER.pack(page, 0, flags, lower, upper))
        self._file.write(struct.pack(f"<{len(offsets)}H", *offsets))
        self._file.write(bytes(upper - lower))
        self._file.write(b"".join(node for _, node in reversed(nodes)))
        self._next += 1
        return nodes[0][0], page

    def _meta(self, number: int, tree: bytes, last: int) -> bytes:
        """A meta page; its transaction number equals its page number, so that page 1 counts."""
        head = _HEADER.pack(number, 0, META, 0, 0) + _START.pack(MAGIC, VERSION, 0, self._next * PAGE)
        free = _TREE.pack(PAGE, _INTEGER_KEY | _NO_SUBDIR, 0, 0, 0, 0, 0, _NO_PAGE)
        return (head + free + tree + _END.pack(last, number)).ljust(PAGE, b"\0")


def _branch_node(key: bytes, page: int) -> bytes:
    node = page.to_bytes(6, "little") + len(key).to_bytes(2, "little") + key
    return node + bytes(len(node) & 1)


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

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = OpenFiles()
        first = self._files.read(path, 0, min(PAGE, path.stat().st_size))
        self.page_size = self._page_size(first)
        second = self._files.read(path, self.page_size, _HEADER.size + _META_SIZE)
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
        if len(page) < _HEADER.size + _META_SIZE:
            raise DatasetError(f"{self.path}: {len(page)} bytes; expected an LMDB file.")
        magic, version, _, _ = _START.unpack_from(page, _HEADER.size)
        if magic != MAGIC or version != VERSION:
            raise DatasetError(
                f"{self.path}: expected an LMDB file (magic {MAGIC:#x}, version {VERSION}), "
                f"found {magic:#x}, {version}."
            )
        size = int.from_bytes(page[_HEADER.size + _START.size :][:4], "little")
        if size not in (1 << power for power in range(8, 17)):
            raise DatasetError(f"{self.path}: pages of {size} bytes; the file is damaged.")
        return size

    def _meta(self, page: bytes) -> tuple[int, int, tuple[int, ...]]:
        """(last page, transaction, main tree) of a meta page."""
        magic, version, _, _ = _START.unpack_from(page, _HEADER.size)
        if magic != MAGIC or version != VERSION:
            raise DatasetError(f"{self.path}: a damaged meta page.")
        last, transaction = _END.unpack_from(page, _HEADER.size + _START.size + 2 * _TREE.size)
        return last, transaction, _TREE.unpack_from(page, _HEADER.size + _START.size + _TREE.size)

    def _read_page(self, number: int) -> tuple[bytes, int, int]:
        """(bytes, flags, number of keys) of a leaf or branch page."""
        if number > self.last_page:
            raise DatasetError(f"{self.path}: page {number} of {self.last_page}; the file is damaged.")
        page = self._files.read(self.path, number * self.page_size, self.page_size)
        stated, _, flags, lower, upper = _HEADER.unpack_from(page)
        # 0x10 and above mark pages of an unfinished transaction; they never count on disk
        if stated != number or flags not in (LEAF, BRANCH) or not _HEADER.size <= lower <= upper <= len(page):
            raise DatasetError(f"{self.path}: page {number} is not a tree page; the file is damaged.")
        return page, flags, (lower - _HEADER.size) // 2

    def _node(self, number: int, page: bytes, index: int) -> tuple[int, bytes]:
        """(offset within the page, key) of a node."""
        offset = int.from_bytes(page[_HEADER.size + 2 * index :][:2], "little")
        if not _HEADER.size <= offset <= len(page) - _NODE.size:
            raise DatasetError(f"{self.path}: page {number}: node {index} lies outside; the file is damaged.")
        size = int.from_bytes(page[offset + 6 : offset + 8], "little")
        key = page[offset + _NODE.size : offset + _NODE.size + size]
        if len(key) != size:
            raise DatasetError(f"{self.path}: page {number}: key {index} lies outside; the file is damaged.")
        return offset, key

    def _extent(self, number: int, page: bytes, offset: int, key: bytes) -> Extent:
        low, high, flags, _ = _NODE.unpack_from(page, offset)
        size = low | high << 16
        start = offset + _NODE.size + len(key)
        if flags not in (0, BIGDATA):
            raise DatasetError(
                f"{self.path}: key {key!r:.40} has sub-databases or duplicates; expected plain values."
            )
        if flags == 0:
            extent = Extent(number * self.page_size + start, size)
        else:
            where = int.from_bytes(page[start : start + 8], "little")
            extent = Extent(where * self.page_size + _OVERFLOW.size, size)
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
            start = file.read(_HEADER.size + 4)
    except OSError:
        return False
    return start[_HEADER.size :] == struct.pack("<I", MAGIC)


def data_file(path: Path) -> Path:
    """The data file of an LMDB given as a file, or as a folder with `data.mdb` or one `*.lmdb`."""
    if not path.is_dir():
        return path
    candidates = [path / "data.mdb", *sorted(path.glob("*.lmdb"))]
    found = [candidate for candidate in candidates if candidate.is_file() and os.path.getsize(candidate)]
    if len(found) != 1:
        names = [candidate.name for candidate in found]
        raise DatasetError(f"{path}: expected one LMDB file (*.lmdb or data.mdb), found {names}.")
    return found[0]
