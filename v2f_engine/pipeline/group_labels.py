"""Which group each person is of, from somebody's table: a header, a column or several, one group a line.

A row without a group, a person named twice or two spellings of one group are errors that name the line: a person put
into the wrong group, or left out, shows in no picture afterwards.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from v2f_engine.data.formats.lists.label_values import LABEL_NAMES, refuse_two_spellings
from v2f_engine.errors import ConfigError, DatasetError, VectorError
from v2f_engine.outside import admit
from v2f_engine.vectors.centres import People
from v2f_engine.vectors.group_names import check_names

DELIMITERS = (",", ";", "\t", "|")
JOINED = "/"
"""Between the values of several columns: `young/female`."""
ROW = "row"
"""Column of row numbers, as the table beside `v2f ids centres` has it."""
MISSING = ("", "na", "n/a", "nan", "null", "none", "?")
"""Cells that say nothing, in lower case."""
MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
SHOWN = 8
Say = Callable[[str], None]


def _quiet(words: str) -> None:
    pass


@dataclass(frozen=True)
class GroupTable:
    """The groups in a table.

    Args:
        path: for messages.
        header: names of all its columns.
        cells: of each line.
        lines: where each stands in the file, from 1.
        groups: name of each line's group.
        column: what the groups are by.
    """

    path: Path
    header: tuple[str, ...]
    cells: list[list[str]]
    lines: list[int]
    groups: list[str]
    column: str

    def of_rows(self, rows: int) -> list[str]:
        """The group of each row of features: by the column `row`, or line by line in their order.

        Raises:
            VectorError: another number of lines, or row numbers that are not each of them once.
        """
        if len(self.groups) != rows:
            raise VectorError(
                f"{self.path}: {len(self.groups):,} lines below its header, and {rows:,} rows of features. Expected a "
                "line for every row: in their order, or with its number in a column `row`."
            )
        place = next((place for place, name in enumerate(self.header) if name.lower() == ROW), None)
        if place is None:
            return self.groups
        numbers = [_whole(cells[place]) for cells in self.cells]
        for number, line in zip(numbers, self.lines, strict=True):
            if number is None or number >= rows:
                raise VectorError(
                    f"{self.path}: line {line}: expected the number of a row, 0 to {rows - 1}, in column `row`."
                )
        self._refuse_twice(numbers, "row")
        found = dict(zip(numbers, self.groups, strict=True))
        return [found[row] for row in range(rows)]

    def of_people(self, people: People, say: Say = _quiet) -> list[str]:
        """The group of each person, by the column that names people as their labels do.

        Args:
            people: labels: int64 `[M]`, or names.
            say: told how many lines are of nobody here.

        Raises:
            VectorError: no such column, a person twice or never.
        """
        key = next((name for wanted in LABEL_NAMES for name in self.header if name.lower() == wanted), None)
        if key is None:
            raise VectorError(
                f"{self.path}: expected a column that says whose each line is ({', '.join(LABEL_NAMES[:8])}, ...), as "
                f"the labels of the features do; found {', '.join(map(repr, self.header[:SHOWN]))}."
            )
        place = self.header.index(key)
        named = isinstance(people, list)
        keys: list[str | int | None] = [
            cells[place] if named else _whole(cells[place]) for cells in self.cells
        ]
        for one, line, cells in zip(keys, self.lines, self.cells, strict=True):
            if one is None or one == "":
                raise VectorError(
                    f"{self.path}: line {line}: expected the label of a person in column {key!r}, "
                    f"{'a name' if named else 'a whole number from 0'}, found {cells[place]!r:.60}."
                )
        self._refuse_twice(keys, key)
        found = dict(zip(keys, self.groups, strict=True))
        whom: list[str | int] = list(people) if isinstance(people, list) else np.asarray(people).tolist()
        absent = [repr(one) for one in whom if one not in found]
        if absent:
            raise VectorError(
                f"{self.path}: {len(absent):,} of {len(whom):,} people with features have no line: "
                f"{', '.join(absent[:SHOWN])}{', ...' if len(absent) > SHOWN else ''}, in column {key!r}. Give every "
                "person a group, or leave their features out."
            )
        if len(found) > len(whom):
            say(
                f"{self.path.name}: {len(found) - len(whom):,} of its {len(found):,} people have no features here"
            )
        return [found[one] for one in whom]

    def _refuse_twice(self, keys: Sequence[object], column: str) -> None:
        seen: dict[object, int] = {}
        for key, line in zip(keys, self.lines, strict=True):
            if (before := seen.setdefault(key, line)) != line:
                raise VectorError(
                    f"{self.path}: {column} {key!r:.60} stands in line {before} and again in line {line}. Expected a "
                    "line a person: features of images need --labels."
                )


def read_groups(path: str | Path, columns: Sequence[str]) -> GroupTable:
    """A table of groups: UTF-8 with or without its mark, cells apart by one of `DELIMITERS` and quoted where needed.

    Args:
        path: of the table; its first line names the columns.
        columns: whose values are the group; of several they are joined: `young/female`.

    Raises:
        VectorError: no such file or column, another encoding, a broken line, a cell that says nothing, or names that
            cannot be groups.
        ConfigError: no column, or one twice.
    """
    path = Path(path)
    if isinstance(columns, str) or not columns or len(set(columns)) < len(columns):
        raise ConfigError(f"column (--column): expected names of columns, each once, found {columns!r:.80}.")
    admit(path, VectorError)
    with _named(path):
        header, delimiter = _header(path, columns)
        places = [header.index(name) for name in columns]
        cells, lines = _lines(path, len(header), delimiter)
    if not cells:
        raise VectorError(f"{path}: expected a line a person below its header, found none.")
    values = [tuple(one[place] for place in places) for one in cells]
    empty = [
        line for line, own in zip(lines, values, strict=True) if any(one.lower() in MISSING for one in own)
    ]
    if empty:
        raise VectorError(
            f"{path}: {len(empty):,} of {len(lines):,} lines say nothing in {' or '.join(map(repr, columns))}: line "
            f"{', '.join(map(str, empty[:SHOWN]))}{', ...' if len(empty) > SHOWN else ''}. People of whom nothing is "
            "known are no group: leave them and their features out, or write `unknown`."
        )
    groups = [JOINED.join(own) for own in values]
    if len(set(groups)) < len(set(values)):
        raise VectorError(
            f"{path}: two groups become one where {JOINED!r} joins them. Write it otherwise in the cells."
        )
    try:
        refuse_two_spellings(sorted(set(groups)), str(path))
    except DatasetError as error:
        raise VectorError(str(error)) from error
    check_names(sorted(set(groups)), f"{path}: {JOINED.join(columns)}")
    return GroupTable(path, tuple(header), cells, lines, groups, JOINED.join(columns))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of the file system, the encoding and the cells, by name."""
    try:
        with open(path, "rb") as file:
            start = file.read(4)
        for mark, name in MARKS.items():
            if start.startswith(mark):
                raise VectorError(f"{path}: expected UTF-8, found {name}. Save it as CSV UTF-8.")
        yield
    except UnicodeDecodeError as error:
        raise VectorError(
            f"{path}: expected UTF-8, found byte 0x{error.object[error.start]:02x}, which is none. Save it so."
        ) from error
    except csv.Error as error:
        raise VectorError(f"{path}: is no table of quoted cells: {error}. Save it as CSV again.") from error
    except OSError as error:
        raise VectorError(
            f"{path}: cannot be read ({error.strerror}). Give a table with a header."
        ) from error


def _header(path: Path, columns: Sequence[str]) -> tuple[list[str], str]:
    """(names of the columns, delimiter): the one by which the header has all columns asked for."""
    found: dict[str, list[str]] = {}
    broken: csv.Error | None = None
    for delimiter in DELIMITERS:
        with open(path, encoding="utf-8-sig", newline="") as file:
            try:
                first = next(csv.reader(file, delimiter=delimiter, strict=True), None)
            except csv.Error as error:  # quotes that are not beside this delimiter
                broken = error
                continue
        if not first:
            raise VectorError(f"{path}: expected a first line that names the columns, found none.")
        found[delimiter] = [name.strip() for name in first]
        if set(columns) <= set(found[delimiter]):
            break
    else:
        if broken is not None and not found:
            raise broken
        delimiter = max(found, key=lambda one: len(found[one]))
    header = found[delimiter]
    absent = [name for name in columns if name not in header]
    if absent:
        named = ", ".join(f"{name!r:.40}" for name in header[:SHOWN]) + (
            ", ..." if len(header) > SHOWN else ""
        )
        raise VectorError(
            f"{path}: no column {absent[0]!r}; its first line names {named}. Name one with --column."
        )
    lower = [name.lower() for name in header]
    twice = [name for name in columns if header.count(name) > 1] + [ROW] * (lower.count(ROW) > 1)
    if twice:
        raise VectorError(f"{path}: its first line names {twice[0]!r} twice. Which is meant?")
    return header, delimiter


def _lines(path: Path, width: int, delimiter: str) -> tuple[list[list[str]], list[int]]:
    """(cells without blanks around them, number of the line) of every line below the header."""
    cells: list[list[str]] = []
    lines: list[int] = []
    blank = 0
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter=delimiter, strict=True)
        next(rows)
        for row in rows:
            line = rows.line_num
            own = [cell.strip() for cell in row]
            if not any(own):
                blank = blank or line
                continue
            if blank:
                raise VectorError(
                    f"{path}: line {blank} is empty and line {line} is not. Whose group is it? Take the line out."
                )
            if len(own) != width:
                raise VectorError(
                    f"{path}: line {line}: expected {width} cells as in the first line, found {len(own)}: "
                    f"{delimiter.join(row)[:60]!r}. A cell with {delimiter!r} in it stands in quotes."
                )
            if any("\0" in cell for cell in own):
                raise VectorError(
                    f"{path}: line {line}: a NUL in {delimiter.join(row)[:60]!r}. Save it as CSV UTF-8."
                )
            cells.append(own)
            lines.append(line)
    return cells, lines


def _whole(text: str) -> int | None:
    """A whole number from 0, as labels are spelled (`7`, `7.0`); None for anything else."""
    digits, _, rest = text.partition(".")
    good = digits.isascii() and digits.isdigit() and len(digits) <= 18 and not rest.strip("0")
    return int(digits) if good else None
