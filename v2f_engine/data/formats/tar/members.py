"""The members of a tar in every dialect that tar, bsdtar, Python and Go write; headers only, cuts noticed.

v7, ustar and star headers, POSIX.1-2001 ("pax") records per file and global, GNU long names and base-256 numbers
(https://www.gnu.org/software/tar/manual/html_node/Standard.html; IEEE 1003.1-2017, pax). Archives joined by `cat` are
read to the last: `tar` itself would stop at the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from v2f_engine.data.formats.tar.blobs import Blob
from v2f_engine.data.gate.member_names import clean, text_of
from v2f_engine.errors import DatasetError

BLOCK = 512
FILE, FOLDER, LINK, POINTER, SPARSE, SPECIAL = (
    "file",
    "folder",
    "hard link",
    "symbolic link",
    "sparse file",
    "device",
)
"""Kinds of members."""
_KINDS: Mapping[bytes, str] = {
    b"0": FILE,
    b"\0": FILE,
    b"7": FILE,
    b"1": LINK,
    b"2": POINTER,
    b"5": FOLDER,
    b"D": FOLDER,
    b"S": SPARSE,
}
_WITH_DATA = (b"0", b"\0", b"7", b"D", b"S")
_MAX_EXTRA = 1 << 20
"""Bytes of pax records or of a long name; names end at 4 KiB on every system."""
_MAX_ZEROS = 1 << 26
"""Zeros after the end of an archive: GNU tar fills records of 10 KiB, tapes of a few MiB."""
_CHUNK = 1 << 16


class Member(NamedTuple):
    """A member of a tar: a regular file's data lie at [offset, offset + size); `link` is what a link points to."""

    name: str
    offset: int
    size: int
    kind: str = FILE
    link: str = ""


class _Extra:
    """What headers before a member's own say of it."""

    def __init__(self) -> None:
        self.shared: dict[bytes, bytes] = {}
        self.own: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.own.get(key, self.shared.get(key)) if self.own or self.shared else None

    @property
    def sparse(self) -> bool:
        return bool(self.own or self.shared) and any(
            key.startswith(b"GNU.sparse.") for key in (*self.own, *self.shared)
        )


def scan(blob: Blob) -> Iterator[Member]:
    """The members of a tar in order, folders and links among them.

    Raises:
        DatasetError: a bad checksum or record, a name that leads out, or an archive cut short: also one cut exactly
            between two members, which common readers take for a shorter archive.
    """
    offset, extra, closed = 0, _Extra(), False
    while True:
        where = f"{blob.path}: offset {offset}"
        if offset + BLOCK > blob.length:
            raise DatasetError(f"{where}: the archive ends without its closing zero blocks; it was cut.")
        header = blob.read(offset, BLOCK)
        if header[0] == 0 and not any(header):
            if extra.own:
                raise DatasetError(
                    f"{where}: the archive ends after a header that announces a member; it was cut."
                )
            following = _after_zeros(blob, offset)
            if following is None and blob.length % BLOCK:
                raise DatasetError(
                    f"{where}: the archive has {blob.length} bytes, no multiple of {BLOCK}; it was cut among its "
                    "closing zeros, and another tar may have followed."
                )
            if following is None:
                return
            offset, closed = following, True
            continue
        plain = _plain(header) if not (extra.own or extra.shared) else None
        if plain is not None and offset + BLOCK + plain[1] <= blob.length:
            yield Member(plain[0], offset + BLOCK, plain[1])
            offset += BLOCK + plain[1] + -plain[1] % BLOCK
            continue
        kind, data, size = _frame(blob, offset, header, extra, where, closed)
        offset = data + size + -size % BLOCK
        if offset > blob.length:
            raise DatasetError(
                f"{where}: a member of {size} bytes reaches beyond the end; the archive was cut."
            )
        if kind in (b"x", b"X", b"g"):
            (extra.shared if kind == b"g" else extra.own).update(_records(blob, data, size, where))
        elif kind in (b"L", b"K"):
            text = _limited(blob, data, size, where).partition(b"\0")[0]
            extra.own[b"path" if kind == b"L" else b"linkpath"] = text
        else:
            if kind != b"V":  # a volume's label names the archive, not a member
                yield _member(kind, header, data, size, extra, where)
            extra.own = {}


_USUAL = re.compile(rb"([A-Za-z0-9_][A-Za-z0-9_-]*(?:[/.][A-Za-z0-9_][A-Za-z0-9_-]*)*)\0")
"""A name in ASCII that is spelled the one way; others take the long way."""


def _plain(header: bytes) -> tuple[str, int] | None:
    """(name, size) of a regular file's header as nearly all are; None where the long way has to look."""
    if header[156] != 48 or header[345] or not _is_header(header):
        return None
    name, size = _USUAL.match(header), header[124:135]
    if (
        name is None
        or name.end() > 100
        or header[135] not in b"\0 "
        or not size.isdigit()
        or b"8" in size
        or b"9" in size
    ):
        return None
    return name[1].decode("ascii"), int(size, 8)


def _frame(
    blob: Blob, offset: int, header: bytes, extra: _Extra, where: str, closed: bool
) -> tuple[bytes, int, int]:
    """(type, offset of the data, bytes of data) of the header at `offset`."""
    if not _is_header(header):
        raise DatasetError(
            f"{where}: bytes after the archive's end that are no tar; expected zeros or another tar."
            if closed
            else f"{where}: the header's checksum is wrong; the archive is damaged."
        )
    kind = header[156:157]
    size = _number(header[124:136], "the size", where)
    stated = extra.get(b"size") if kind not in b"xXgLK" else None
    if stated is not None:
        if not stated.isdigit() or len(stated) > 19:
            raise DatasetError(f"{where}: a pax record gives the size {stated[:20]!r}; expected digits.")
        size = int(stated)
    if kind == b"M":
        raise DatasetError(
            f"{where}: a file continued from another volume; join the volumes and pack them again."
        )
    data = offset + BLOCK
    if kind == b"1":  # POSIX lets a hard link carry the data again, others only state the size
        follows = data + BLOCK <= blob.length and size > 0
        head = blob.read(data, BLOCK) if follows else bytes(BLOCK)
        return kind, data, 0 if not any(head) or _is_header(head) else size
    known = kind in _KINDS or kind in b"346"
    return kind, data, size if kind in _WITH_DATA or kind in b"xXgLKV" or not known else 0


def _member(kind: bytes, header: bytes, data: int, size: int, extra: _Extra, where: str) -> Member:
    raw = extra.get(b"path")
    if raw is None:
        raw = header[:100].partition(b"\0")[0]
        if header[257:263] == b"ustar\0":  # GNU tar keeps times where the prefix would be
            width = 131 if header[508:512] == b"tar\0" else 155  # star keeps times in its end
            prefix = header[345 : 345 + width].partition(b"\0")[0]
            raw = prefix + b"/" + raw if prefix else raw
    link = extra.get(b"linkpath")
    if link is None:
        link = header[157:257].partition(b"\0")[0]
    name = text_of(raw)
    what = _KINDS.get(kind, SPECIAL)
    if what == FILE and name.endswith("/"):  # v7 has no type for folders
        what = FOLDER
    if extra.sparse:
        what = SPARSE
    return Member(clean(name, where), data, size, what, text_of(link) if link else "")


def _is_header(header: bytes) -> bool:
    """Whether a block's checksum is that of a header; old Sun tars added signed bytes."""
    field = header[148:156]
    try:
        stated = int(field.strip(b"\0 "), 8)
    except ValueError:
        return False
    total = sum(header) - sum(field) + 8 * ord(" ")
    if stated == total:
        return True
    return stated == total - 256 * sum(byte > 127 for byte in header[:148] + header[156:])


def _number(field: bytes, what: str, where: str) -> int:
    """A number of a header: octal digits, or base 256 behind a byte with its top bit set (GNU, star)."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    text = field.partition(b"\0")[0].strip() or b"0"
    if not text.isdigit() or b"8" in text or b"9" in text:
        raise DatasetError(f"{where}: {what} is {field!r}; expected octal digits.")
    return int(text, 8)


def _limited(blob: Blob, offset: int, size: int, where: str) -> bytes:
    if size > _MAX_EXTRA:
        raise DatasetError(
            f"{where}: a header of {size} bytes; expected names and records of at most {_MAX_EXTRA}."
        )
    return blob.read(offset, size)


def _records(blob: Blob, offset: int, size: int, where: str) -> dict[bytes, bytes]:
    """The records `length key=value` of a pax header."""
    text = _limited(blob, offset, size, where)
    found: dict[bytes, bytes] = {}
    start = 0
    while start < len(text) and text[start]:
        digits, blank, _ = text[start : start + 12].partition(b" ")
        length = int(digits) if blank and digits.isdigit() else 0
        record = text[start : start + length]
        key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if len(record) != length or not equals or record[-1:] != b"\n":
            raise DatasetError(
                f"{where}: a pax record that starts {text[start : start + 20]!r}; the archive is damaged."
            )
        found[key] = value
        start += length
    return found


def _after_zeros(blob: Blob, offset: int) -> int | None:
    """Where an archive goes on after zeros from `offset`; None at its end."""
    start = offset
    while offset < blob.length:
        chunk = blob.read(offset, min(_CHUNK, blob.length - offset))
        rest = chunk.lstrip(b"\0")
        if rest:
            return offset + (len(chunk) - len(rest)) // BLOCK * BLOCK
        offset += len(chunk)
        if offset - start > _MAX_ZEROS:
            raise DatasetError(
                f"{blob.path}: {blob.length - start} bytes follow the archive's end at {start}; expected at most "
                f"{_MAX_ZEROS}."
            )
    return None
