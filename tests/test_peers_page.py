"""docs/peers.md: every feature of the peers is ours, and a test that exists holds each line."""

from __future__ import annotations

import ast
import functools
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "peers.md"
PEERS = ("ultralytics", "diffusers", "timm", "img2dataset", "streaming")
HELD = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def tables() -> list[tuple[list[str], list[list[str]]]]:
    """(head, rows) of each table of the page."""
    found: list[tuple[list[str], list[list[str]]]] = []
    before = ""
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and set("".join(cells)) <= set("-: "):
            found.append(([cell.strip() for cell in before.strip().strip("|").split("|")], []))
        elif line.startswith("|") and before.startswith("|"):
            found[-1][1].append(cells)
        before = line
    return found


def rows() -> list[list[str]]:
    return [row for head, some in tables() if head[0] == "feature" for row in some]


@functools.cache
def names_of(path: Path) -> frozenset[str]:
    """Names of the tests that a file defines, in classes too."""
    tree = ast.parse(path.read_text())
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )


def test_the_versions_looked_at_are_said() -> None:
    head = next(head for head, _ in tables() if head[0] == "feature")
    assert head == ["feature", *PEERS, "here", "held by"]
    text = PAGE.read_text()
    for peer in PEERS:
        assert re.search(rf"\b{peer} \d+\.\d+\.\d+", text), peer


def test_no_row_is_without_an_answer() -> None:
    found = rows()
    assert len(found) >= 25
    assert len({row[0] for row in found}) == len(found)
    for row in found:
        assert len(row) == len(PEERS) + 3, row
        assert all(row), row
        *_, here, held = row
        assert here.lower().strip("` .") not in ("no", "-", "not yet", "none"), row
        assert HELD.search(held), row


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_a_test_that_exists_holds_the_row(row: list[str]) -> None:
    for name, test in HELD.findall(row[-1]):
        path = ROOT / name
        assert path.is_file(), name
        assert test in names_of(path), f"{name} has no {test}"


def test_a_name_that_is_no_test_would_be_seen() -> None:
    here = Path(__file__)
    assert "test_a_name_that_is_no_test_would_be_seen" in names_of(here)
    assert "test_of_nothing" not in names_of(here)
    assert "rows" not in names_of(here)


def test_hooks_run_what_the_environment_holds() -> None:
    """`.pre-commit-config.yaml`: ruff, its format, typos, types, the floors, each by a program of `make setup-dev`."""
    yaml = pytest.importorskip("yaml")
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = {hook["id"]: hook["entry"] for repo in repos for hook in repo["hooks"]}
    assert {"ruff", "ruff-format", "typos", "mypy", "floors"} <= hooks.keys()
    assert {repo["repo"] for repo in repos} == {"local"}  # nothing is fetched
    for name, entry in hooks.items():
        programs = [Path(word).name for word in entry.split() if word.startswith(".venv/bin/")]
        assert programs, name
        assert all((Path(sys.prefix) / "bin" / program).is_file() for program in programs), name
