"""The identity table: vectors and how they came about, on disk as safetensors with a hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from v2f_engine import notebook
from v2f_engine.arguments import COUNT, PATH, VECTORS, WORD, takes
from v2f_engine.atomic import write_atomically
from v2f_engine.errors import OutputFolderError, VectorError
from v2f_engine.indexing import Rows, chosen
from v2f_engine.vectors.files import read_tensors, reading, save_npy, tensor_bytes, text_told
from v2f_engine.vectors.gate import check_vectors

FORMAT = "v2f-identities/1"
ENDINGS = (".safetensors", ".npy")
"""What a table may be saved as: whole, or its vectors alone."""
BYTES_PER_IDENTITY = 512 * 4 + 8
"""On disk: a vector and its candidate."""
PART_OF = "part_of"
"""In the provenance of rows chosen from a table: how many identities that table has."""
SHOWN = 200
"""Letters of a text of the provenance that a line about the table shows."""
HASHED_UNASKED = 1 << 28
"""Bytes of vectors up to which a notebook is told the hash: 256 MB are 0.2 s."""


@dataclass(frozen=True, eq=False)
class Identities:
    """Identity vectors and how they came about: the input of generation.

    A sequence of its vectors: `table[3]`, `for vector in table` and `np.asarray(table)` give float32; `table[10:20]`, a
    mask or row numbers a smaller table. Each identity keeps the number that keys its noise (`keys`), so the images of
    `table[10:20]` made alone are those of identities 10 to 19 of the whole, to the byte; only what counts over a
    whole run (`mask_batch` above 1, `sigma_shares="exact"`, a pose network's `turns="run"`) starts anew, and labels
    count from 0.
    Equal are tables of equal vectors, keys and provenance.

    Args:
        vectors: float32 `[N, 512]`, not of unit length.
        candidate: int64 `[N]`, which candidate of the stream each identity is; ascending where nobody chose otherwise.
        provenance: JSON values: source, source_sha256, seed, max_cosine, exclude, candidates_drawn; the `model` that
            they were sampled for; for tables proven on their faces `faces` and `noise`; for given vectors
            `rescaled_to`, a length, and `held_apart`, what they were compared with; `part_of`, the number of
            identities in the table that these rows were chosen from.
        rows: int64 `[N]`, each identity's row in that table; None for a table that begins with its first row.
        group: int64 `[N]`, of a labelled source: each identity's place among the names in
            `provenance["mix"]["groups"]`, see `groups`; None where there are none. Its candidate is then the number
            within its group's own stream, times the number of groups, plus that place.

    Raises:
        VectorError: shapes or dtypes that do not fit.
    """

    vectors: NDArray[np.float32]
    candidate: NDArray[np.int64]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    rows: NDArray[np.int64] | None = None
    group: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        vectors, candidate = self.vectors, self.candidate
        every = {"vectors": vectors, "candidate": candidate, "rows": self.rows, "group": self.group}
        for name, given in every.items():
            if not isinstance(given, np.ndarray) and not (name in ("rows", "group") and given is None):
                raise VectorError(
                    f"{name}: expected a NumPy array, found {type(given).__name__}. "
                    "Identities.from_vectors(vectors) takes whatever holds vectors."
                )
        if not isinstance(self.provenance, Mapping):
            raise VectorError(f"provenance: expected a mapping, found {type(self.provenance).__name__}.")
        if self.rows is not None and (self.rows.shape != candidate.shape or self.rows.dtype != np.int64):
            raise VectorError(
                f"expected rows int64 {list(candidate.shape)}, found {self.rows.dtype} {list(self.rows.shape)}."
            )
        fits = vectors.ndim == 2 and vectors.dtype == np.float32
        if not fits or candidate.shape != vectors.shape[:1] or candidate.dtype != np.int64:
            raise VectorError(
                f"expected vectors float32 [N, D] and candidate int64 [N], found {vectors.dtype} "
                f"{list(vectors.shape)} and {candidate.dtype} {list(candidate.shape)}."
            )
        self._check_group()

    def _check_group(self) -> None:
        group, names = self.group, self.group_names
        if group is None:
            return
        if group.shape != self.candidate.shape or group.dtype != np.int64:
            raise VectorError(
                f"expected group int64 {list(self.candidate.shape)}, found {group.dtype} {list(group.shape)}."
            )
        if len(group) and not 0 <= group.min() <= group.max() < len(names):
            raise VectorError(
                f"group: expected places among the {len(names)} names in provenance['mix']['groups'], found "
                f"{group.min()} to {group.max()}."
            )

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def shape(self) -> tuple[int, int]:
        """(identities, entries of a vector)."""
        return self.vectors.shape[0], self.vectors.shape[1]

    @property
    def keys(self) -> NDArray[np.int64]:
        """int64 `[N]`: the number that keys an identity's random numbers when its images are made.

        Its row, in the table that it was chosen from; or its candidate, where provenance says `"noise": "candidate"`.
        Then images do not change when identities before it are dropped, so that what was seen on the faces stays true
        of the table.
        """
        if self.provenance.get("noise") == "candidate":
            return self.candidate
        return np.arange(len(self)) if self.rows is None else self.rows

    @property
    def group_names(self) -> list[str]:
        """Names of the groups of the source, in the order of `group`; none where it has none."""
        mix = self.provenance.get("mix")
        names = mix.get("groups") if isinstance(mix, Mapping) else None
        return [str(name) for name in names] if isinstance(names, list | tuple) else []

    @property
    def groups(self) -> list[str]:
        """Name of each identity's group `[N]`.

        Raises:
            VectorError: identities without groups.
        """
        if self.group is None:
            raise VectorError(
                "identities: these have no groups. Sample them from statistics with groups: v2f ids fit --groups."
            )
        names = self.group_names
        return [names[place] for place in self.group.tolist()]

    @property
    def group_counts(self) -> dict[str, int]:
        """Identities of each group of the source, in its order; empty where there are none."""
        if self.group is None:
            return {}
        names = self.group_names
        return dict(zip(names, np.bincount(self.group, minlength=len(names)).tolist(), strict=True))

    def part(self, rows: slice | NDArray[np.int64]) -> Identities:
        """The identities in `rows`, with the same provenance, keys and groups."""
        kept = None if self.provenance.get("noise") == "candidate" else self.keys[rows]
        if kept is not None and np.array_equal(kept, np.arange(len(kept))):
            kept = None
        group = None if self.group is None else self.group[rows]
        return replace(
            self, vectors=self.vectors[rows], candidate=self.candidate[rows], rows=kept, group=group
        )

    @overload
    def __getitem__(self, rows: int | np.integer[Any]) -> NDArray[np.float32]: ...
    @overload
    def __getitem__(self, rows: Rows) -> Identities: ...
    def __getitem__(self, rows: int | np.integer[Any] | Rows) -> NDArray[np.float32] | Identities:
        """One vector, float32 `[512]`, a copy; or several identities as a table, in the order asked for.

        Raises:
            RowError: a row that is not there, or no index.
            VectorError: a row asked for twice: two identities with one vector are one person.
        """
        place = chosen("identities", rows, len(self))
        if isinstance(place, int):
            vector: NDArray[np.float32] = self.vectors[place].copy()
            return vector
        if not isinstance(place, slice) and len(np.unique(place)) < len(place):
            raise VectorError(
                "identities: a row is asked for twice; two identities with one vector are one person."
            )
        every = np.arange(len(self))
        if np.array_equal(every[place], every):
            return self
        part = self.part(place)
        return replace(part, provenance={**self.provenance, PART_OF: self.provenance.get(PART_OF, len(self))})

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return (vector.copy() for vector in self.vectors)

    def __contains__(self, vector: object) -> bool:
        """Whether a vector is that of an identity, to the bit."""
        try:
            row = np.asarray(vector)
        except (TypeError, ValueError, RuntimeError):
            return False
        return row.shape == self.vectors.shape[1:] and bool((self.vectors == row).all(axis=1).any())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.vectors, dtype=dtype, copy=copy)

    def __add__(self, other: object) -> Identities:
        """Parts of one table put together again, e.g. `table[:10] + table[20:30]`.

        Raises:
            VectorError: tables of different origin, whose people nobody has compared and whose noise has the same keys;
                or an identity that is in both.
        """
        if not isinstance(other, Identities):
            return NotImplemented
        if (
            PART_OF not in self.provenance
            or self.provenance != other.provenance
            or self.shape[1] != other.shape[1]
            or (self.group is None) != (other.group is None)
        ):
            raise VectorError(
                "identities: only parts of one table can be added (table[:10] + table[20:30]): nobody looked whether "
                "people of two tables are alike, and their noise has the same keys. Sample one larger table; or "
                "Identities.from_vectors(np.concatenate([a, b])), which keys anew and compares nothing."
            )
        if twice := np.intersect1d(self.keys, other.keys).tolist():
            raise VectorError(f"identities: {len(twice):,} of them are in both parts, e.g. key {twice[0]}.")
        rows = np.concatenate([self.keys, other.keys])
        return Identities(
            np.concatenate([self.vectors, other.vectors]),
            np.concatenate([self.candidate, other.candidate]),
            self.provenance,
            None if self.provenance.get("noise") == "candidate" else rows,
            None if self.group is None or other.group is None else np.concatenate([self.group, other.group]),
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Identities):
            return NotImplemented
        return (
            self.shape == other.shape
            and dict(self.provenance) == dict(other.provenance)
            and np.array_equal(self.candidate, other.candidate)
            and np.array_equal(self.keys, other.keys)
            and np.array_equal(self.vectors, other.vectors)
            and (self.group is None) == (other.group is None)
            and (self.group is None or other.group is None or np.array_equal(self.group, other.group))
        )

    def __hash__(self) -> int:
        return hash((self.shape, json.dumps(dict(self.provenance), sort_keys=True)))

    def __repr__(self) -> str:
        about = ", ".join(f"{name} {value!r}" for name, value in self._about().items())
        return f"Identities({len(self):,} x {self.shape[1]}{', ' if about else ''}{about})"

    def _about(self) -> dict[str, Any]:
        names = ("source", "max_cosine", "seed", "model", "rescaled_to", PART_OF)
        return {name: _short(self.provenance[name]) for name in names if name in self.provenance}

    def _repr_html_(self) -> str:
        about = {name.replace("_", " "): value for name, value in self._about().items()}
        excluded = self.provenance.get("exclude")
        if isinstance(excluded, Mapping):
            about["kept apart from"] = f"{excluded.get('rows', '?'):,} real people"
        lengths = np.linalg.norm(self.vectors[:4096], axis=1) if len(self) else np.zeros(1)
        if self.group is not None:
            about["groups"] = ", ".join(f"{name} {count:,}" for name, count in self.group_counts.items())[
                :SHOWN
            ]
        about["length"] = f"{np.median(lengths):.3g} (median), {lengths.min():.3g} to {lengths.max():.3g}"
        if self.vectors.nbytes <= HASHED_UNASKED:
            about["hash"] = self.table_hash[:12]
        return notebook.facts(f"{len(self):,} identities of {self.shape[1]} numbers", about)

    @classmethod
    @takes(vectors=VECTORS, name=WORD, dimension=COUNT)
    def from_vectors(
        cls, vectors: Any, name: str = "given vectors", dimension: int | None = None
    ) -> Identities:
        """A table of vectors `[N, D]` from elsewhere: whatever `gate.check_vectors` takes, after it.

        Raises:
            VectorError: no such vectors; the message names the rows.
        """
        rows = check_vectors(vectors, name, dimension=dimension)
        return cls(rows, np.arange(len(rows), dtype=np.int64), {"source": name})

    @property
    def table_hash(self) -> str:
        """sha256 of vectors, candidates, rows, groups and provenance: equal tables, equal hash, on every machine."""
        digest = hashlib.sha256(f"{FORMAT} {self.vectors.shape} ".encode())
        digest.update(json.dumps(dict(self.provenance), sort_keys=True).encode())
        digest.update(np.ascontiguousarray(self.vectors, "<f4").data)
        digest.update(np.ascontiguousarray(self.candidate, "<i8").data)
        if self.rows is not None:
            digest.update(np.ascontiguousarray(self.rows, "<i8").data)
        if self.group is not None:
            digest.update(b"group")
            digest.update(np.ascontiguousarray(self.group, "<i8").data)
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """JSON values for manifests."""
        groups = {} if self.group is None else {"groups": self.group_counts}
        return {"count": len(self), "table_hash": self.table_hash, **self.provenance, **groups}

    @takes(path=PATH)
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
        if self.rows is not None:
            tensors["rows"] = self.rows
        if self.group is not None:
            tensors["group"] = self.group
        return tensor_bytes(tensors, {"format": FORMAT, "about": about})

    @classmethod
    @takes(path=PATH)
    def load(cls, path: str | Path) -> Identities:
        """Reads what `save` wrote and checks its hash.

        Raises:
            VectorError: missing, truncated, foreign or changed, or vectors that do not pass the gate.
        """
        tensors, metadata = read_tensors(path, FORMAT)
        with reading(path, "Sample the table again."):
            about = json.loads(metadata["about"])
            rows, group = tensors.get("rows"), tensors.get("group")
            table = cls(tensors["vectors"], tensors["candidate"], about["provenance"], rows, group)
            expected = text_told(about["table_hash"], "table_hash")
        if table.table_hash != expected:
            raise VectorError(f"{path}: contents do not match hash {expected[:12]}: the file was changed.")
        if len(table):  # `save` takes `table[:0]`, too
            check_vectors(table.vectors, str(path), dimension=None)
        return table


def table_of(given: Identities | str | Path | Any) -> Identities:
    """A table as it is, of its file, or of vectors `[N, D]`.

    Raises:
        VectorError: a file or vectors that do not pass.
    """
    if isinstance(given, Identities):
        return given
    if isinstance(given, str | Path):
        return Identities.load(given)
    return Identities.from_vectors(given, dimension=None)


def _short(value: Any) -> Any:
    """What is shown of a value: of a thousand names, as `v2f ui` notes them, the first."""
    return f"{value[:SHOWN]} ..." if isinstance(value, str) and len(value) > SHOWN else value
