"""Lists beside a `.rec`: DCFace's `list.txt`, im2rec's `.lst`, CVLface's `.tsv`: who is on the picture of a key.

DCFace's writer gives every record the label 0 and a line `key<TAB>person/name` (mk-minchul/dcface,
src/visualizations/record.py, `Writer`). Where records have labels of their own, a list must say the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.formats.account import EXAMPLES
from v2f_engine.data.formats.lists.label_values import of_floats
from v2f_engine.data.formats.lists.lines import names_picture
from v2f_engine.data.formats.lists.table import ListTable, read_list
from v2f_engine.data.formats.recordio.books import Books
from v2f_engine.data.gate.pictures import is_hidden
from v2f_engine.data.layout import PROPERTY
from v2f_engine.errors import DatasetError

LISTS = ("list.txt", "{stem}.lst", "{stem}.tsv", "{stem}.txt", "{stem}.csv", "labels.txt")
"""Names of lists beside `{stem}.rec`, in the order in which they are looked for."""
TEXTS = (".txt", ".lst", ".csv", ".tsv", ".json", ".jsonl")
NOTES = ("readme", "license", "licence", "changelog", "citation", "sha256", "md5")
"""Beginnings of names of texts that list nobody."""


@dataclass(frozen=True)
class People:
    """Who is on the pictures.

    Args:
        labels: int64 `[N]`.
        class_names: name of each label, or None.
        remarks: where they come from, where not from the records alone.
    """

    labels: NDArray[np.int64]
    class_names: list[str] | None
    remarks: tuple[str, ...]


def listed_people(rec: Path, books: Books) -> People | None:
    """The people of a list beside `rec`; None where the records' own labels count.

    Raises:
        DatasetError: the records say nothing and no list does, or a list and the records contradict each other.
    """
    stated = _property(rec, 1)
    if stated is not None and stated != len(books.keys):
        raise DatasetError(
            f"{rec}: {len(books.keys)} pictures, while {PROPERTY} beside it counts {stated}: some are missing, or the "
            "files are of two sets."
        )
    found = next((rec.with_name(name.format(stem=rec.stem)) for name in LISTS if _is_list(rec, name)), None)
    if not books.constant:
        if found is not None and not books.faults:
            return _compared(rec, books, found)
        return None
    label = books.labels[np.flatnonzero(~np.isnan(books.labels))[0]]
    said = f"{rec}: all {len(books.keys)} records have the label {label:g}"
    if found is not None:
        table = _read(found, f"{said}, so the people stand in {found.name}: ")
        labels = table.labels[_rows_of(rec, books, table)]
        moved = np.flatnonzero(books.ids != books.keys)
        if len(moved) and np.array_equal(np.sort(books.ids), books.keys):
            raise DatasetError(
                f"{rec}: {len(moved)} records state another key than their line of the index, such as "
                f"{books.ids[moved[0]]} under {books.keys[moved[0]]}: whom {found.name} means is not clear. Write the "
                "index anew."
            )
        return People(
            labels, table.class_names, (f"labels of {found.name}: every record has the label {label:g}",)
        )
    if books.varied:
        raise DatasetError(
            f"{said} in the first place, while the labels at {list(books.varied)} differ: which is the person? Write "
            "it first."
        )
    classes = _property(rec)
    if classes is not None and classes > 1:
        raise DatasetError(
            f"{said}, while {PROPERTY} speaks of {classes} people; expected a list beside it ({', '.join(LISTS)})."
        )
    others = _other_texts(rec)
    if others:
        raise DatasetError(
            f"{said}, and beside it lie {', '.join(others[:EXAMPLES])}: who is who? Expected a list of "
            "key<TAB>person/name called "
            f"list.txt or {rec.stem}.lst. Where all are one person, move these files away."
        )
    return None


def remarks_of(rec: Path, books: Books, people: int) -> tuple[str, ...]:
    """What a user has to know of labels that the records themselves have."""
    said = []
    if books.varied:
        said.append(
            f"records have several labels: the first is the person; those at {list(books.varied)} differ, nothing "
            "reads them"
        )
    classes = _property(rec)
    highest = int(np.nanmax(books.labels)) + 1 if len(books.keys) else 0
    if classes is not None and classes not in (people, highest):
        said.append(f"{PROPERTY} speaks of {classes} people, the labels of {people}")
    return tuple(said)


def own_labels(rec: Path, books: Books) -> NDArray[np.int64]:
    """int64 `[N]` of the records' own first labels, of sound records only; -1 elsewhere.

    Raises:
        DatasetError: a label that is no whole number from 0, or from 2**24 on: there two people share a float32.
    """
    good = np.ones(len(books.labels), np.bool_)
    good[list(books.faults)] = False
    labels = np.full(len(books.labels), -1, np.int64)
    labels[good] = of_floats(books.labels[good].astype(np.float32), str(rec))
    return labels


def _is_list(rec: Path, name: str) -> bool:
    return rec.with_name(name.format(stem=rec.stem)).is_file()


def _read(path: Path, said: str) -> ListTable:
    try:
        table = read_list(path, lambda cell: names_picture(cell) or "/" in cell, repeated=True)
    except DatasetError as error:
        raise DatasetError(f"{said}{error}") from error
    if table.keys is None:
        raise DatasetError(
            f"{said}{path}: its lines have no keys, or one twice; expected key<TAB>person/name, as DCFace writes them."
        )
    return table


def _rows_of(rec: Path, books: Books, table: ListTable) -> NDArray[np.int64]:
    """The row of the list for each picture."""
    keys = np.asarray(table.keys, np.int64)
    order = np.argsort(keys)
    listed, held = keys[order], books.keys
    if not np.array_equal(listed, held):
        more, fewer = np.setdiff1d(listed, held), np.setdiff1d(held, listed)
        raise DatasetError(
            f"{table.path} lists {len(listed)} keys, {rec.name} holds {len(held)} pictures: {len(fewer)} are not "
            "listed (such as "
            f"{fewer[:EXAMPLES].tolist()}), {len(more)} listed ones do not exist (such as "
            f"{more[:EXAMPLES].tolist()}). Take the list "
            "of this .rec, or move it away where the labels of the records count."
        )
    return order


def _compared(rec: Path, books: Books, found: Path) -> People:
    """The records' own labels, after a look into the list."""
    own = own_labels(rec, books)
    try:
        table = _read(found, "")
    except DatasetError:
        return People(own, None, (f"{found.name} has no keys: labels of the records",))
    listed = table.labels[_rows_of(rec, books, table)]
    pairs = np.unique(np.stack([own, listed], 1), axis=0)
    if not len(pairs) == len(np.unique(own)) == len(np.unique(listed)):
        _, first, counts = np.unique(pairs[:, 0], return_index=True, return_counts=True)
        torn = int(pairs[first[counts > 1][0], 0]) if (counts > 1).any() else None
        example = (
            f"label {torn} of the records is {int(counts.max())} people there"
            if torn is not None
            else f"{len(np.unique(own))} people of the records are {len(np.unique(listed))} there"
        )
        raise DatasetError(
            f"{found} and the labels in {rec.name} contradict each other: {example}. Move the wrong list away; the "
            "records' labels "
            "count where there is no list."
        )
    return People(own, None, (f"{found.name} and the records agree on the people",))


def _property(rec: Path, line: int = 0) -> int | None:
    """What `property` says: `classes,height,width`, and in a second line the number of pictures (insightface's
    RecBuilder.close); None where it does not."""
    try:
        first = rec.with_name(PROPERTY).read_text(encoding="ascii").splitlines()[line].split(",")[0].strip()
    except (OSError, UnicodeDecodeError, IndexError):
        return None
    return int(first) if first.isdigit() else None


def _other_texts(rec: Path) -> list[str]:
    """Texts beside `rec` that may say who is who."""
    others = {path.stem for path in rec.parent.glob("*.rec")} - {rec.stem}
    return sorted(
        path.name
        for path in rec.parent.iterdir()
        if path.suffix.lower() in TEXTS
        and path.is_file()
        and not is_hidden(path.name)
        and path.stem not in others
        and not path.name.lower().startswith(NOTES)
    )
