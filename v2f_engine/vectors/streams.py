"""Vectors too many to hold at once: files mapped and checked, read in blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import VectorError
from v2f_engine.vectors.containers import as_rows, read_array
from v2f_engine.vectors.gate import DIMENSION, Float32, check_vectors, from_any

BLOCK = 16_384

FloatRows = NDArray[np.floating[Any]]
Parts = Sequence[tuple[str, FloatRows]]


def open_vectors(path: str | Path, *, dimension: int | None = DIMENSION) -> FloatRows:
    """Opens a file of vectors `[N, dimension]` after checking its header and its size.

    Args:
        path: a `.npy` (memory-mapped), `.npz`, `.pt` or `.safetensors` that holds one array of float16, float32 or
            float64, of either byte order, in C or Fortran order; see `containers.as_rows` for shapes.
        dimension: entries a row must have; None accepts any.

    Returns:
        the array, read-only where it is mapped, in the file's own dtype; `check_vectors` makes it float32.

    Raises:
        VectorError: not such a file; the message says what was expected and what was found. Nothing is
            allocated for a lying header and no pickle is read.
    """
    return as_rows(read_array(path), str(path), dimension)


def parts_of(
    source: str | Path | NDArray[Any] | Sequence[str | Path | NDArray[Any]],
    *,
    dimension: int | None = DIMENSION,
) -> list[tuple[str, FloatRows]]:
    """(name, array) for one file or array, or for each of several; files are memory-mapped.

    A folder stands for the `.npy` files in it, in order of their names; a tensor is an array.
    """
    given = [source] if isinstance(source, (str, Path)) or hasattr(source, "shape") else list(source)
    items: list[str | Path | NDArray[Any]] = []
    for item in given:
        if isinstance(item, (str, Path)) and Path(item).is_dir():
            items += vector_files(Path(item))
        elif isinstance(item, (str, Path)):
            items.append(item)
        else:
            items.append(as_rows(from_any(item, "array"), f"array {len(items)}", dimension))
    if not items:
        raise VectorError("expected at least one file of vectors, found none.")
    return [
        (f"array {k}", item)
        if isinstance(item, np.ndarray)
        else (str(item), open_vectors(item, dimension=dimension))
        for k, item in enumerate(items)
    ]


def vector_files(folder: Path) -> list[Path]:
    """The `.npy` files of a folder in order of their names; hidden ones (`._a.npy` of macOS) are no files of anybody's.

    Raises:
        VectorError: there is none.
    """
    found = sorted(path for path in folder.glob("*.npy") if not path.name.startswith("."))
    if not found:
        raise VectorError(f"{folder}: expected .npy files in this folder, found none.")
    return found


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
