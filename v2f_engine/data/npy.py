"""`.npy` arrays judged by header and size before anything is allocated; nothing is ever unpickled."""

from __future__ import annotations

import ast
import math
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import VectorError
from v2f_engine.outside import admit

_MAGIC = b"\x93NUMPY"
_HEADER_LIMIT = 1 << 16
_PLAIN = {
    f"{order}{kind}" for order in "<>" for kind in ("f2", "f4", "f8", "i2", "i4", "i8", "u2", "u4", "u8")
}
_PLAIN |= {"|i1", "|u1"}


def parse_header(data: bytes, size: int, where: str) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """(dtype, shape, offset of the numbers) of a `.npy`.

    Args:
        data: its first 64 KiB, or all of it.
        size: its size in bytes.
        where: its name, for messages.

    Raises:
        VectorError: not a `.npy` of plain numbers in C order that fill exactly `size` bytes.
    """
    if data[:6] != _MAGIC or len(data) < 12 or data[6] not in (1, 2, 3):
        raise VectorError(f"{where}: expected a .npy array, found {size} bytes starting {data[:8]!r}.")
    width = 2 if data[6] == 1 else 4
    offset = 8 + width + int.from_bytes(data[8 : 8 + width], "little")
    text = data[8 + width : offset]
    header = _plain_header(text) if len(text) == offset - 8 - width else None
    if header is None:
        raise VectorError(f"{where}: expected a .npy array, found a damaged header {text[:60]!r}.")
    kind, fortran, shape = header
    if not isinstance(kind, str) or kind not in _PLAIN or fortran:
        raise VectorError(
            f"{where}: expected plain numbers in C order, found dtype {kind!r:.60}, fortran_order "
            f"{fortran!r:.10}. Save the array anew as float32."
        )
    expected = offset + math.prod(shape) * np.dtype(kind).itemsize
    if expected != size:
        raise VectorError(f"{where}: expected {expected} bytes for {kind} {list(shape)}, found {size}.")
    return np.dtype(kind), shape, offset


@lru_cache(maxsize=64)
def _plain_header(text: bytes) -> tuple[Any, Any, tuple[int, ...]] | None:
    """(descr, fortran_order, shape) of a header's text, or None where it is damaged; a set repeats few."""
    try:
        header = ast.literal_eval(text.decode("latin1"))
        kind, fortran, shape = header["descr"], header["fortran_order"], header["shape"]
        sound = type(shape) is tuple and len(header) == 3
        sound = sound and all(type(extent) is int and extent >= 0 for extent in shape)
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        return None
    return (kind, fortran, shape) if sound else None


def map_file(path: str | Path) -> NDArray[Any]:
    """The array in a `.npy` file, read-only and memory-mapped.

    Raises:
        VectorError: no such file, or not a `.npy` as `parse_header` wants it.
    """
    admit(path, VectorError)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            kind, shape, offset = parse_header(file.read(_HEADER_LIMIT), size, str(path))
    except OSError as error:
        raise VectorError(f"{path}: cannot be read: {error.strerror}.") from error
    if not math.prod(shape):
        return np.zeros(shape, kind)
    return np.memmap(path, kind, "r", offset, shape)


def from_bytes(data: bytes, where: str) -> NDArray[Any]:
    """The array in the bytes of a `.npy`, without a copy.

    Raises:
        VectorError: as `parse_header`.
    """
    kind, shape, offset = parse_header(data, len(data), where)
    return np.frombuffer(data, kind, math.prod(shape), offset).reshape(shape)
