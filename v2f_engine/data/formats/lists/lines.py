"""A text table's rows of cells, whatever separates them: tabs, commas, semicolons, blanks; a header, comments, a BOM.

`table` says what the cells mean.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from v2f_engine.data.formats.account import Tally
from v2f_engine.data.formats.lists.label_values import LABEL_NAMES, is_number
from v2f_engine.data.gate.pictures import IMAGE_SUFFIXES
from v2f_engine.data.gate.strict_json import parse
from v2f_engine.errors import DatasetError

PATH_NAMES = (
    "path",
    "file_name",
    "filename",
    "file",
    "image",
    "img",
    "image_path",
    "img_path",
    "image_id",
    "name",
    "filepath",
)
"""What columns of paths are called; compared in lower case."""
MAX_LINE = 4096
SHAPES = (
    "`path label`, `label<TAB>path`, `index<TAB>label<TAB>path` (im2rec), `index<TAB>path<TAB>label`, `path` alone, "
    "or a "
    "CSV with a header that names them"
)
"""For messages."""


@dataclass
class Rows:
    """Cells of the lines that count.

    Args:
        path: the file.
        header: names of the columns, in lower case; None without a header.
        cells: of each row.
        lines: the number of each row's line, from 1.
        books: the lines so far that are no rows.
    """

    path: Path
    header: list[str] | None
    cells: list[list[str]]
    lines: list[int]
    books: Tally = field(default_factory=lambda: Tally("lines"))

    def fault(self, row: int, found: str) -> DatasetError:
        """Names a row."""
        return DatasetError(f"{self.path}: line {self.lines[row]}: {found}")


def names_picture(cell: str) -> bool:
    """Whether a cell is the path of a picture, with `/` or `\\`."""
    return cell.lower().endswith(IMAGE_SUFFIXES)


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a BOM, or UTF-16 with one; undecodable bytes of paths are kept.

    Raises:
        DatasetError: it cannot be read, or holds NUL: no text.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}.") from error
    wide = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    try:
        text = (
            data.decode("utf-16")
            if wide
            else data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
        )
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: starts as UTF-16 and is none: {error}.") from error
    if "\0" in text:
        raise DatasetError(f"{path}: expected a text of {SHAPES}; found NUL bytes.")
    # lists joined by `cat` have a BOM inside; DOS ends a text with Ctrl-Z
    return text.rstrip("\x1a").replace("\n\ufeff", "\n")


def _lines(text: str) -> list[str]:
    """Lines of Unix, Windows or an old Mac; other characters that Python breaks lines at may stand in paths."""
    return [line.removesuffix("\r") for line in text.split("\n")] if "\n" in text else text.split("\r")


def read_rows(path: Path, is_path: Callable[[str], bool] = names_picture) -> Rows:
    """The rows of a list.

    Args:
        path: `.txt`, `.lst`, `.csv`, `.tsv`, `.jsonl` or `.json`.
        is_path: which cells are paths.

    Raises:
        DatasetError: no row, or a line that is none.
    """
    text = read_text(path)
    if path.suffix.lower() in (".json", ".jsonl"):
        return _objects(path, text)
    rows = Rows(path, None, [], [])
    numbered: list[tuple[int, str]] = []
    for number, line in enumerate(_lines(text), start=1):
        if not line.strip():
            continue
        if len(line) > MAX_LINE:
            raise DatasetError(f"{path}: line {number}: {len(line)} characters; expected {SHAPES}.")
        if line.startswith("#"):
            if any(is_path(word) for word in re.split(r"[\t, ]+", line[1:].strip())):
                raise DatasetError(
                    f"{path}: line {number}: {line[:60]!r} starts with # and names a picture: a comment, or a path? "
                    "Remove the "
                    "line, or put ./ before the path."
                )
            rows.books.aside("comments", f"line {number}")
            continue
        numbered.append((number, line))
    if not numbered:
        raise DatasetError(f"{path}: no line; expected {SHAPES}.")
    rows.lines = [number for number, _ in numbered]
    rows.cells = _split(path, numbered, is_path)
    _take_header(rows, is_path)
    return rows


def _separator(path: Path, lines: list[str]) -> str | None:
    """What separates cells; None for blanks."""
    sample = lines[:2]
    if all("\t" in line.strip() for line in sample):
        return "\t"
    for mark in (",", ";"):
        whole = path.suffix.lower() == ".csv" or not any(" " in line for line in sample)
        if whole and all(mark in line for line in sample):
            return mark
    return None


def _split(path: Path, numbered: list[tuple[int, str]], is_path: Callable[[str], bool]) -> list[list[str]]:
    mark = _separator(path, [line for _, line in numbered])
    if mark is None:
        return [_words(line.strip(), is_path) for _, line in numbered]
    found = []
    for number, line in numbered:
        try:
            cells = next(csv.reader([line], delimiter=mark, strict=True))
        except (csv.Error, StopIteration) as error:
            raise DatasetError(f"{path}: line {number}: {line[:60]!r}: {error}.") from error
        found.append([cell.strip() for cell in cells])
    return found


def _words(line: str, is_path: Callable[[str], bool]) -> list[str]:
    """Cells of a line whose path may hold blanks: numbers before it, the path, one word or numbers after it."""
    if is_path(line):
        words = line.split()
        front = 0
        while front < len(words) - 1 and is_number(words[front]):
            front += 1
        # `12 a.jpg` is a number and a path only where all before the path are numbers; a path may begin with one
        return [line] if front != len(words) - 1 else words
    head, _, last = line.rpartition(" ")
    if is_path(head.strip()):
        return [*_words(head.strip(), is_path), last]
    return line.split()


def _take_header(rows: Rows, is_path: Callable[[str], bool]) -> None:
    """The first line, where it names columns or says how many lines follow, is no row."""
    first, following = rows.cells[0], rows.cells[1:]
    if any(map(is_path, first)) or not following or not any(map(is_path, following[0])):
        return
    if len(first) == 1 and first[0].isdigit():
        if int(first[0]) != len(following):
            raise rows.fault(0, f"says {first[0]} lines, {len(following)} follow.")
        rows.books.aside("lines that count the others", f"line {rows.lines[0]}")
    elif not any(cell.lower() in (*PATH_NAMES, *LABEL_NAMES) for cell in first):
        raise rows.fault(0, f"{' '.join(first)[:60]!r} names no picture; expected {SHAPES}.")
    else:
        rows.header = [cell.lower() for cell in first]
        rows.books.aside("headers", f"line {rows.lines[0]}")
    rows.cells, rows.lines = following, rows.lines[1:]


def _objects(path: Path, text: str) -> Rows:
    """Rows of JSON: an object a line, a list of objects or pairs, `{path: label}`, or one of them under `labels`."""
    if path.suffix.lower() == ".jsonl":
        numbered = [(n, line) for n, line in enumerate(_lines(text), start=1) if line.strip()]
        entries = [
            parse(line.encode("utf-8", "surrogateescape"), f"{path}: line {n}") for n, line in numbered
        ]
        lines = [n for n, _ in numbered]
    else:
        found = parse(text.encode("utf-8", "surrogateescape"), str(path))
        if isinstance(found, dict) and isinstance(found.get("labels"), list | dict):
            found = found["labels"]
        entries = [list(pair) for pair in found.items()] if isinstance(found, dict) else found
        lines = list(range(1, len(entries) + 1)) if isinstance(entries, list) else []
    if not isinstance(entries, list) or not entries:
        raise DatasetError(f"{path}: no entry; expected objects or pairs of a path and a label.")
    header: list[str] | None = None
    if isinstance(entries[0], dict):
        header = sorted(entries[0])
        if not all(isinstance(entry, dict) and sorted(entry) == header for entry in entries):
            at = next(
                n
                for n, e in zip(lines, entries, strict=True)
                if not isinstance(e, dict) or sorted(e) != header
            )
            raise DatasetError(f"{path}: entry {at}: expected the keys {header}, as in the first entry.")
        entries = [[entry[name] for name in header] for entry in entries]
    cells = []
    for number, entry in zip(lines, entries, strict=True):
        plain = isinstance(entry, list) and all(type(cell) in (str, int, float) for cell in entry)
        if not plain:
            raise DatasetError(
                f"{path}: entry {number}: {entry!r:.60}; expected a path and a label, texts or numbers."
            )
        cells.append([repr(cell) if isinstance(cell, float) else str(cell) for cell in entry])
    return Rows(path, None if header is None else [name.lower() for name in header], cells, lines)
