"""Writes LMDB files in bulk, front to back (layout: `lmdb_layout`)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from v2f_engine.atomic import DurableFile
from v2f_engine.data.formats.lmdb.layout import (
    BIGDATA,
    BRANCH,
    HEADER,
    INTEGER_KEY,
    LEAF,
    MAGIC,
    META,
    META_END,
    META_START,
    NO_PAGE,
    NO_SUBDIR,
    NODE,
    OVERFLOW,
    OVERFLOW_HEADER,
    PAGE,
    ROOM,
    TREE,
    VERSION,
)


def value_pages(size: int) -> int:
    """Overflow pages of a value of `size` bytes."""
    return -(-(OVERFLOW_HEADER.size + size) // PAGE)


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
        page, pages = self._next, value_pages(len(value))
        padding = bytes(pages * PAGE - OVERFLOW_HEADER.size - len(value))
        self._file.write(b"".join((OVERFLOW_HEADER.pack(page, 0, OVERFLOW, pages), value, padding)))
        self._next += pages
        self._overflow_pages += pages
        return page

    def value_in_parts(self, size: int, parts: Iterable[bytes]) -> int:
        """Writes a value of `size` bytes that comes in parts."""
        page, pages = self._next, value_pages(size)
        self._file.write(OVERFLOW_HEADER.pack(page, 0, OVERFLOW, pages))
        for part in parts:
            self._file.write(part)
        self._file.write(bytes(pages * PAGE - OVERFLOW_HEADER.size - size))
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
                    NODE.pack(size & 0xFFFF, size >> 16, BIGDATA, len(key)) + key + page.to_bytes(8, "little")
                )
                yield key, node + bytes(len(node) & 1)

        level = self._level(LEAF, nodes())
        leaves, branches, depth = len(level), 0, 1
        while len(level) > 1:
            level = self._level(BRANCH, ((key, _branch_node(key, page)) for key, page in level))
            branches += len(level)
            depth += 1
        root = level[0][1] if level else NO_PAGE
        empty = TREE.pack(0, 0, 0, 0, 0, 0, 0, NO_PAGE)
        main = TREE.pack(0, 0, depth if level else 0, branches, leaves, self._overflow_pages, count, root)
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
            if used + len(node) + 2 > ROOM:
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
        lower = HEADER.size + 2 * len(nodes)
        page = self._next
        self._file.write(HEADER.pack(page, 0, flags, lower, upper))
        self._file.write(struct.pack(f"<{len(offsets)}H", *offsets))
        self._file.write(bytes(upper - lower))
        self._file.write(b"".join(node for _, node in reversed(nodes)))
        self._next += 1
        return nodes[0][0], page

    def _meta(self, number: int, tree: bytes, last: int) -> bytes:
        """A meta page; its transaction number equals its page number, so that page 1 counts."""
        head = HEADER.pack(number, 0, META, 0, 0) + META_START.pack(MAGIC, VERSION, 0, self._next * PAGE)
        free = TREE.pack(PAGE, INTEGER_KEY | NO_SUBDIR, 0, 0, 0, 0, 0, NO_PAGE)
        return (head + free + tree + META_END.pack(last, number)).ljust(PAGE, b"\0")


def _branch_node(key: bytes, page: int) -> bytes:
    node = page.to_bytes(6, "little") + len(key).to_bytes(2, "little") + key
    return node + bytes(len(node) & 1)
