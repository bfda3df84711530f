"""Text tables of strangers: columns split by blanks, each of a stated type; an error gives the line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from v2f_engine.errors import DatasetError


def read_columns(path: Path, expected: str, kinds: Sequence[type]) -> list[list[Any]]:
    """The columns of a table.

    Args:
        path: the file; empty lines do not count.
        expected: its columns in words, for messages.
        kinds: type of each column: `str`, `int` or `float`.

    Raises:
        DatasetError: no such file, no line, or a line of another shape.
    """
    if not path.is_file():
        raise DatasetError(f"{path} does not exist; expected lines of: {expected}.")
    columns: list[list[Any]] = [[] for _ in kinds]
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            words = line.split()
            if not words:
                continue
            try:
                if len(words) != len(kinds):
                    raise ValueError(f"{len(words)} columns")
                for column, kind, word in zip(columns, kinds, words, strict=True):
                    column.append(kind(word))
            except ValueError as error:
                raise DatasetError(
                    f"{path}: line {number}: expected {expected}, found {line.strip()[:60]!r} ({error})."
                ) from error
    if not columns[0]:
        raise DatasetError(f"{path}: no line; expected {expected}.")
    return columns
