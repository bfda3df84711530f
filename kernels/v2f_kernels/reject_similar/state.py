"""A rejection on disk: kept vectors with their int8 panels, opened without computing, extended later.

A folder holds `vectors.npy` (float32 `[A, D]`), per chunk `panels-K.npy` (uint8) and `numbers-K.npy` (float64
scale, error bound, length), and `state.json`, written last. A state is written under a temporary name and
moved into place, so a folder is either complete or not there.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np

from v2f_kernels import _native
from v2f_kernels.reject_similar.kept import Kept
from v2f_kernels.reject_similar.panels import PANEL, Chunk, Panels, panels_of

FORMAT = 1
SPOT_CHECKS = 64
"""Vectors per chunk that are quantised anew on opening: the panels must be those of these vectors."""


def save_state(kept: Kept, folder: str | Path, *, threads: int | None = None) -> None:
    """Writes `kept` and its panels to `folder`, which must not exist.

    Raises:
        FileExistsError: there is something of that name.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} exists; a state is written to a new folder")
    panels = panels_of(kept, _native.threads_or_default(threads))
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        kept.save(partial / "vectors.npy")
        chunks = [c for c in panels.chunks if c.count]
        for k, chunk in enumerate(chunks):
            used = -(-chunk.count // PANEL)
            np.save(partial / f"panels-{k}.npy", chunk.panels[:used])
            np.save(partial / f"numbers-{k}.npy", chunk.numbers[:, : chunk.count])
        described = {
            "format": FORMAT,
            "dimension": kept.dimension,
            "chunks": [{"first": c.first, "count": c.count} for c in chunks],
        }
        (partial / "state.json").write_text(json.dumps(described, indent=1))
        for path in partial.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load_state(folder: str | Path, *, memory_map: bool = True) -> Kept:
    """Opens what `save_state` wrote, ready to be extended; with `memory_map` nothing large is read.

    Raises:
        ValueError: a file that is missing or cut, another format, or panels of other vectors.
    """
    folder = Path(folder)
    mode: Literal["r"] | None = "r" if memory_map else None
    try:
        described = json.loads((folder / "state.json").read_text())
        if described["format"] != FORMAT:
            raise ValueError(f"format {described['format']}, and this version reads {FORMAT}")
        dimension = int(described["dimension"])
        vectors = np.load(folder / "vectors.npy", mmap_mode=mode, allow_pickle=False)
        chunks: list[Chunk] = []
        for k, entry in enumerate(described["chunks"]):
            panels = np.load(folder / f"panels-{k}.npy", mmap_mode=mode, allow_pickle=False)
            numbers = np.load(folder / f"numbers-{k}.npy", allow_pickle=False)
            chunk = Chunk(panels, numbers, dimension, int(entry["count"]), int(entry["first"]))
            _check_chunk(chunk, vectors, sum(c.count for c in chunks))
            chunks.append(chunk)
        if sum(c.count for c in chunks) != len(vectors):
            raise ValueError(f"panels of {sum(c.count for c in chunks)} vectors for {len(vectors)} vectors")
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} is not a complete rejection state: {error}") from error
    norms = np.concatenate([c.numbers[2] for c in chunks]) if chunks else np.empty(0)
    kept = Kept(dimension, base=vectors, base_norms=norms)
    kept.derived["native"] = Panels(dimension, chunks)
    return kept


def _check_chunk(chunk: Chunk, vectors: Any, first: int) -> None:
    """Shapes, numbers, and a few vectors quantised anew."""
    shape = (-(-chunk.count // PANEL), -(-chunk.dimension // 4), PANEL, 4)
    if chunk.panels.shape != shape or chunk.panels.dtype != np.uint8:
        raise ValueError(f"panels must be uint8 {shape}, found {chunk.panels.dtype} {chunk.panels.shape}")
    if chunk.numbers.shape != (3, chunk.count) or chunk.numbers.dtype != np.float64:
        raise ValueError(f"numbers must be float64 (3, {chunk.count}), found {chunk.numbers.shape}")
    if not (np.isfinite(chunk.numbers).all() and (chunk.numbers > 0).all()):
        raise ValueError("scales, error bounds and lengths must be finite and positive")
    if chunk.first != first or vectors.shape[1:] != (chunk.dimension,):
        raise ValueError(f"chunk at {chunk.first}, expected {first}; vectors {vectors.shape}")
    some = np.unique(np.linspace(0, chunk.count - 1, SPOT_CHECKS).astype(np.int64))
    again = Chunk.reserve(chunk.dimension, len(some))
    again.write(np.ascontiguousarray(vectors[chunk.first + some]), 1)
    lanes = np.arange(len(some))
    bytes_ = chunk.panels[some // PANEL, :, some % PANEL]
    if not np.array_equal(again.panels[lanes // PANEL, :, lanes % PANEL], bytes_) or not np.array_equal(
        again.numbers[:, : len(some)], chunk.numbers[:, some]
    ):
        raise ValueError("the panels were made from other vectors")
