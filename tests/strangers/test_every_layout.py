"""Every layout through what the commands call, against the table that users read (docs/formats.md)."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
from all_layouts import LAYOUTS, SPLIT_LAYOUTS
from formats_table import committed, tables
from layout_rows import PEOPLE, people

from v2f_engine.data.inspect_file import inspect_file


def test_the_page_says_what_every_layout_gives(tmp_path: Path) -> None:
    made, held = tables(tmp_path), committed()[1]
    changed = list(difflib.unified_diff(held.splitlines(), made.splitlines(), "docs/formats.md", "now", n=0))
    assert not changed, "\n".join([*changed[:40], "`make formats` writes the page"])
    rows = [
        line
        for line in made.splitlines()
        if line.startswith("| ") and not line.startswith(("| ---", "| layout"))
    ]
    print(f"{len(rows)} layouts")
    assert len(rows) > 190
    assert not [row for row in rows[: len(LAYOUTS)] if "refused" in row]


def test_names_of_layouts_are_theirs_alone() -> None:
    names = [layout.name for layout in (*LAYOUTS, *SPLIT_LAYOUTS)]
    assert len(set(names)) == len(names)


@pytest.mark.slow
@pytest.mark.parametrize("layout", [*LAYOUTS, *SPLIT_LAYOUTS], ids=lambda layout: layout.name)
def test_the_command_says_the_same_of_every_layout(layout, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """In a process of its own, as `v2f inspect` reads."""
    found = inspect_file(layout.maker(tmp_path, PEOPLE), split=layout.split)
    assert found.sound, found.summary
    assert people(20, 5).replace("people", "identities") in found.account[0]
