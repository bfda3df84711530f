"""docs/fidelity.md: every row complete, and the test it names one that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/fidelity.md"
COLUMNS = ["item", "published", "ours", "why", "as published", "test"]


def rows() -> list[tuple[int, list[str]]]:
    """(line, cells) of every row; a bar inside a cell is written `\\|`."""
    found = []
    for number, line in enumerate(PAGE.read_text().splitlines(), 1):
        if line.startswith("|") and not set(line) <= set("|- "):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if cells != COLUMNS:
                found.append((number, cells))
    return found


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(
    ("line", "cells"), rows(), ids=lambda value: str(value) if isinstance(value, int) else value[0]
)
def test_a_row_is_complete_and_its_tests_exist(line: int, cells: list[str]) -> None:
    assert len(cells) == len(COLUMNS), f"line {line}: {len(cells)} cells, expected {len(COLUMNS)}"
    item, *said = cells
    assert item, f"line {line} has no item"
    assert all(said), f"line {line} ({item}): an empty cell; write - where there is nothing"
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", cells[-1])
    assert named or cells[-1] == "-", f"line {line} ({item}): name a test as `tests/FILE.py::test_name`, or -"
    for file, function in named:
        assert (ROOT / file).is_file(), f"line {line} ({item}): {file} is not there"
        assert not function or function in functions(ROOT / file), (
            f"line {line} ({item}): {file} has no {function}"
        )
