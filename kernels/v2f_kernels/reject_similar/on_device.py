"""`reject_similar` on an NVIDIA GPU: int8 tensor cores; only flags and accepted rows leave the kernels.

Differences from the contract:
    vectors: may also be a CUDA tensor, and then the answer is one. Without `kept` that tensor itself serves
        as the originals: no copy is made. Rows elsewhere are uploaded block by block.
    kept: stays on the host and carries its device copy along in `kept.derived["cupy"]`.
    device: where to run; by default where `vectors` is, else the current CUDA device.
    progress: called as progress(candidates done, in all, kept), which makes the host wait for each block.
    shard: a `Shard`, to divide the accepted vectors over processes; `kept` then holds this process's part.
Kernels: reject.cu.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from v2f_kernels._cuda import tiles as tiles_module
from v2f_kernels._cuda.launch import CupyLauncher, Launcher
from v2f_kernels._cuda.tiles import TILE, WARPS, Tiles, no_bad, parts, refuse_bad, rows_of, tiles
from v2f_kernels._rows import Float64, Int64, check
from v2f_kernels.reject_similar.kept import Kept
from v2f_kernels.reject_similar.progress import Progress, silent
from v2f_kernels.reject_similar.shard import ALONE, Shard

SOURCE = Path(__file__).parent / "reject.cu"


def _constant(name: str) -> int:
    """`constexpr int NAME = N;` of the kernels' source."""
    found = re.search(rf"constexpr int {name} = (\d+);", SOURCE.read_text())
    if found is None:
        raise LookupError(f"{SOURCE.name} defines no number {name}")
    return int(found[1])


MOST = 32 * _constant("kMostWords")
"""Candidates per block that the kernel `resolve` holds as bits, 32 to a word."""
RESOLVE_THREADS = _constant("kResolveThreads")


def launcher(device: torch.device, dimension: int) -> Launcher:
    """Tests replace this by one that runs the same kernels on the CPU."""
    return CupyLauncher.on(device, SOURCE, dimension, frozenset({"screen", "triangle"}))


def reject_similar(
    vectors: Any,
    max_cosine: float,
    *,
    kept: Kept | None = None,
    block: int | None = None,
    device: str | torch.device | None = None,
    progress: Progress = silent,
    shard: Shard = ALONE,
) -> Int64 | torch.Tensor:
    """Indices of the kept rows; the contract is in this folder's `__init__.py`."""
    on_gpu, rows = rows_of("vectors", vectors)
    check(max_cosine, block)
    if kept is not None:
        kept.check(rows.shape[1])
    launch = launcher(torch.device(device or (rows.device if on_gpu else "cuda")), rows.shape[1])
    # A quarter of the processors' worth of candidates, the kept set cut in four: none is idle.
    size = min(block or launch.shape.block * max(1, launch.processors // 4), MOST, max(len(rows), 1))
    run = _Run(launch, rows, float(max_cosine), size, kept, shard)
    for number, first in enumerate(range(0, len(rows), size)):
        run.block(number, first, min(len(rows), first + size))
        if progress is not silent:
            progress(min(len(rows), first + size), len(rows), int(run.store.tiles.count))
    accepted = run.end()
    return accepted if on_gpu else np.asarray(accepted.cpu().numpy())


@dataclass
class _Store:
    """The accepted vectors on the device; `own` originals, or rows of the caller's tensor."""

    tiles: Tiles
    own: bool
    index: torch.Tensor

    @classmethod
    def borrowing(cls, launch: Launcher, rows: torch.Tensor) -> _Store:
        index = torch.zeros(max(len(rows), 1), dtype=torch.int64, device=launch.device)
        return cls(Tiles.reserve(launch, len(index), rows, index), False, index)

    @classmethod
    def owning(cls, launch: Launcher, capacity: int) -> _Store:
        shape = (max(capacity, 1), launch.shape.dimension)
        master = torch.empty(shape, dtype=torch.float32, device=launch.device)
        store = Tiles.reserve(launch, shape[0], master)
        return cls(store, True, torch.zeros(shape[0], dtype=torch.int64, device=launch.device))

    def grown(self, launch: Launcher, capacity: int, used: int) -> _Store:
        """Itself, or a copy with more room, at least doubled."""
        if capacity <= len(self.index):
            return self
        bigger = _Store.owning(launch, max(capacity, 2 * len(self.index)))
        new, old = bigger.tiles, self.tiles
        n = tiles(used)
        for name in ("scale", "error", "norm"):
            getattr(new, name)[: n * TILE] = getattr(old, name)[: n * TILE]
        new.bounds[:n] = old.bounds[:n]
        new.q.view(-1)[: n * (len(old.q) // tiles(old.capacity))] = old.q[
            : n * (len(old.q) // tiles(old.capacity))
        ]
        new.master[:used] = old.master[:used]
        new.count.copy_(old.count)
        return bigger


class _Run:
    """One call: the blocks' buffers, the flags of all candidates, the store."""

    def __init__(
        self,
        launch: Launcher,
        rows: torch.Tensor,
        max_cosine: float,
        size: int,
        kept: Kept | None,
        shard: Shard,
    ) -> None:
        where = launch.device
        self.launch, self.rows, self.max_cosine, self.kept, self.shard = launch, rows, max_cosine, kept, shard
        self.rejected = torch.zeros(len(rows), dtype=torch.uint8, device=where)
        self.candidates = Tiles.reserve(launch, size, rows)
        words = -(-size // 32)
        self.mask = torch.zeros(size * words, dtype=torch.int32, device=where)
        self.flagged = torch.zeros(words, dtype=torch.int32, device=where)
        self.position = torch.zeros(size, dtype=torch.int32, device=where)
        self.start, self.elsewhere = (torch.zeros(1, dtype=torch.int32, device=where) for _ in range(2))
        self.bad = no_bad(where)
        if kept is not None:
            self.store = self._store_of(kept, len(rows), size)
        elif rows.device == where and rows.is_contiguous():
            self.store = _Store.borrowing(launch, rows)
        else:
            self.store = _Store.owning(launch, len(rows))
        self.before = len(kept) if kept is not None else 0
        self.most = self.before
        """Rows the store holds at most; the device alone knows how many it holds."""

    def _store_of(self, kept: Kept, more: int, size: int) -> _Store:
        """The device copy of `kept`, completed, with room for `more` rows."""
        store = kept.derived.get("cupy") or _Store.owning(self.launch, len(kept) + more)
        used = int(store.tiles.count)
        if used > len(kept) or store.tiles.count.device != self.launch.device:
            raise ValueError(f"kept.derived['cupy'] holds {used} vectors of {len(kept)}, or is elsewhere")
        store = store.grown(self.launch, len(kept) + more, used)
        for first, rows, _ in kept.blocks(size, used):
            self.candidates.quantise(self.launch, self._here(torch.as_tensor(rows)), first, self.bad)
            torch.arange(first, first + len(rows), dtype=torch.int32, out=self.position[: len(rows)])
            self._append(store, len(rows), first)
            self.start.fill_(first)
            store.tiles.count.fill_(first + len(rows))
            store.tiles.bound(self.launch, tiles(len(rows)) + 1, self.start)
        refuse_bad("kept", self.bad)
        kept.derived["cupy"] = store
        return store

    def _here(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.to(self.launch.device).contiguous()

    def _append(self, store: _Store, n: int, first: int) -> None:
        to, grid = store.tiles, (-(-n // WARPS), 1)
        where = (to.q, to.scale, to.error, to.norm, to.master if store.own else None, store.index)
        self.launch(
            "append",
            grid,
            32 * WARPS,
            *self.candidates.side,
            np.int32(n),
            np.int64(first),
            self.position,
            *where,
        )

    def block(self, number: int, first: int, last: int) -> None:
        """Candidates first .. last - 1; enqueued, not waited for."""
        launch, store, n = self.launch, self.store.tiles, last - first
        self.candidates.quantise(launch, self._here(self.rows[first:last]), first, self.bad)
        flags, blocks = self.rejected[first:last], -(-n // launch.shape.block)
        size, t, scale = np.int32(n), np.float64(self.max_cosine), tiles_module.bound_scale()
        if self.most:
            grid = (blocks, parts(launch, n, tiles(self.most)))
            compared = (*store.side, store.count, store.bounds)
            launch(
                "screen", grid, launch.shape.threads, *self.candidates.side, size, *compared, t, scale, flags
            )
        self.shard.unite(flags)
        words = -(-n // 32)
        self.mask[: n * words] = 0
        self.flagged.zero_()
        found, width = (self.mask, self.flagged), np.int32(words)
        launch(
            "triangle",
            (blocks, parts(launch, n, tiles(n))),
            launch.shape.threads,
            *self.candidates.side,
            size,
            self.candidates.bounds,
            t,
            scale,
            flags,
            *found,
            width,
        )
        mine = self.shard.owns(number)
        count = store.count if mine else self.elsewhere
        launch(
            "resolve", (1, 1), RESOLVE_THREADS, size, flags, *found, width, self.position, self.start, count
        )
        if mine:
            self._append(self.store, n, first)
            store.bound(launch, tiles(n) + 1, self.start)
            self.most += n

    def end(self) -> torch.Tensor:
        """int64 `[A]` on the device: the accepted rows. Waits for the device and completes `kept`."""
        try:
            refuse_bad("vectors", self.bad)
        except ValueError:
            self.store.tiles.count.fill_(self.before)
            raise
        accepted = torch.nonzero(self.rejected == 0).flatten()
        if self.kept is not None:
            after = int(self.store.tiles.count)
            new = slice(self.before, after)
            chosen = self.rows[self.store.index[new].to(self.rows.device)]
            norms: Float64 = self.store.tiles.norm[new].cpu().numpy()
            self.kept.append(chosen.cpu().numpy(), norms)
        return accepted
