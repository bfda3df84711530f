"""TensorBoard event files, written without TensorBoard: it brings a web server, gRPC and eleven packages.

An event file is a sequence of records (length, masked CRC-32C of it, data, masked CRC-32C of that; the TFRecord
format), each a protocol buffer `Event` of wall time, step and a `Summary` of scalars or PNG images. The tests
read these files back with TensorBoard's own reader.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_VARINT, _DOUBLE, _BYTES, _FLOAT = 0, 1, 2, 5
"""Wire types of protocol buffers."""


class EventFile:
    """Appends scalars and pictures to one new file in `folder`.

    Args:
        folder: TensorBoard's log directory.
        step: what other files of this folder hold after this step is to be forgotten: where a run resumes.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        stamp = f"{time.time_ns() / 1e9:.6f}"
        name = f"events.out.tfevents.{stamp}.{socket.gethostname()}.{os.getpid()}.v2"
        self._file = (folder / name).open("ab")
        self._record(_field(3, b"brain.Event:2"), 0)
        if step:
            self._record(_field(7, _integer(1, 1)), step + 1)  # SessionLog START: purge from here on
        self._file.flush()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name, e.g. `loss/pixel`."""
        summary = b"".join(
            _field(1, _field(1, name.encode()) + _tag(2, _FLOAT) + struct.pack("<f", value))
            for name, value in values.items()
        )
        self._record(_field(5, summary), step)
        self._file.flush()

    def picture(self, step: int, name: str, png: bytes) -> None:
        """A PNG."""
        width, height = struct.unpack(">II", png[16:24])
        image = _integer(1, height) + _integer(2, width) + _integer(3, 3) + _field(4, png)
        self._record(_field(5, _field(1, _field(1, name.encode()) + _field(4, image))), step)
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _record(self, content: bytes, step: int) -> None:
        event = _tag(1, _DOUBLE) + struct.pack("<d", time.time()) + _integer(2, step) + content
        length = struct.pack("<Q", len(event))
        self._file.write(length + _masked(length) + event + _masked(event))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _tag(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _field(number: int, content: bytes) -> bytes:
    return _tag(number, _BYTES) + _varint(len(content)) + content


def _integer(number: int, value: int) -> bytes:
    return _tag(number, _VARINT) + _varint(value)


@cache
def _table() -> list[int]:
    """CRC-32C of every byte: polynomial 0x1EDC6F41, reflected."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


def crc32c(data: bytes) -> int:
    """Castagnoli's cyclic redundancy check (RFC 3720); about 10 MB/s, for files of a few hundred KB."""
    table, crc = _table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _masked(data: bytes) -> bytes:
    """Rotated and offset, because a CRC of data that holds CRCs says little (TFRecord)."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
