"""Files of vectors: `.npy` judged by its header and size before a byte is allocated, read in blocks."""

from __future__ import annotations

import ast
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import VectorError
from v2f_engine.outside import admit
from v2f_engine.vectors.gate import DIMENSION, Float32, check_vectors

HEADER_LIMIT = 65_536
BLOCK = 16_384
KINDS = ("f2", "f4", "f8")

FloatRows = NDArray[np.floating[Any]]
Parts = Sequence[tuple[str, FloatRows]]


def open_vectors(path: str | Path, *, dimension: int | None = DIMENSION) -> FloatRows:
    """Memory-maps a `.npy` file of vectors `[N, dimension]` after checking its header and its size.

    Args:
        path: a `.npy` file, float16, float32 or float64 of either byte order, C order.
        dimension: entries a row must have; None accepts any.

    Returns:
        The read-only memory map, in the file's own dtype; `check_vectors` makes it float32.

    Raises:
        VectorError: not such a file; the message says what was expected and what was found. Nothing is
            allocated for a lying header and no pickle is read.
    """
    path = Path(path)
    admit(path, VectorError)
    try:
        with path.open("rb") as file:
            dtype, shape, offset = _header(path, file.read(12 + HEADER_LIMIT))
            file.seek(0, 2)
            size = file.tell()
    except OSError as error:
        raise VectorError(
            f"{path}: cannot be read ({error.strerror}). Give a .npy file of vectors."
        ) from error
    if len(shape) != 2 or (dimension is not None and shape[1] != dimension):
        raise VectorError(f"{path}: expected shape [N, {dimension or 'D'}], found {list(shape)}.")
    if not shape[0] or not shape[1]:
        raise VectorError(f"{path}: expected at least one row, found shape {list(shape)}.")
    needed = offset + shape[0] * shape[1] * dtype.itemsize
    if size != needed:
        what = "truncated" if size < needed else "too long"
        raise VectorError(
            f"{path}: {what}: shape {list(shape)} of {dtype} takes {needed:,} bytes, the file has {size:,}. "
            "Copy or extract it again."
        )
    return np.memmap(path, dtype, "r", offset, shape)


def _header(path: Path, start: bytes) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    if start[:6] != b"\x93NUMPY" or len(start) < 12:
        raise VectorError(
            f"{path}: not a .npy file (it starts with {start[:8]!r}). Save the array with numpy.save."
        )
    if start[6] not in (1, 2, 3):
        raise VectorError(f"{path}: expected .npy version 1, 2 or 3, found {start[6]}.")
    width, code = (2, "<H") if start[6] == 1 else (4, "<I")
    length = struct.unpack(code, start[8 : 8 + width])[0]
    if length > HEADER_LIMIT:
        raise VectorError(f"{path}: a header of {length:,} bytes; a vector file needs about 120.")
    text = start[8 + width : 8 + width + length]
    try:
        fields = ast.literal_eval(text.decode("utf-8" if start[6] == 3 else "latin1"))
        descr, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
        sound = len(text) == length and len(fields) == 3 and isinstance(shape, tuple)
        sound = sound and all(type(extent) is int and extent >= 0 for extent in shape)
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        sound = False
    if not sound:
        raise VectorError(f"{path}: the .npy header is damaged: {text[:80]!r}.")
    if not isinstance(descr, str) or descr[1:] not in KINDS or descr[0] not in "<>=|":
        raise VectorError(
            f"{path}: expected float16, float32 or float64 entries, found dtype {descr!r}. "
            "Object arrays are never read: they can run code. Save as float32."
        )
    if fortran:
        raise VectorError(
            f"{path}: expected C order (rows together), found Fortran order. Save a C-ordered copy."
        )
    return np.dtype(descr), shape, 8 + width + length


def parts_of(
    source: str | Path | NDArray[Any] | Sequence[str | Path | NDArray[Any]],
    *,
    dimension: int | None = DIMENSION,
) -> list[tuple[str, FloatRows]]:
    """(name, array) for one file or array, or for each of several; files are memory-mapped.

    A folder stands for the `.npy` files in it, in order of their names.
    """
    given = [source] if isinstance(source, (str, Path, np.ndarray)) else list(source)
    items: list[str | Path | NDArray[Any]] = []
    for item in given:
        if not isinstance(item, np.ndarray) and Path(item).is_dir():
            shards = sorted(Path(item).glob("*.npy"))
            if not shards:
                raise VectorError(f"{item}: expected .npy files in this folder, found none.")
            items += shards
        else:
            items.append(item)
    if not items:
        raise VectorError("expected at least one file of vectors, found none.")
    return [
        (f"array {k}", item)
        if isinstance(item, np.ndarray)
        else (str(item), open_vectors(item, dimension=dimension))
        for k, item in enumerate(items)
    ]


def stream(parts: Sequence[tuple[str, FloatRows]], *, block: int = BLOCK) -> Iterator[tuple[int, Float32]]:
    """(first row over all parts, checked float32 rows `[<= block, D]`), holding one block at a time.

    Duplicates are allowed: only `check_vectors` on a whole table looks for them.

    Raises:
        VectorError: as `check_vectors`, and when the parts differ in dimension.
    """
    total, dimension = 0, parts[0][1].shape[-1]
    for name, array in parts:
        if array.ndim != 2 or array.shape[1] != dimension:
            raise VectorError(f"{name}: expected shape [N, {dimension}], found {list(array.shape)}.")
        for start in range(0, len(array), block):
            rows = array[start : start + block]
            yield total + start, check_vectors(rows, name, dimension=None, allow_duplicates=True, first=start)
        total += len(array)
