"""`nearest_cosine` on the CPU: the int8 screen keeps what may be best, exact cosines pick one.

Differences from the contract: `threads` and `isa` as in `reject_similar.native`, and the same answer. The
gallery is quantised block by block, each block once; memory beyond the inputs is block * (D + 24) bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from v2f_kernels import _native
from v2f_kernels._native import EXTENSION
from v2f_kernels._rows import Float64, Int64, as_rows, blocks, check_gallery
from v2f_kernels.reject_similar.panels import Chunk

QUERIES = 8192
BLOCK = 65536


def nearest_cosine(
    queries: Any, gallery: Any, *, block: int | None = None, threads: int | None = None, isa: str = ""
) -> tuple[Float64, Int64]:
    """Largest cosine of each query and its gallery row; the contract is in this folder's `__init__.py`."""
    x, y = as_rows("queries", queries), as_rows("gallery", gallery)
    check_gallery(x, y, block)
    n_threads = _native.threads_or_default(threads)
    options = _native.options(n_threads, isa)
    for first, some in blocks(x, QUERIES):
        _native.lengths("queries", some, n_threads, first)
    cosine, index = np.full(len(x), -np.inf), np.full(len(x), -1, np.int64)
    for first, others in blocks(y, block or BLOCK):
        _native.lengths("gallery", others, n_threads, first)
        chunk = Chunk.reserve(x.shape[1], len(others))
        chunk.write(others, n_threads)
        for start, some in blocks(x, QUERIES):
            part = slice(start, start + len(some))
            EXTENSION.nearest(some, chunk.view(others), first, cosine[part], index[part], options)
    return cosine, index
