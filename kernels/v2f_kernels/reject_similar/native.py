"""`reject_similar` on the CPU: int8 screening with a proof, exact cosines where it leaves doubt.

Differences from the contract: more keywords, no other answer.
    threads: OpenMP threads; None is OpenMP's default.
    progress: called as progress(candidates done, candidates in all, vectors kept) after each block.
    isa: "avx512vnni", "avxvnni", "avx2" or "scalar"; "" is the fastest of this processor.
    shard: divides the accepted vectors over processes; `kept` then holds this process's part.

Without `kept` and `shard` no copy of the float32 rows is made: beside the input, D + 32 bytes are used for
a kept vector. Method and bounds: csrc/include/v2f/panels.h and csrc/include/v2f/reject.h.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from v2f_kernels import _native
from v2f_kernels._native import EXTENSION
from v2f_kernels._rows import Float32, Int64, as_rows, blocks, check
from v2f_kernels.reject_similar.kept import Kept
from v2f_kernels.reject_similar.panels import Chunk, panels_of
from v2f_kernels.reject_similar.progress import Progress, silent
from v2f_kernels.reject_similar.shard import ALONE, Shard

BLOCK = 4096
STRIP = 4096
"""Candidates resolved among themselves at once: two bit matrices of 2 MiB."""


def reject_similar(
    vectors: Any,
    max_cosine: float,
    *,
    kept: Kept | None = None,
    block: int | None = None,
    threads: int | None = None,
    progress: Progress = silent,
    isa: str = "",
    shard: Shard = ALONE,
) -> Int64:
    """Indices of the kept rows; the contract is in this folder's `__init__.py`."""
    rows = as_rows("vectors", vectors)
    check(max_cosine, block)
    if kept is not None:
        kept.check(rows.shape[1])
    n_threads = _native.threads_or_default(threads)
    options = _native.options(n_threads, isa)
    size = block or BLOCK
    if kept is None and shard is ALONE:
        return _alone(rows, max_cosine, size, n_threads, progress, options)
    store = Kept(rows.shape[1]) if kept is None else kept
    return _joined(rows, max_cosine, store, size, n_threads, progress, options, shard)


def _strips(n: int) -> Iterator[slice]:
    """The order in which a block is resolved: from the first candidate to the last."""
    for start in range(0, n, STRIP):
        yield slice(start, min(n, start + STRIP))


def _alone(
    rows: Float32,
    max_cosine: float,
    block: int,
    threads: int,
    progress: Progress,
    options: Any,
) -> Int64:
    """Nothing kept before: the input itself is where the originals of kept rows are found."""
    rows = np.ascontiguousarray(rows)
    chunk = Chunk.reserve(rows.shape[1], len(rows))
    index = np.empty(len(rows), np.int64)
    for first, candidates in blocks(rows, block):
        _native.lengths("vectors", candidates, threads, first)
        rejected = np.zeros(len(candidates), np.uint8)
        before = chunk.count
        if before:
            EXTENSION.screen(candidates, rejected, max_cosine, chunk.view(rows, index), 0, options)
        for part in _strips(len(candidates)):
            if chunk.count > before:
                view = chunk.view(rows, index)
                EXTENSION.screen(candidates[part], rejected[part], max_cosine, view, before, options)
            added = EXTENSION.resolve(
                candidates[part], rejected[part], max_cosine, chunk.writer(), chunk.count, options
            )
            accepted = first + part.start + np.flatnonzero(rejected[part] == 0)
            index[chunk.count : chunk.count + added] = accepted
            chunk.count += added
        progress(first + len(candidates), len(rows), chunk.count)
    return index[: chunk.count].copy()


def _joined(
    rows: Float32,
    max_cosine: float,
    kept: Kept,
    block: int,
    threads: int,
    progress: Progress,
    options: Any,
    shard: Shard,
) -> Int64:
    """Compared with `kept` as well, and appended to it."""
    panels = panels_of(kept, threads)
    size, accepted = min(block, STRIP), []
    elsewhere = Chunk.reserve(kept.dimension, size)
    for number, (first, candidates) in enumerate(blocks(rows, size)):
        norms = _native.lengths("vectors", candidates, threads, first)
        rejected = np.zeros(len(candidates), np.uint8)
        for view in panels.views(kept):
            EXTENSION.screen(candidates, rejected, max_cosine, view, 0, options)
        shard.unite(rejected)
        mine = shard.owns(number)
        chunk = panels.room(len(candidates), kept.added_from) if mine else elsewhere
        added = EXTENSION.resolve(candidates, rejected, max_cosine, chunk.writer(), chunk.count, options)
        alive = np.flatnonzero(rejected == 0)
        if mine:
            chunk.count += added
            kept.append(candidates[alive], norms[alive])
        accepted.append(first + alive)
        progress(first + len(candidates), len(rows), len(kept))
    return np.concatenate(accepted) if accepted else np.empty(0, np.int64)
