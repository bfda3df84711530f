"""`similar_to_earlier` on the CPU: all rows as int8 panels, each block screened against those before it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_kernels import _native
from v2f_kernels._native import EXTENSION
from v2f_kernels._rows import as_rows, blocks, check
from v2f_kernels.reject_similar.native import BLOCK
from v2f_kernels.reject_similar.panels import Chunk
from v2f_kernels.reject_similar.progress import Progress, silent


def similar_to_earlier(
    vectors: Any,
    max_cosine: float,
    *,
    block: int | None = None,
    threads: int | None = None,
    progress: Progress = silent,
    isa: str = "",
) -> NDArray[np.bool_]:
    """bool `[N]`: similar to an earlier row, kept or not; the contract is in this folder's `__init__.py`."""
    rows = np.ascontiguousarray(as_rows("vectors", vectors))
    check(max_cosine, block)
    n_threads = _native.threads_or_default(threads)
    options = _native.options(n_threads, isa)
    chunk = Chunk.reserve(rows.shape[1], len(rows))
    similar = np.zeros(len(rows), np.uint8)
    for first, candidates in blocks(rows, block or BLOCK):
        _native.lengths("vectors", candidates, n_threads, first)
        part = similar[first : first + len(candidates)]
        if first:
            EXTENSION.screen(candidates, part, max_cosine, chunk.view(rows), 0, options)
        chunk.write(candidates, n_threads)
        EXTENSION.similar_to_earlier(candidates, part, max_cosine, chunk.view(rows), first, options)
        progress(first + len(candidates), len(rows), int(np.count_nonzero(similar == 0)))
    return similar.astype(bool)
