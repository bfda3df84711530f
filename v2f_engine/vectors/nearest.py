"""Each identity's nearest other identity of its whole table: what a guarded cone has to know of it.

By halves: the rows of the left half against those of the right one and back, then each half by itself. So no row meets
itself, every pair is looked at once in either direction, and all but pairs within `LEAF` rows go through the op
`nearest_cosine`: N^2 products of 512 in all, twice what greedy rejection of the same table costs. The answer is exact
in the float64 cosine, hence the same bits by any backend, with any threads, and however a table lies in memory.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from v2f_kernels import _cosine

from v2f_engine.backends import function
from v2f_engine.errors import ConfigError, VectorError
from v2f_engine.ranges import doing
from v2f_engine.vectors.files import read_tensors, reading, tensor_bytes
from v2f_engine.vectors.gate import row_hashes

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

LEAF = 16
"""Rows whose 120 pairs are computed at once (1 ms of one core); a call of the op for fewer costs half of that."""
WIDEST = 1024
"""Entries of a row that the op takes: its error bound holds up to there."""
FORMAT = "v2f-nearest/1"


def nearest_other(vectors: Float32, backend: str = "auto") -> Float64:
    """float64 `[N]` in [-1, 1]: each row's largest cosine to another row; -1 where there is no other.

    Args:
        vectors: float32 `[N, D]`, as `gate.check_vectors` lets them pass; a memory map is read log2(N / 16) times.
        backend: of `nearest_cosine`; speed only.

    Raises:
        VectorError: more than `WIDEST` entries a row.
    """
    if vectors.shape[1] > WIDEST:
        raise VectorError(
            f"identities: expected vectors of at most {WIDEST:,} entries, up to which all products are exact, found "
            f"{vectors.shape[1]:,}."
        )
    best = np.full(len(vectors), -1.0)
    nearest = function("nearest_cosine", backend)
    todo = [(0, len(vectors))]
    while todo:
        first, last = todo.pop()
        if last - first <= LEAF:
            _among(vectors[first:last], best[first:last])
            continue
        middle = (first + last) // 2
        left, right = slice(first, middle), slice(middle, last)
        for own, others in ((left, right), (right, left)):
            np.maximum(best[own], nearest(vectors[own], vectors[others])[0], out=best[own])
        todo += [(first, middle), (middle, last)]
    return np.asarray(np.clip(best, -1.0, 1.0))


def _among(rows: Float32, best: Float64) -> None:
    """Raises `best` to what the pairs among a few rows give."""
    left, right = np.triu_indices(len(rows), 1)
    cosines = _cosine.cosine(rows[left], rows[right])
    np.maximum.at(best, left, cosines)
    np.maximum.at(best, right, cosines)


@dataclass(frozen=True, eq=False)
class Nearest:
    """How near each identity of a table has another one, kept by the identities' keys.

    Args:
        keys: int64 `[N]`, ascending: what keys an identity's images (`Identities.keys`).
        cosine: float64 `[N]`, of each to the nearest other.
        hashes: uint64 `[N]`, of each vector (`gate.row_hashes`): whose cosines these are.
    """

    keys: NDArray[np.int64]
    cosine: Float64
    hashes: NDArray[np.uint64]

    @classmethod
    def of(cls, vectors: Float32, keys: NDArray[np.int64], backend: str = "auto") -> Nearest:
        """Of a whole table; the table asked last is remembered by its content, since it is asked for shard by shard."""
        hashes = row_hashes(vectors)
        last = _LAST[0] if _LAST else None
        if last is not None and np.array_equal(last[0], hashes):
            cosine = last[1]
        else:
            doing(lambda: f"looking for the nearest other of each of {len(vectors):,} identities")
            cosine = nearest_other(vectors, backend)
            _LAST[:] = [(hashes, cosine)]
        order = np.argsort(keys, kind="stable")
        return cls(np.asarray(keys, np.int64)[order], cosine[order], hashes[order])

    def places(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64 `[B]`: where these keys stand.

        Raises:
            ConfigError: one that is not in the table.
        """
        place = np.minimum(np.searchsorted(self.keys, keys), max(0, len(self.keys) - 1))
        if not len(self.keys) or (lost := self.keys[place] != keys).any():
            first = keys[0] if not len(self.keys) else keys[np.flatnonzero(lost)[0]]
            raise ConfigError(
                f"perturbation: identity {first} is not in the table of {len(self.keys):,} identities that the guard "
                "knows. Give a perturbation that was told of no other table: Perturbation.cone(...)."
            )
        return np.asarray(place, np.int64)

    def check(self, vectors: Float32, keys: NDArray[np.int64]) -> None:
        """Raises ConfigError unless these identities are in the table, with these vectors."""
        other = self.hashes[self.places(keys)] != row_hashes(vectors)
        if other.any():
            rows = np.flatnonzero(other)
            raise ConfigError(
                f"perturbation: {len(rows):,} of {len(vectors):,} identities have other vectors than in the table that "
                f"the guard knows, e.g. identity {keys[rows[0]]}. Give a perturbation that was told of no other table: "
                "Perturbation.cone(...)."
            )

    @property
    def sha256(self) -> str:
        """Of keys and cosines: what a manifest says of them."""
        digest = hashlib.sha256(FORMAT.encode())
        digest.update(np.ascontiguousarray(self.keys, "<i8").data)
        digest.update(np.ascontiguousarray(self.cosine, "<f8").data)
        return digest.hexdigest()

    def to_bytes(self) -> bytes:
        """A safetensors file: `keys`, `cosine` and `hashes` (as int64)."""
        tensors = {"keys": self.keys, "cosine": self.cosine, "hashes": self.hashes.view(np.int64)}
        return tensor_bytes(tensors, {"format": FORMAT})

    @classmethod
    def load(cls, path: Path, sha256: str | None = None) -> Nearest:
        """Reads what `to_bytes` gave.

        Args:
            sha256: of the manifest that it belongs to; None where nobody says.

        Raises:
            VectorError: missing, broken, or not what `sha256` says.
        """
        tensors, _ = read_tensors(path, FORMAT)
        with reading(path, "Run the command that made it again."):
            found = cls(tensors["keys"], tensors["cosine"], tensors["hashes"].view(np.uint64))
        types = [array.dtype.name for array in (found.keys, found.cosine, found.hashes)]
        shapes = {array.shape for array in (found.keys, found.cosine, found.hashes)}
        if types != ["int64", "float64", "uint64"] or len(shapes) != 1 or found.keys.ndim != 1:
            raise VectorError(
                f"{path}: keys, cosines and hashes do not fit each other: {types}, {sorted(shapes)}. Run the command "
                "that made the dataset again."
            )
        if sha256 is not None and found.sha256 != sha256:
            raise VectorError(
                f"{path}: has sha256 {found.sha256[:12]}, the manifest says {sha256[:12]}: the file was changed. Run "
                "the command that made the dataset again."
            )
        return found


_LAST: list[tuple[NDArray[np.uint64], Float64]] = []
"""(hashes, cosines) of the table asked last: a pure function's memory, 16 bytes an identity."""
