"""The one check for vectors that come from outside.

Nothing behind this gate meets a NaN, a zero row, a repeated row or an object array; `npy.py` opens the files.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from v2f_engine.errors import VectorError

DIMENSION = 512
SHORTEST, LONGEST = 1e-6, 1e6
"""Lengths outside leave no safe float32 cosine; real features have lengths near 20."""
BLOCK = 4096

Float32 = NDArray[np.float32]


class DLPackArray(Protocol):
    """An array of a library that speaks DLPack: CuPy, JAX, torch."""

    def __dlpack_device__(self) -> Any: ...


Vectors = ArrayLike | DLPackArray
"""What is taken for vectors `[N, 512]`; see `from_any`."""


def check_vectors(
    vectors: Any,
    what: str = "vectors",
    *,
    dimension: int | None = DIMENSION,
    allow_duplicates: bool = False,
    first: int = 0,
) -> Float32:
    """Vectors as float32 `[N, dimension]`: every row finite, with a direction and unlike all others.

    Args:
        vectors: an array, a memory map, or what `from_any` takes, float16/32/64 of either byte order or
            bfloat16. A float32 array in native byte order and C order is returned as it is, not copied.
        what: how messages call it.
        dimension: entries a row must have; None accepts any.
        allow_duplicates: accept rows that repeat, e.g. features of repeated images.
        first: number of row 0 in messages, for blocks of a larger table.

    Raises:
        VectorError: wrong shape or dtype; rows that are not finite, shorter than 1e-6 or longer than 1e6,
            constant, or repeated. The message gives row numbers.
    """
    array = from_any(vectors, what)
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise VectorError(f"{what}: expected float16, float32 or float64 entries, found dtype {array.dtype}.")
    if array.ndim != 2 or not len(array) or (dimension is not None and array.shape[1] != dimension):
        raise VectorError(f"{what}: expected shape [N >= 1, {dimension or 'D'}], found {list(array.shape)}.")
    native = array.dtype == np.float32 and array.dtype.isnative and array.flags.c_contiguous
    rows = array if native else np.empty(array.shape, np.float32)
    for start in range(0, len(array), BLOCK):
        part = array[start : start + BLOCK]
        if not native:
            with np.errstate(over="ignore"):
                rows[start : start + BLOCK] = part
            part = rows[start : start + BLOCK]
        _check_rows(part, what, first + start)
    if not allow_duplicates:
        refuse_duplicates(rows, what, first)
    return rows


def from_any(vectors: Any, what: str) -> NDArray[Any]:
    """What somebody passed as vectors as an array on the host, unchecked but for being one.

    Taken are arrays, tensors of torch (any device, bfloat16, with gradients), arrays of CuPy and of whoever else speaks
    DLPack or `__cuda_array_interface__`, objects with `__array__` (pandas, `Identities`) and lists of rows.

    Raises:
        VectorError: nothing of which NumPy makes an array of numbers: a string, None, rows of several lengths; an array
            with a mask.
    """
    if isinstance(vectors, np.ma.MaskedArray):
        raise VectorError(
            f"{what}: expected an array [N, 512], found a masked one: what stands under its mask would be taken for "
            "features. Give the rows that count, as array.compress_rows() has them, or array.data."
        )
    if isinstance(vectors, np.ndarray):  # np.matrix keeps two axes whatever is taken of it
        return np.asarray(vectors) if isinstance(vectors, np.matrix) else vectors
    if type(vectors).__module__.split(".")[0] == "torch" and hasattr(vectors, "detach"):
        from v2f_engine.vectors.containers import from_tensor

        return from_tensor(vectors)
    try:
        array = _of_other_libraries(vectors)
    except Exception as error:  # what a stranger's library raises is its own
        said = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise VectorError(
            f"{what}: expected an array [N, 512], found {type(vectors).__name__} ({said})."
        ) from error
    if array.dtype.kind not in "fiub":
        raise VectorError(f"{what}: expected an array [N, 512] of floats, found {type(vectors).__name__}.")
    return array


ON_THE_HOST = (1, 0)
"""DLPack's name of the CPU."""


def _of_other_libraries(vectors: Any) -> NDArray[Any]:
    """Arrays of a GPU brought to the host, of whatever library; the rest as NumPy takes it."""
    if hasattr(vectors, "__dlpack__") and hasattr(vectors, "__dlpack_device__"):
        try:
            return np.from_dlpack(
                vectors, device=None if tuple(vectors.__dlpack_device__()) == ON_THE_HOST else "cpu"
            )
        except (
            RuntimeError,
            BufferError,
            TypeError,
            ValueError,
        ):  # a type that NumPy lacks, or an older protocol
            if not hasattr(vectors, "__array__") or hasattr(vectors, "__cuda_array_interface__"):
                return _through_torch(vectors)
    elif hasattr(vectors, "__cuda_array_interface__"):
        return _through_torch(vectors)
    return np.asarray(vectors)


def _through_torch(vectors: Any) -> NDArray[Any]:
    import torch
    from torch.utils.dlpack import from_dlpack

    from v2f_engine.vectors.containers import from_tensor

    if hasattr(vectors, "__dlpack__"):
        return from_tensor(from_dlpack(vectors))
    return from_tensor(torch.as_tensor(vectors, device="cuda"))


def _check_rows(rows: Float32, what: str, first: int) -> None:
    finite = np.asarray(np.isfinite(rows).all(axis=1))
    refuse_rows(~finite, what, "are not finite (NaN or infinity)", first)
    length = np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))
    refuse_rows(length < SHORTEST, what, f"have zero length (below {SHORTEST:g})", first)
    refuse_rows(length > LONGEST, what, f"are longer than {LONGEST:g}", first)
    if rows.shape[1] > 1:
        constant = np.asarray(np.ptp(rows, axis=1) == 0)
        refuse_rows(constant, what, "are constant (all entries equal)", first)


def refuse_rows(bad: NDArray[np.bool_], what: str, fault: str, first: int = 0) -> None:
    """Raises VectorError naming the rows where `bad` is true, if any."""
    rows = np.flatnonzero(bad) + first
    if rows.size:
        shown = ", ".join(map(str, rows[:10])) + (", ..." if rows.size > 10 else "")
        number, noun = f"{rows.size:,} of {len(bad):,}", "row" if rows.size == 1 else "rows"
        raise VectorError(f"{what}: {number} rows {fault}; {noun} {shown}. Remove or extract them again.")


def row_hashes(rows: Float32) -> NDArray[np.uint64]:
    """uint64 `[N]`: equal rows have equal hashes; unequal rows seldom do."""
    words = np.random.Philox(key=512).random_raw(rows.shape[1]) | np.uint64(1)
    out = np.empty(len(rows), np.uint64)
    for start in range(0, len(rows), BLOCK):
        bits = np.ascontiguousarray(rows[start : start + BLOCK]).view(np.uint32).astype(np.uint64)
        mixed = (bits + np.uint64(0x9E3779B97F4A7C15)) * words
        mixed ^= mixed >> np.uint64(29)
        out[start : start + BLOCK] = (mixed * words).sum(axis=1, dtype=np.uint64)
    return out


def refuse_duplicates(rows: Float32, what: str, first: int = 0) -> None:
    """Raises VectorError if a row repeats an earlier one bit for bit, naming both."""
    hashes = row_hashes(rows)
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    pairs = [(int(order[i]), int(order[i + 1])) for i in same]
    pairs = sorted((later, earlier) for earlier, later in pairs if np.array_equal(rows[earlier], rows[later]))
    if pairs:
        shown = ", ".join(f"{first + later} repeats {first + earlier}" for later, earlier in pairs[:5])
        more = ", ..." if len(pairs) > 5 else ""
        raise VectorError(
            f"{what}: {len(pairs):,} of {len(rows):,} rows are duplicates: row {shown}{more}. "
            "Two identities with one vector are one person: remove the repeats."
        )
