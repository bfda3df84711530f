"""One vector a person: the mean of the features of its images, in one pass that holds a block of rows and the sums.

What Vec2Face's `scripts/center_features.py` makes of a file a feature, all held at once: 8.6 GB for 4.2 million. Here
memory is 12 bytes an entry of the people's table, whatever the number of images. Sums are float64, as they come.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine import disk
from v2f_engine.atomic import DurableFile, aborted_on_error, write_atomically
from v2f_engine.errors import VectorError
from v2f_engine.vectors.gate import LONGEST, SHORTEST
from v2f_engine.vectors.streams import BLOCK

TABLE = ".csv"
"""Ending of the table beside a file of centres: who stands in which row, by how many images."""
SHOWN = 10
People = NDArray[np.int64] | list[str]
Blocks = Iterable[tuple[int, NDArray[np.floating[Any]]]]
"""(first row, rows `[N, D]` of any float type, unchecked)."""


class Bad:
    """Rows that are no features, counted by what is wrong with them; the first of each are named."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._rows: dict[str, list[int]] = {}

    @property
    def count(self) -> int:
        return sum(self._counts.values())

    def add(self, rows: NDArray[np.int64], fault: str) -> None:
        if len(rows):
            named = self._rows.setdefault(fault, [])
            self._counts[fault] = self._counts.get(fault, 0) + len(rows)
            named += rows[: SHOWN - len(named)].tolist()

    def refuse(self, what: str, total: int) -> None:
        """Raises VectorError that counts them and names the first ones."""
        if not self._counts:
            return
        each = [
            f"{count:,} {fault}: row{'s' * (count > 1)} {', '.join(map(str, self._rows[fault]))}"
            + (" and more" if count > SHOWN else "")
            for fault, count in self._counts.items()
        ]
        raise VectorError(
            f"{what}: {self.count:,} of {total:,} rows are no features. {'; '.join(each)}. Extract them again, or "
            "leave them out, as v2f ids centres --on-bad skip does."
        )


@dataclass(frozen=True)
class Centres:
    """Mean features of people.

    Args:
        sums: float64 `[M, D]`, sum of each person's features, people ascending by label.
        images: int64 `[M]`, how many features a row is the mean of.
        people: their labels: int64 `[M]`, or names.
        length: mean length of a single image's feature, as given.
        left_out: rows that were bad and left out.
    """

    sums: NDArray[np.float64]
    images: NDArray[np.int64]
    people: People
    length: float
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, scale: float = 1.0) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """(first, float32 centres `[<= BLOCK, D]`), times `scale`: blocks as `streams.stream` cuts a file of them."""
        for start in range(0, len(self), BLOCK):
            part = slice(start, start + BLOCK)
            yield start, (self.sums[part] / self.images[part, None] * scale).astype(np.float32)

    @property
    def vectors(self) -> NDArray[np.float32]:
        """float32 `[M, D]`: all of them at once."""
        return np.concatenate([rows for _, rows in self.rows()])

    @property
    def lengths(self) -> NDArray[np.float64]:
        """float64 `[M]`: of each centre; shorter than of images, by what a person's images differ."""
        return np.concatenate([np.linalg.norm(rows.astype(np.float64), axis=1) for _, rows in self.rows()])

    def save(self, path: str | Path) -> None:
        """Writes the centres as `.npy`, as published scripts and every command here read them, and their table.

        `path` with the ending `.csv` has a line a row: `row,label,images,length`. Each file is whole or not there.

        Raises:
            DiskFull, OutputFolderError: it cannot be written.
        """
        path = Path(path)
        held = io.BytesIO()
        shape = (len(self), self.sums.shape[1])
        np.lib.format.write_array_header_1_0(held, {"descr": "<f4", "fortran_order": False, "shape": shape})
        file = DurableFile(path, "main", whole=False)
        with disk.named_errors(path.parent), aborted_on_error(file):
            file.write(held.getvalue())
            for _, rows in self.rows():
                file.write(rows.astype("<f4").tobytes())
            file.prepare()
            file.publish()
        write_atomically(path.with_suffix(TABLE), self._table())

    def _table(self) -> bytes:
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(("row", "label", "images", "length"))
        columns = zip(self.people, self.images.tolist(), self.lengths.tolist(), strict=True)
        lines.writerows(
            (row, label, count, f"{length:.4f}") for row, (label, count, length) in enumerate(columns)
        )
        return text.getvalue().encode("utf-8", "surrogateescape")


def person_centres(
    blocks: Blocks,
    codes: NDArray[np.int64],
    people: People,
    *,
    what: str = "features",
    unit: bool = False,
    skip: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Centres:
    """The mean feature of each person, as the features are: no length is changed before or after.

    Args:
        blocks: the features in order; every row of all of them once.
        codes: int64 `[N]`: which of `people` a row is of, in any order; -1 for a row that is nobody's.
        people: label of each person.
        what: how messages call the features.
        unit: features are brought to unit length before they are averaged (as insightface's normed embeddings are).
        skip: rows that are no features are left out and counted, instead of refused.
        progress: called with (rows done, rows in all).

    Raises:
        VectorError: rows that are not finite or have no direction, counted and named; more or fewer rows than labels;
            people without an image.
    """
    found = Bad()
    sums: NDArray[np.float64] | None = None
    images = np.zeros(len(people), np.int64)
    done, length = 0, 0.0
    for first, rows in blocks:
        done = first + len(rows)
        if done > len(codes):
            break
        if sums is None:
            sums = np.zeros((len(people), rows.shape[1]))
        wide, own = rows.astype(np.float64), codes[first:done]
        norms = np.sqrt(np.einsum("nd,nd->n", wide, wide))
        usable = own >= 0
        for fault, wrong in _faults(norms):
            found.add(np.flatnonzero(wrong & usable) + first, fault)
            usable &= ~wrong
        if unit:
            wide /= np.where(norms > 0, norms, 1)[:, None]
        length += float(norms[usable].sum())
        _add(sums, images, wide if usable.all() else wide[usable], own[usable])
        if progress is not None:
            progress(done, len(codes))
    if done != len(codes) or sums is None:
        raise VectorError(f"{what}: {done:,} rows and {len(codes):,} labels; expected a label for every row.")
    if not skip:
        found.refuse(what, len(codes))
    refuse_absent(
        people, images, what, "all of their rows were left out" if found.count else "no row is theirs"
    )
    return Centres(sums, images, people, length / int(images.sum()), found.count)


def _faults(norms: NDArray[np.float64]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    yield "not finite (NaN or infinity)", ~np.isfinite(norms)
    yield f"of zero length (below {SHORTEST:g})", norms < SHORTEST
    yield f"longer than {LONGEST:g}", np.isfinite(norms) & (norms > LONGEST)


def _add(
    sums: NDArray[np.float64], images: NDArray[np.int64], rows: NDArray[np.float64], codes: NDArray[np.int64]
) -> None:
    """Adds each row to its person's sum; a person's rows are added up first, since it often has several in a row."""
    if not len(codes):
        return
    if (np.diff(codes) < 0).any():
        order = np.argsort(codes, kind="stable")
        rows, codes = rows[order], codes[order]
    starts = np.flatnonzero(np.diff(codes, prepend=codes[0] - 1))
    sums[codes[starts]] += np.add.reduceat(rows, starts, axis=0)
    images[codes[starts]] += np.diff(starts, append=len(codes))


def refuse_absent(people: People, images: NDArray[np.int64], what: str, why: str) -> None:
    """Raises VectorError naming the people without an image."""
    absent = np.flatnonzero(images == 0)
    if absent.size:
        named = ", ".join(str(people[row]) for row in absent[:SHOWN]) + (
            ", ..." if absent.size > SHOWN else ""
        )
        raise VectorError(
            f"{what}: {absent.size:,} of {len(people):,} people have no image: {named} ({why}). A mean of nothing is "
            "no centre: mend the labels, or leave these people out of them."
        )
