"""The accepted vectors of a rejection: grown by every call, saved, memory-mapped, extended later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from v2f_kernels._rows import Float32, Float64, as_rows, lengths


class Kept:
    """Accepted vectors and their lengths, in order of acceptance.

    Two parts: `base`, fixed when made and possibly a memory map of any size, and rows added since, in one
    buffer that doubles when full (`capacity` rows are reserved; untouched pages cost nothing).

    Attributes:
        derived: backend name -> whatever that backend computes from the rows (quantised copies, error
            bounds). A backend brings its own entry up to `len(self)` rows when called; `save` leaves it out
            (`state.save_state` keeps it).
    """

    def __init__(
        self,
        dimension: int = 512,
        *,
        capacity: int = 1024,
        base: Float32 | None = None,
        base_norms: Float64 | None = None,
    ) -> None:
        self.dimension = dimension
        self._base = np.empty((0, dimension), np.float32) if base is None else as_rows("kept", base)
        if self._base.shape[1] != dimension:
            raise ValueError(f"kept rows must have {dimension} entries, found {self._base.shape[1]}")
        self._base_norms = lengths("kept", self._base) if base_norms is None else base_norms
        self._rows = np.empty((capacity, dimension), np.float32)
        self._norms = np.empty(capacity, np.float64)
        self._added = 0
        self.derived: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self._base) + self._added

    @property
    def added_from(self) -> int:
        """Number of the first vector that is not part of `base`."""
        return len(self._base)

    @property
    def vectors(self) -> Float32:
        """float32 `[A, D]`: a view when one part is empty, otherwise a copy."""
        added = self._rows[: self._added]
        if not len(self._base):
            return added
        return np.concatenate([self._base, added]) if self._added else self._base

    @property
    def norms(self) -> Float64:
        """float64 `[A]`: length of each vector."""
        return np.concatenate([self._base_norms, self._norms[: self._added]])

    def check(self, dimension: int) -> None:
        """Raises ValueError unless candidates of `dimension` entries can be compared with these vectors."""
        if dimension != self.dimension:
            raise ValueError(
                f"vectors must have the {self.dimension} entries of the kept rows, found {dimension}"
            )

    def append(self, vectors: Float32, norms: Float64) -> None:
        """Adds rows `[K, D]` with their lengths `[K]`."""
        end = self._added + len(vectors)
        if end > len(self._rows):
            self._grow(max(end, 2 * len(self._rows)))
        self._rows[self._added : end] = vectors
        self._norms[self._added : end] = norms
        self._added = end

    def reserve(self, rows: int) -> None:
        """Room for `rows` vectors in all, so that appending up to there copies nothing."""
        if rows - len(self._base) > len(self._rows):
            self._grow(rows - len(self._base))

    def _grow(self, capacity: int) -> None:
        for name in ("_rows", "_norms"):
            old = getattr(self, name)
            grown = np.empty((capacity, *old.shape[1:]), old.dtype)
            grown[: self._added] = old[: self._added]
            setattr(self, name, grown)

    def blocks(self, size: int, start: int = 0) -> Iterator[tuple[int, Float32, Float64]]:
        """(first row, vectors `[<= size, D]`, lengths) from row `start` on; no block spans both parts."""
        parts = (
            (0, self._base, self._base_norms),
            (len(self._base), self._rows[: self._added], self._norms[: self._added]),
        )
        for offset, rows, norms in parts:
            for first in range(max(0, start - offset), len(rows), size):
                yield (
                    offset + first,
                    np.ascontiguousarray(rows[first : first + size]),
                    norms[first : first + size],
                )

    def save(self, path: str | Path) -> None:
        """Writes the vectors as one `.npy` file, so that `Kept.load` can memory-map it."""
        header = {"descr": "<f4", "fortran_order": False, "shape": (len(self), self.dimension)}
        with open(path, "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for _, rows, _ in self.blocks(8192):
                file.write(rows.astype("<f4", copy=False).tobytes())

    @classmethod
    def load(cls, path: str | Path, *, memory_map: bool = True) -> Kept:
        """Reads what `save` wrote; with `memory_map` the rows stay on disk. Lengths are computed anew."""
        base = np.load(path, mmap_mode="r" if memory_map else None, allow_pickle=False)
        return cls(base.shape[-1], base=base)
