"""RecordIO's framing: records as MXNet's recordio and image headers have them.

A record is magic, u32 (part << 29 | length), payload, padding to 4 bytes; a payload that holds the magic at a multiple
of 4 is split there into parts, as dmlc-core does. An image's payload is the header `IfQQ` (flag 0, label, id, 0) and
the encoded bytes; a record of several labels has their number as flag, and them behind the header.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from v2f_engine.data.gate.open_files import OpenFiles
from v2f_engine.errors import ConfigError, DatasetError

MAGIC = 0xCED7230A
MAGIC_BYTES = struct.pack("<I", MAGIC)
MAX_LENGTH = (1 << 29) - 1
WHOLE, FIRST, MIDDLE, LAST = 0, 1, 2, 3
FRAME = struct.Struct("<II")
HEADER = struct.Struct("<IfQQ")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


def _part(kind: int, payload: bytes) -> bytes:
    length = len(payload)
    return b"".join((FRAME.pack(MAGIC, kind << 29 | length), payload, _PADDING[length & 3]))


def frame(payload: bytes) -> bytes:
    """The record that holds `payload`; several parts when the magic lies inside at a multiple of 4."""
    if len(payload) > MAX_LENGTH:
        raise ConfigError(f"A record of {len(payload)} bytes; RecordIO holds at most {MAX_LENGTH}.")
    found = np.frombuffer(payload, "<u4", len(payload) // 4) == MAGIC
    if not found.any():
        return _part(WHOLE, payload)
    cuts = (4 * np.flatnonzero(found)).tolist()
    starts = [0, *(cut + 4 for cut in cuts)]
    parts = [payload[start:stop] for start, stop in zip(starts, [*cuts, len(payload)], strict=True)]
    kinds = [FIRST, *[MIDDLE] * (len(parts) - 2), LAST]
    return b"".join(_part(kind, part) for kind, part in zip(kinds, parts, strict=True))


def image_record(label: int, key: int, data: bytes) -> bytes:
    return frame(HEADER.pack(0, label, key, 0) + data)


def range_record(first: int, last: int, key: int) -> bytes:
    """A record without image whose two labels are a range of keys (meta and identity records)."""
    return frame(HEADER.pack(2, 0.0, key, 0) + struct.pack("<ff", first, last))


def read_record(files: OpenFiles, path: Path, offset: int) -> tuple[bytes, int]:
    """(payload, offset of the next record).

    Raises:
        DatasetError: no record there, or one that is cut.
    """
    parts: list[bytes] = []
    expected = (WHOLE, FIRST)
    while True:
        magic, word = FRAME.unpack(files.read(path, offset, 8))
        kind, length = word >> 29, word & MAX_LENGTH
        if magic != MAGIC or kind not in expected:
            raise DatasetError(
                f"{path}: offset {offset}: expected a RecordIO record, found {magic:#x}, part {kind}."
            )
        parts.append(files.read(path, offset + 8, length))
        offset += 8 + length + -length % 4
        if kind in (WHOLE, LAST):
            return MAGIC_BYTES.join(parts), offset
        expected = (MIDDLE, LAST)


def after_record(files: OpenFiles, path: Path, offset: int) -> int:
    """Offset of the record after the one at `offset`, without reading its payload.

    Raises:
        DatasetError: no record there, or one that is cut.
    """
    expected = (WHOLE, FIRST)
    size = path.stat().st_size
    while True:
        magic, word = FRAME.unpack(files.read(path, offset, FRAME.size))
        kind, length = word >> 29, word & MAX_LENGTH
        offset += FRAME.size + length + -length % 4
        if magic != MAGIC or kind not in expected or offset > size:
            raise DatasetError(f"{path}: expected a RecordIO record that ends at {offset}, found none.")
        if kind in (WHOLE, LAST):
            return offset
        expected = (MIDDLE, LAST)


def unpack(payload: bytes, where: str) -> tuple[list[float], bytes]:
    """(labels, encoded image) of a payload; one label, or as many as its flag says."""
    if len(payload) < HEADER.size:
        raise DatasetError(f"{where}: {len(payload)} bytes; expected a header of {HEADER.size} bytes.")
    flag, label, _, _ = HEADER.unpack_from(payload)
    if flag == 0:
        return [label], payload[HEADER.size :]
    start = HEADER.size + 4 * flag
    if len(payload) < start:
        raise DatasetError(f"{where}: expected {flag} labels, found {len(payload)} bytes.")
    return list(struct.unpack_from(f"<{flag}f", payload, HEADER.size)), payload[start:]
