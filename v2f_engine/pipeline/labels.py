"""Whose each row of features is, from whatever people keep labels in: `.npy`, a text of a label a line, a table, a list
of paths, or the dataset that the features were extracted from.
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine import npy
from v2f_engine.data.formats import open_dataset
from v2f_engine.data.formats.dataset import Dataset
from v2f_engine.data.formats.lists.label_values import LABEL_NAMES, of_floats, of_texts
from v2f_engine.data.formats.lists.lines import names_picture
from v2f_engine.data.formats.lists.table import one_label, read_list
from v2f_engine.errors import VectorError
from v2f_engine.outside import admit
from v2f_engine.vectors.centres import People

TEXTS = (".txt", ".csv", ".tsv", ".lst")
LISTS = (*TEXTS, ".json", ".jsonl")


@dataclass(frozen=True)
class Labels:
    """Whose each row is.

    Args:
        codes: int64 `[N]`, place in `people`.
        people: their labels, ascending: int64 `[M]`, or names.
    """

    codes: NDArray[np.int64]
    people: People

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: NDArray[np.int64]) -> Labels:
        """These rows alone, and the people whom they show."""
        kept, codes = np.unique(self.codes[rows], return_inverse=True)
        named = isinstance(self.people, list)
        people = [self.people[code] for code in kept.tolist()] if named else np.asarray(self.people)[kept]
        return Labels(codes.astype(np.int64), people)

    def kept_of(self, rows: int, mask: NDArray[np.int64]) -> Labels:
        """As `take`, but for all `rows`: those not in `mask` are nobody's (-1)."""
        taken = self.take(mask)
        codes = np.full(rows, -1, np.int64)
        codes[mask] = taken.codes
        return Labels(codes, taken.people)


def numbered(values: NDArray[np.int64]) -> Labels:
    """Labels of whole numbers."""
    people, codes = np.unique(values, return_inverse=True)
    return Labels(codes.astype(np.int64), people.astype(np.int64))


def read_labels(place: str | Path) -> Labels:
    """The label of every row.

    Args:
        place: a `.npy` `[N]` of whole numbers or texts; a text of a label a line; a table with a header that names the
            label; a list of paths (of pictures or of `.npy`), where the folder or the list's own column is the person;
            or a dataset in any format, for features of all its images in its order.

    Raises:
        VectorError: none of these, or labels that are no names and no whole numbers from 0.
        DatasetError: of a list or a dataset.
    """
    path = Path(place)
    if path.suffix.lower() == ".npy":
        return _of_array(npy.map_file(path, texts=True), str(path))
    if path.is_file() and path.suffix.lower() in LISTS:
        admit(path, VectorError)
        return _of_list(path) if _names_files(path) else _of_text(path)
    return of_dataset(open_dataset(path))


def of_dataset(dataset: Dataset) -> Labels:
    """Whose each image of a dataset is, people in the order of its own labels."""
    names = dataset.class_names
    found = numbered(dataset.labels)
    if names is None:
        return found
    return Labels(found.codes, [names[label] for label in np.asarray(found.people).tolist()])


def _of_array(found: NDArray[np.generic], where: str) -> Labels:
    long = [extent for extent in found.shape if extent != 1]
    if len(long) > 1 or not found.size:
        raise VectorError(f"{where}: expected labels [N], one a row of features, found {list(found.shape)}.")
    flat = np.asarray(found).reshape(-1)
    if flat.dtype.kind in "US":
        spelled, codes = np.unique(flat, return_inverse=True)
        texts = [text.decode("utf-8", "surrogateescape") for text in spelled.tolist()] if flat.dtype.kind == "S" else (
            spelled.tolist()
        )  # fmt: skip
        return _ordered(codes.astype(np.int64), texts, where)
    if flat.dtype.kind == "f":
        return numbered(of_floats(flat.astype(flat.dtype.newbyteorder("="), copy=False), where))
    if flat.dtype.kind not in "iu":
        raise VectorError(f"{where}: expected labels that are whole numbers or texts, found {flat.dtype}.")
    if int(flat.min()) < 0:
        bad = np.flatnonzero(flat < 0)
        raise VectorError(
            f"{where}: {len(bad):,} of {len(flat):,} labels are below 0, such as {flat[bad[0]]} in row {bad[0]}, which "
            "often means: not known. Unknown people would be one person: leave their rows out (v2f ids "
            "centres has --mask), or number them."
        )
    if int(flat.max()) >= 2**63:
        raise VectorError(f"{where}: label {flat.max()}; expected numbers below 2**63. Save them as texts.")
    return numbered(flat.astype(np.int64))


def _ordered(codes: NDArray[np.int64], texts: list[str], where: str) -> Labels:
    """Labels whose row i is `texts[codes[i]]`, people in the order of their numbers or names."""
    values, names = of_texts(texts, where)
    people, places = np.unique(values, return_inverse=True)
    return Labels(
        places.astype(np.int64)[codes], people if names is None else [names[k] for k in people.tolist()]
    )


def is_feature(cell: str) -> bool:
    """Whether a cell is the path of a file of a feature."""
    return cell.lower().endswith(".npy")


def _is_path(cell: str) -> bool:
    return is_feature(cell) or names_picture(cell)


def _names_files(path: Path) -> bool:
    """Whether a text names files in its first lines."""
    if path.suffix.lower() in (".json", ".jsonl"):
        return True
    lines = (line for _, line in zip(range(3), _lines(path), strict=False))
    cells = [
        cell.strip(' "') for line in lines for cell in line.replace("\t", ",").replace(" ", ",").split(",")
    ]
    return any(map(_is_path, cells))


def _of_list(path: Path) -> Labels:
    table = read_list(path, _is_path, repeated=True)
    found = numbered(table.labels)
    if table.class_names is None:
        return found
    return Labels(found.codes, [table.class_names[k] for k in np.asarray(found.people).tolist()])


def _lines(path: Path) -> Iterator[str]:
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
        for line in file:
            yield line.rstrip("\n")


def _of_text(path: Path) -> Labels:
    """A label a line, or a column of a table; only different labels are held, millions of lines are not."""
    column, header, mark = _column(path)
    seen: dict[str, int] = {}
    codes = array("q")
    blank = 0
    for number, line in enumerate(_lines(path), start=1):
        if number == 1 and header:
            continue
        if not line.strip():
            blank = blank or number
            continue
        if blank:
            raise VectorError(
                f"{path}: line {blank} is empty and line {number} is not: every line is the label of a row. "
                "Whose is it?"
            )
        cells = [line.strip()] if mark is None else next(csv.reader([line], delimiter=mark))
        if len(cells) <= column or not cells[column].strip():
            raise VectorError(f"{path}: line {number}: no label in {line[:60]!r}.")
        codes.append(seen.setdefault(cells[column].strip(), len(seen)))
    if not codes:
        raise VectorError(f"{path}: expected a label a line, found none.")
    return _ordered(np.frombuffer(codes, np.int64), list(seen), str(path))


def _column(path: Path) -> tuple[int, bool, str | None]:
    """(column of the label, whether the first line is a header, what separates cells; None for one label a line)."""
    first = next(iter(_lines(path)), "")
    mark = next((mark for mark in ("\t", ",", ";") if mark in first), None)
    cells = (
        [first.strip()]
        if mark is None
        else [cell.strip() for cell in next(csv.reader([first], delimiter=mark))]
    )
    named = one_label(cells, str(path))
    if named is not None:
        return cells.index(named), True, mark
    if len(cells) > 1:
        raise VectorError(
            f"{path}: {len(cells)} columns ({first[:60]!r}) and no header that names the label; expected a label a "
            f"line, or a first line with one of {', '.join(LABEL_NAMES[:8])}, ..."
        )
    return 0, False, mark
