"""Rows by index, the same for tables, batches and datasets: what lists and NumPy allow, and what they refuse."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import RowError

Rows = slice | range | Sequence[int] | NDArray[np.integer[Any]] | NDArray[np.bool_]
"""What chooses several rows: a slice, a range, a list or array of row numbers, a mask with one entry a row."""


def rows_of(numbers: range) -> slice:
    """What a range counts, as a slice: `range(2, -1, -1)` ends at row 0, and not before the last row."""
    if not numbers:
        return slice(0, 0)
    stop = None if numbers.step < 0 and numbers.stop < 0 else numbers.stop
    return slice(numbers.start, stop, numbers.step)


def chosen(what: str, index: Any, count: int) -> int | slice | NDArray[np.int64]:
    """`index` into `count` rows: one row's number, or several as a slice or as int64 `[M]`, none of them negative.

    Args:
        what: how messages call what is indexed.
        index: a whole number (negative ones count from the end), or one of `Rows`.

    Raises:
        RowError: a row that is not there, a mask of another length, or what is no index (text, fractions, a bool).
    """
    if isinstance(index, slice):
        try:
            index.indices(count)
        except TypeError as error:
            raise RowError(f"{what}: cannot be cut by {index!r:.60} ({error}).") from error
        return index
    if isinstance(index, np.ma.MaskedArray):
        raise RowError(
            f"{what}: expected row numbers or a mask, found a masked array: give index.compressed()."
        )
    array = index if isinstance(index, np.ndarray) else None
    if isinstance(index, Integral) and index is not True and index is not False:
        return _one(what, operator.index(index), count)
    if array is None and not isinstance(index, (str, bytes, bool, tuple, dict)) and index is not None:
        try:
            array = np.asarray(index)
        except (TypeError, ValueError, RuntimeError):
            array = None
    if array is not None and array.ndim == 0 and array.dtype.kind in "iu":
        return _one(what, int(array), count)
    if array is not None and array.shape == (0,):
        return np.zeros(0, np.int64)
    if array is None or array.ndim != 1 or array.dtype.kind not in "iub":
        found = (
            f"{type(index).__name__} {index!r:.40}"
            if array is None or array.ndim == 0
            else f"{array.dtype} {list(array.shape)}"
        )
        raise RowError(
            f"{what}: expected a row number, a slice, row numbers [M] or a mask [{count}], found {found}."
        )
    if array.dtype.kind == "b":
        if len(array) != count:
            raise RowError(f"{what}: expected a mask of {count} entries, one a row, found {len(array)}.")
        return np.flatnonzero(array)
    if int(array.max()) >= count or int(array.min()) < -count:
        raise RowError(f"{what}: rows {int(array.min())} to {int(array.max())}; there are {count}.")
    rows = array.astype(np.int64)
    return np.where(rows < 0, rows + count, rows)


def _one(what: str, row: int, count: int) -> int:
    if not -count <= row < count:
        raise RowError(f"{what}: row {row} does not exist; there are {count}.")
    return row + count if row < 0 else row
