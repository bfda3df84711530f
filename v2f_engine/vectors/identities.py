"""The identity table: vectors and how they came about, on disk as safetensors with a hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.atomic import write_atomically
from v2f_engine.errors import OutputFolderError, VectorError
from v2f_engine.vectors.files import read_tensors, save_npy, tensor_bytes
from v2f_engine.vectors.gate import check_vectors

FORMAT = "v2f-identities/1"
ENDINGS = (".safetensors", ".npy")
"""What a table may be saved as: whole, or its vectors alone."""
BYTES_PER_IDENTITY = 512 * 4 + 8
"""On disk: a vector and its candidate."""


@dataclass(frozen=True)
class Identities:
    """Identity vectors and how they came about: the input of generation.

    Args:
        vectors: float32 `[N, 512]`, not of unit length.
        candidate: int64 `[N]`, ascending: which candidate of the stream each identity is.
        provenance: JSON values: source, source_sha256, seed, max_cosine, exclude, candidates_drawn; the `model` that
            they were sampled for; for tables proven on their faces `faces` and `noise`; for given vectors
            `rescaled_to`, a length, and `held_apart`, what they were compared with.

    Raises:
        VectorError: shapes or dtypes that do not fit.
    """

    vectors: NDArray[np.float32]
    candidate: NDArray[np.int64]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        vectors, candidate = self.vectors, self.candidate
        fits = vectors.ndim == 2 and vectors.dtype == np.float32
        if not fits or candidate.shape != vectors.shape[:1] or candidate.dtype != np.int64:
            raise VectorError(
                f"expected vectors float32 [N, D] and candidate int64 [N], found {vectors.dtype} "
                f"{list(vectors.shape)} and {candidate.dtype} {list(candidate.shape)}."
            )

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def keys(self) -> NDArray[np.int64]:
        """int64 `[N]`: the number that keys an identity's random numbers when its images are made.

        Its row; or its candidate, where provenance says `"noise": "candidate"`. Then images do not change
        when identities before it are dropped, so that what was seen on the faces stays true of the table.
        """
        return self.candidate if self.provenance.get("noise") == "candidate" else np.arange(len(self))

    def part(self, rows: slice | NDArray[np.int64]) -> Identities:
        """The identities in `rows`, with the same provenance."""
        return replace(self, vectors=self.vectors[rows], candidate=self.candidate[rows])

    @classmethod
    def from_vectors(
        cls, vectors: Any, name: str = "given vectors", dimension: int | None = None
    ) -> Identities:
        """A table of vectors from elsewhere, after `gate.check_vectors`."""
        rows = check_vectors(vectors, name, dimension=dimension)
        return cls(rows, np.arange(len(rows), dtype=np.int64), {"source": name})

    @property
    def table_hash(self) -> str:
        """sha256 of vectors, candidates and provenance: equal tables, equal hash, on every machine."""
        digest = hashlib.sha256(f"{FORMAT} {self.vectors.shape} ".encode())
        digest.update(json.dumps(dict(self.provenance), sort_keys=True).encode())
        digest.update(np.ascontiguousarray(self.vectors, "<f4").data)
        digest.update(np.ascontiguousarray(self.candidate, "<i8").data)
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """JSON values for manifests."""
        return {"count": len(self), "table_hash": self.table_hash, **self.provenance}

    def save(self, path: str | Path) -> None:
        """Writes a safetensors file, atomically, with the table's hash in its metadata; a `.npy` of the vectors alone.

        Raises:
            DiskFull, OutputFolderError: it cannot be written, or ends otherwise.
        """
        path = Path(path)
        if path.suffix not in ENDINGS:
            raise OutputFolderError(
                f"{path}: expected a name that ends in .safetensors (the whole table) or .npy (its vectors alone), "
                f"found {path.suffix or 'no ending'!r}."
            )
        if path.suffix == ".npy":
            save_npy(path, self.vectors)
        else:
            write_atomically(path, self.to_bytes())

    def to_bytes(self) -> bytes:
        """What `save` writes: equal tables, equal bytes."""
        about = json.dumps({"provenance": dict(self.provenance), "table_hash": self.table_hash})
        tensors: dict[str, NDArray[Any]] = {"vectors": self.vectors, "candidate": self.candidate}
        return tensor_bytes(tensors, {"format": FORMAT, "about": about})

    @classmethod
    def load(cls, path: str | Path) -> Identities:
        """Reads what `save` wrote and checks its hash.

        Raises:
            VectorError: missing, truncated, foreign or changed, or vectors that do not pass the gate.
        """
        tensors, metadata = read_tensors(path, FORMAT)
        try:
            about = json.loads(metadata["about"])
            table = cls(tensors["vectors"], tensors["candidate"], about["provenance"])
            expected = about["table_hash"]
        except (KeyError, TypeError, ValueError) as error:
            raise VectorError(f"{path}: incomplete identity table ({error!r}). Sample it again.") from error
        if table.table_hash != expected:
            raise VectorError(f"{path}: contents do not match hash {expected[:12]}: the file was changed.")
        check_vectors(table.vectors, str(path), dimension=None)
        return table
