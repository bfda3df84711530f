"""`.npy` arrays judged by header and size before anything is allocated; nothing is ever unpickled."""

from __future__ import annotations

import ast
import math
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import VectorError
from v2f_engine.outside import admit

HEADER_LIMIT = 1 << 16
"""Bytes: NumPy's own headers of plain arrays have 118."""
_MAGIC = b"\x93NUMPY"
_FLOATS = frozenset(f"{order}f{size}" for order in "<>" for size in (2, 4, 8))
_NUMBERS = _FLOATS | {f"{order}{kind}{size}" for order in "<>" for kind in "iu" for size in (2, 4, 8)}
_NUMBERS |= {"|i1", "|u1"}
_TEXTS = re.compile(r"[<>]U[1-9]\d{0,3}|\|S[1-9]\d{0,3}")
"""Texts of at most 9,999 characters, which need no pickle: names of people."""


class Header(NamedTuple):
    """Where a `.npy` has its numbers: their dtype, the array's shape, the first one's offset, `C` or `F` order."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    order: Literal["C", "F"]


def parse_header(
    data: bytes, size: int, where: str, *, floats_only: bool = False, texts: bool = False
) -> Header:
    """What a `.npy` says of itself.

    Args:
        data: its first `HEADER_LIMIT` + 12 bytes, or all of it.
        size: its size in bytes.
        where: its name, for messages.
        floats_only: refuse whole numbers, too.
        texts: take texts of fixed length, too.

    Raises:
        VectorError: not a `.npy` of plain numbers that fill exactly `size` bytes.
    """
    if data[:6] != _MAGIC or len(data) < 12:
        raise VectorError(
            f"{where}: not a .npy file (it starts with {data[:8]!r}). Save the array with numpy.save."
        )
    if data[6] not in (1, 2, 3):
        raise VectorError(f"{where}: expected .npy version 1, 2 or 3, found {data[6]}.")
    width = 2 if data[6] == 1 else 4
    length = int.from_bytes(data[8 : 8 + width], "little")
    if length > HEADER_LIMIT:
        raise VectorError(f"{where}: a header of {length:,} bytes; a .npy of numbers needs about 120.")
    text = data[8 + width : 8 + width + length]
    header = _header(text) if len(text) == length else None
    if header is None:
        raise VectorError(f"{where}: the .npy header is damaged: {text[:80]!r}.")
    kind, fortran, shape = header
    named = texts and isinstance(kind, str) and _TEXTS.fullmatch(kind) is not None
    if not named and (not isinstance(kind, str) or kind not in (_FLOATS if floats_only else _NUMBERS)):
        raise VectorError(
            f"{where}: expected {'float16, float32 or float64 entries' if floats_only else 'plain numbers'}, found "
            f"dtype {kind!r:.60}. Object arrays are never read: they can run code. Save as float32."
        )
    dtype = np.dtype(kind)
    needed = 8 + width + length + math.prod(shape) * dtype.itemsize
    if size != needed:
        raise VectorError(
            f"{where}: {'truncated' if size < needed else 'too long'}: shape {list(shape)} of {dtype} takes "
            f"{needed:,} bytes, the file has {size:,}. Copy or extract it again."
        )
    return Header(dtype, shape, 8 + width + length, "F" if fortran else "C")


@lru_cache(maxsize=64)
def _header(text: bytes) -> tuple[Any, Any, tuple[int, ...]] | None:
    """(descr, fortran_order, shape) of a header's text, or None where it is damaged; a set repeats few."""
    try:
        header = ast.literal_eval(text.decode("latin1"))
        kind, fortran, shape = header["descr"], header["fortran_order"], header["shape"]
        sound = type(shape) is tuple and len(header) == 3 and type(fortran) is bool
        sound = sound and all(type(extent) is int and extent >= 0 for extent in shape)
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        return None
    return (kind, fortran, shape) if sound else None


def map_file(path: str | Path, *, floats_only: bool = False, texts: bool = False) -> NDArray[Any]:
    """The array in a `.npy` file, read-only and memory-mapped; an empty one is made in memory.

    Args:
        path: the file.
        floats_only, texts: as in `parse_header`.

    Raises:
        VectorError: no such file, or not a `.npy` as `parse_header` wants it.
    """
    admit(path, VectorError)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(HEADER_LIMIT + 12)
    except OSError as error:
        raise VectorError(f"{path}: cannot be read ({error.strerror}). Give a .npy file.") from error
    kind, shape, offset, order = parse_header(start, size, str(path), floats_only=floats_only, texts=texts)
    if not math.prod(shape):
        return np.zeros(shape, kind)
    return np.memmap(path, kind, "r", offset, shape, order)


def from_bytes(data: bytes, where: str) -> NDArray[Any]:
    """The array in the bytes of a `.npy`, without a copy.

    Raises:
        VectorError: as `parse_header`.
    """
    kind, shape, offset, order = parse_header(data, len(data), where)
    return np.frombuffer(data, kind, math.prod(shape), offset).reshape(shape, order=order)
