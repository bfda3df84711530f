"""The kept vectors as int8 with error bounds, the form in which `native` compares with them.

A `Chunk` holds up to `capacity` vectors in the layout of csrc/include/v2f/panels.h, beside three float64
numbers each: scale, error bound and length. A `Panels` is a list of chunks; growing opens a new chunk and
copies nothing, so a chunk may be a memory map of any size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_kernels._native import EXTENSION
from v2f_kernels._rows import Float32, Float64, Int64
from v2f_kernels.reject_similar.kept import Kept

PANEL: int = EXTENSION.PANEL
CHUNK = 65536
"""Vectors per chunk unless more are expected: 32 MiB of int8 at 512-d; pages never written cost nothing."""
NO_ROWS: Int64 = np.empty(0, np.int64)


@dataclass
class Chunk:
    """Vectors `first` to `first + count - 1` of the kept ones.

    Attributes:
        panels: uint8 `[capacity / 32, ceil(D / 4), 32, 4]`, each byte q + 128.
        numbers: float64 `[3, capacity]`: scale, error bound, length.
        count: vectors in use.
        first: number of the first vector among all kept ones.
    """

    panels: NDArray[np.uint8]
    numbers: Float64
    dimension: int
    count: int = 0
    first: int = 0

    @classmethod
    def reserve(cls, dimension: int, capacity: int, first: int = 0) -> Chunk:
        panels = -(-capacity // PANEL)
        shape = (panels, -(-dimension // 4), PANEL, 4)
        return cls(np.empty(shape, np.uint8), np.empty((3, panels * PANEL)), dimension, 0, first)

    @property
    def capacity(self) -> int:
        return int(self.numbers.shape[1])

    def writer(self) -> Any:
        """What the extension appends to."""
        return EXTENSION.PanelWriter(self.panels, *self.numbers, self.dimension)

    def view(self, master: Float32, rows: Int64 = NO_ROWS) -> Any:
        """What the extension compares with. Vector j's original is master[rows[j]] (no rows: master[j])."""
        return EXTENSION.PanelSet(self.panels, *self.numbers, master, rows, self.count, self.dimension)

    def write(self, vectors: Float32, threads: int) -> None:
        """Quantises and appends rows `[K, D]`; the caller has made sure that they fit."""
        EXTENSION.write_panels(self.writer(), vectors, self.count, threads)
        self.count += len(vectors)


@dataclass
class Panels:
    """Chunks that together cover the first `len(self)` vectors of a `Kept`."""

    dimension: int
    chunks: list[Chunk] = field(default_factory=list)

    def __len__(self) -> int:
        return self.chunks[-1].first + self.chunks[-1].count if self.chunks else 0

    def room(self, n: int, added_from: int) -> Chunk:
        """A writable last chunk with room for n more vectors; no chunk spans the two parts of a `Kept`."""
        last = self.chunks[-1] if self.chunks else None
        end = len(self)
        if (
            last is None
            or last.count + n > last.capacity
            or not last.panels.flags.writeable
            or last.first < added_from <= end
        ):
            last = Chunk.reserve(self.dimension, max(n, CHUNK), end)
            self.chunks.append(last)
        return last

    def catch_up(self, kept: Kept, threads: int) -> None:
        """Quantises the vectors of `kept` that are not covered yet."""
        for _, rows, _ in kept.blocks(CHUNK, len(self)):
            self.room(len(rows), kept.added_from).write(rows, threads)

    def views(self, kept: Kept) -> Iterator[Any]:
        """What the extension compares with, chunk by chunk, over the vectors of `kept`."""
        parts = [(first, rows) for first, rows, _ in kept.blocks(max(len(kept), 1))]
        for chunk in self.chunks:
            if chunk.count:
                start, rows = next(p for p in reversed(parts) if p[0] <= chunk.first)
                yield chunk.view(rows[chunk.first - start :])


def panels_of(kept: Kept, threads: int) -> Panels:
    """The panels of all vectors of `kept`, made or completed now and remembered in `kept.derived`."""
    panels = kept.derived.setdefault("native", Panels(kept.dimension))
    if not isinstance(panels, Panels) or len(panels) > len(kept):
        found = f"panels of {len(panels)}" if isinstance(panels, Panels) else type(panels).__name__
        raise ValueError(
            f"kept.derived['native']: expected panels of at most the {len(kept)} vectors kept, found {found}; "
            "`derived` belongs to the backends and to one `Kept`: leave it alone, or empty it, and it is made again"
        )
    panels.catch_up(kept, threads)
    return panels
