"""What the cells of a list of pictures mean: which is the path, which the person, which only a number of the line.

One table, `DIALECTS`, says it by the kinds of the cells; a header says it by names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from posixpath import normpath

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.formats.account import Tally
from v2f_engine.data.formats.folders.sets import one_set
from v2f_engine.data.formats.lists.label_values import LABEL_NAMES, SPLIT_NAMES, is_number, of_texts, ranked
from v2f_engine.data.formats.lists.lines import PATH_NAMES, SHAPES, Rows, names_picture, read_rows
from v2f_engine.data.formats.splits import choose, remark
from v2f_engine.data.gate.pictures import is_hidden
from v2f_engine.errors import DatasetError

KEY_NAMES = ("key", "index", "idx", "")
"""`""`: the index that pandas writes first."""


@dataclass(frozen=True)
class Columns:
    """Places of the cells that count in a row; None where there is no such cell.

    Args:
        path: of the picture.
        label: of its person; None: the folder that holds the picture is the person.
        key: a number of the line or record, no two alike.
        rest: the others are further labels, which nothing reads.
        split: of which of several sets the row is.
    """

    path: int
    label: int | None = None
    key: int | None = None
    rest: bool = False
    split: int | None = None


DIALECTS: Mapping[str, Columns] = {
    "P": Columns(0),
    "PN": Columns(0, 1),
    "PS": Columns(0, 1),
    "SP": Columns(1, 0),
    "NNP": Columns(2, 1, 0),
    "NPN": Columns(1, 2, 0),
    "NPS": Columns(1, 2, 0),
}
"""Kinds of a row's cells (P: path, N: number, S: another text) -> what they are.

PN: FaceX-Zoo, IDnet, CelebA, PaddlePaddle; NNP: mxnet's im2rec; NPN: CVLface's `train.tsv`, and insightface's
`dir2lst`, whose first column is 1 in every line. `NP` is read by content (`_number_and_path`)."""


@dataclass(frozen=True)
class ListTable:
    """A list of pictures.

    Args:
        path: the file.
        names: path of each picture, with `/`, without `./` and `//`.
        labels: int64 `[N]`.
        class_names: name of each label, or None where the list has numbers.
        keys: number of each record, or None where the list has none or they are not all different.
        lines: number of each row's line.
        books: its lines, counted; rows are images.
        stated: whether labels are in the list; else they are folders.
    """

    path: Path
    names: list[str]
    labels: NDArray[np.int64]
    class_names: list[str] | None
    keys: list[int] | None
    lines: list[int]
    books: Tally
    stated: bool


def read_list(
    path: Path,
    is_path: Callable[[str], bool] = names_picture,
    *,
    split: str | None = None,
    repeated: bool = False,
) -> ListTable:
    """Reads a list.

    Args:
        path: the file.
        is_path: which cells are paths.
        split: which of several sets, where a column says of which a row is.
        repeated: whether a picture may stand in it twice.

    Raises:
        DatasetError: a line that is none of `DIALECTS`, or labels that cannot be meant; the message says which.
    """
    rows = read_rows(path, is_path)
    _drop_hidden(rows)
    columns = _named_columns(rows) if rows.header else _columns(rows, is_path)
    if columns.split is not None or columns.label is not None:
        _take_split(rows, columns, split)
    names = [_spelled(row[columns.path]) for row in rows.cells]
    _check_paths(rows, names, is_path)
    if columns.label is None and columns.split is None:
        names = _one_set(rows, names, split)
    folders = [folder_of(name) for name in names]
    if columns.label is not None:
        stated = [row[columns.label] for row in rows.cells]
        if "" in stated:
            raise rows.fault(
                stated.index(""), f"no label ({stated.count('')} of {len(stated)} lines have none)."
            )
        labels, classes = of_texts(stated, str(path))
        if columns.key is not None and not rows.header:
            _refuse_index_for_label(rows, columns, len(np.unique(labels)), len(set(folders)))
        if len(names) > 1 and len(np.unique(labels)) == 1 and len(set(folders)) > 1:
            raise DatasetError(
                f"{path}: all {len(names)} lines have the label {rows.cells[0][columns.label]}, while the pictures "
                "lie in "
                f"{len(set(folders))} folders. One person, or a number that is no label? Leave the column out where "
                "the folder "
                "is the person."
            )
    else:
        labels, classes = _by_folder(path, folders)
    if not repeated:
        _refuse_repeated(rows, names, labels)
    if columns.rest:
        rows.books.remarks.append("columns after path and label are not read")
    if columns.label is None:
        rows.books.remarks.append(f"identity: the folder that holds a picture, such as {folders[0]}")
    for _ in names:
        rows.books.image()
    keys = None if columns.key is None else [row[columns.key] for row in rows.cells]
    known = None
    if keys is not None and len(set(keys)) == len(keys) and all(key.isdigit() for key in keys):
        known = [int(key) for key in keys]
    return ListTable(path, names, labels, classes, known, rows.lines, rows.books, columns.label is not None)


def folder_of(name: str) -> str:
    """The folder of a path with `/`; `.` where there is none."""
    return name.rpartition("/")[0].removeprefix("./") or "."


def _spelled(cell: str) -> str:
    """The one spelling of a path: `.\\p//0.jpg` and `p/x/../0.jpg` are `p/0.jpg`, so that no picture counts twice."""
    name = cell.replace("\\", "/")
    return normpath(name) if "//" in name or "./" in name else name


def _one_set(rows: Rows, names: list[str], split: str | None) -> list[str]:
    """The paths of the set that is asked for, where the folder is the person: as in folders themselves."""
    rooted = sum(name.startswith("/") for name in names)
    if 0 < rooted < len(names):
        at = next(row for row, name in enumerate(names) if name.startswith("/") != names[0].startswith("/"))
        raise rows.fault(
            at,
            f"{names[at]}: {rooted} paths begin at the root and {len(names) - rooted} do not, and folders are the "
            "people: is a folder the same written both ways? Write all in one way, or `path label`.",
        )
    of = [tuple(folder_of(name).split("/")) for name in names]
    chosen, remarks = one_set(rows.path, list(dict.fromkeys(of)), split)
    kept = set(chosen)
    rows.books.remarks += remarks
    rows.books.asides(
        "rows of other splits",
        (f"line {line}" for line, folder in zip(rows.lines, of, strict=True) if folder not in kept),
    )
    rows.lines = [line for line, folder in zip(rows.lines, of, strict=True) if folder in kept]
    rows.cells = [cells for cells, folder in zip(rows.cells, of, strict=True) if folder in kept]
    return [name for name, folder in zip(names, of, strict=True) if folder in kept]


def _refuse_index_for_label(rows: Rows, columns: Columns, people: int, folders: int) -> None:
    """Raises where the column taken for the label differs in every line and the one taken for the index does not."""
    assert columns.key is not None
    keys, lines = len({row[columns.key] for row in rows.cells}), len(rows.cells)
    if people == lines > keys and (keys > 1 or 1 < folders < lines):
        raise rows.fault(
            0,
            f"{' '.join(rows.cells[0])[:60]!r}: read as a label, {rows.cells[0][columns.label or 0]} is another in "
            f"each of {lines} lines, while the index takes {keys} values: are they swapped? Expected {SHAPES}.",
        )


_hidden_folder = lru_cache(maxsize=4096)(is_hidden)


def _is_hidden(name: str) -> bool:
    """`is_hidden` of a picture; the answer for its folder is kept."""
    folder, _, file = name.rpartition("/")
    return file.startswith(".") or _hidden_folder(folder)


def _drop_hidden(rows: Rows) -> None:
    """Sets aside lines of files that a system left (`._0.jpg`), as folders and archives do."""
    hidden = [
        any(names_picture(cell) and _is_hidden(cell.replace("\\", "/")) for cell in row) for row in rows.cells
    ]
    if not any(hidden):
        return
    rows.books.asides(
        "hidden files", (" ".join(row) for row, left in zip(rows.cells, hidden, strict=True) if left)
    )
    rows.lines = [line for line, left in zip(rows.lines, hidden, strict=True) if not left]
    rows.cells = [row for row, left in zip(rows.cells, hidden, strict=True) if not left]
    if not rows.cells:
        raise DatasetError(f"{rows.path}: names hidden files only, no picture.")


def _named_columns(rows: Rows) -> Columns:
    """Columns by the names in the header."""
    assert rows.header is not None
    for row, cells in enumerate(rows.cells):
        if len(cells) != len(rows.header):
            raise rows.fault(row, f"{len(cells)} cells; the header names {len(rows.header)}: {rows.header}.")
    paths = [column for column, name in enumerate(rows.header) if names_picture(rows.cells[0][column])]
    if len(paths) > 1:
        paths = [column for column in paths if rows.header[column] in PATH_NAMES][:1]
    if not paths:
        raise rows.fault(0, f"no cell names a picture; the columns are {rows.header}.")
    chosen = one_label(
        [name for column, name in enumerate(rows.header) if column != paths[0]],
        f"{rows.path}: columns {rows.header}",
    )
    if chosen is None:
        others = [
            name
            for column, name in enumerate(rows.header)
            if column != paths[0] and name not in (*KEY_NAMES, *SPLIT_NAMES)
        ]
        if others:
            raise DatasetError(
                f"{rows.path}: columns {rows.header}: expected one called {', '.join(LABEL_NAMES)}, or no column "
                "beside the "
                "path, where the folder is the person."
            )
    elif chosen != "label":
        column = rows.header.index(chosen)
        folders = {folder_of(row[paths[0]].replace("\\", "/")) for row in rows.cells}
        if len({row[column] for row in rows.cells}) == len(rows.cells) > max(1, len(folders)):
            raise DatasetError(
                f"{rows.path}: column {chosen}: another value in each of {len(rows.cells)} lines, the pictures lie "
                f"in {len(folders)} "
                "folders. A number of the line, or a person a picture? Call labels label, and leave numbers out."
            )
    key = next((column for column, name in enumerate(rows.header) if name in KEY_NAMES), None)
    told = next((column for column, name in enumerate(rows.header) if name in SPLIT_NAMES), None)
    used = (told is not None) + len(
        {
            place
            for place in (paths[0], None if chosen is None else rows.header.index(chosen), key)
            if place is not None
        }
    )
    return Columns(
        paths[0],
        None if chosen is None else rows.header.index(chosen),
        key,
        rest=len(rows.header) > used,
        split=told,
    )


def _take_split(rows: Rows, columns: Columns, split: str | None) -> None:
    """Keeps the rows of the split that is asked for."""
    if columns.split is None and split is None:
        return
    names = [""] * len(rows.cells) if columns.split is None else [row[columns.split] for row in rows.cells]
    found = dict.fromkeys(names)
    name, _ = choose(rows.path, found, split)
    rows.books.remarks += remark(found, name)
    rows.books.asides(
        "rows of other splits",
        (f"line {line}" for line, of in zip(rows.lines, names, strict=True) if of != name),
    )
    rows.lines = [line for line, of in zip(rows.lines, names, strict=True) if of == name]
    rows.cells = [cells for cells, of in zip(rows.cells, names, strict=True) if of == name]


def one_label(names: list[str], where: str) -> str | None:
    """The column of labels among `names`; None where there is none.

    Raises:
        DatasetError: several, none of them called `label`.
    """
    found = [name for name in names if name.lower() in LABEL_NAMES]
    standard = [name for name in found if name.lower() == "label"]
    if len(found) > 1 and len(standard) != 1:
        raise DatasetError(
            f"{where}: {len(found)} may be the person: {', '.join(found)}. Call the right one label."
        )
    return next(iter(standard or found), None)


def _kinds(cells: list[str], is_path: Callable[[str], bool]) -> str:
    return "".join("N" if is_number(cell) else "P" if is_path(cell) else "S" for cell in cells)


def _columns(rows: Rows, is_path: Callable[[str], bool]) -> Columns:
    """Columns by the kinds of the cells, which must be the same in every row."""
    found = [_kinds(cells, is_path) for cells in rows.cells]
    if len({len(kinds) for kinds in found}) == 1:
        every = ["".join(sorted(set(column))) for column in zip(*found, strict=True)]
        # names of people, some of them digits
        found = [
            "".join("S" if all_ == "NS" else kind for all_, kind in zip(every, kinds, strict=True))
            for kinds in found
        ]
    for row, kinds in enumerate(found):
        if kinds != found[0]:
            with_label = {"P", "PN"} == {kinds, found[0]}
            fault = (
                "with label or without, not both" if with_label
                else f"expected cells as in line {rows.lines[0]}, {' '.join(rows.cells[0])[:60]!r}"
            )  # fmt: skip
            raise rows.fault(row, f"{' '.join(rows.cells[row])[:60]!r}: {fault}.")
    kinds = found[0]
    if kinds in DIALECTS:
        return DIALECTS[kinds]
    if kinds in ("NP", "SP"):
        return _number_and_path(rows)
    if kinds[:-1] == "N" * (len(kinds) - 1) and kinds[-1:] == "P":
        return Columns(len(kinds) - 1, 1, 0, rest=True)  # im2rec with several labels: the first is the person
    if kinds.startswith("NPN") and set(kinds[3:]) == {"N"}:
        return Columns(1, 2, 0, rest=True)  # insightface's dir2lst with box and landmarks
    raise rows.fault(0, f"{' '.join(rows.cells[0])[:60]!r}: expected {SHAPES}.")


def _number_and_path(rows: Rows) -> Columns:
    """`label<TAB>path` or `index<TAB>path`: an index differs in every line, a label comes again."""
    numbers = [row[0] for row in rows.cells]
    folders = {folder_of(row[1].replace("\\", "/")) for row in rows.cells}
    if len(set(numbers)) < len(numbers):
        return Columns(1, 0)
    if len(folders) == len(numbers):
        return Columns(1, 0)  # a picture a person, either way
    if len(folders) == 1:
        raise DatasetError(
            f"{rows.path}: {len(numbers)} lines `number path`, every number another and all pictures in one folder: "
            "an index, or "
            "a person a picture? Write `path label`."
        )
    return Columns(1, None, 0)


def _check_paths(rows: Rows, names: list[str], is_path: Callable[[str], bool]) -> None:
    for row, name in enumerate(names):
        if not is_path(name):
            raise rows.fault(row, f"{name[:60]!r} is no path of a picture; expected {SHAPES}.")


def _by_folder(path: Path, folders: list[str]) -> tuple[NDArray[np.int64], list[str]]:
    if len(folders) > 1 and len(set(folders)) == 1:
        raise DatasetError(
            f"{path}: {len(folders)} paths without labels, all in the folder {folders[0]!r}: everybody would be one "
            "person. "
            "Write `path label`."
        )
    return ranked(folders)


def _refuse_repeated(rows: Rows, names: list[str], labels: NDArray[np.int64]) -> None:
    if len(set(names)) == len(names):
        return
    seen: dict[str, int] = {}
    again = [(row, seen[name]) for row, name in enumerate(names) if seen.setdefault(name, row) != row]
    row, first = again[0]
    how = "with another label" if labels[row] != labels[first] else "again"
    raise rows.fault(
        row,
        f"{names[row]} stands in line {rows.lines[first]} and here {how} ({len(again)} lines repeat a picture). Remove "
        "the wrong ones.",
    )
