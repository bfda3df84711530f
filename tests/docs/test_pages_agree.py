"""Two pages that tell the same thing tell it alike."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from v2f_engine import errors
from v2f_engine.stopping import SIGNALS, Stopped

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
README = (ROOT / "README.md").read_text()
FIGURE = re.compile(r"(\d[\d,.]*) (?:finished )?images/s[^|\n]{0,60}\n?[^|\n]{0,60}README\b")


def test_rates_that_name_readme_stand_there() -> None:
    """docs/scale.md computes hours from them."""
    found = [(page.name, figure) for page in PAGES for figure in FIGURE.findall(page.read_text())]
    assert len(found) >= 3
    assert not [one for one in found if not re.search(rf"(?<![\d,.]){re.escape(one[1])}\b", README)]


def test_hours_of_the_scale_page_are_of_their_rate() -> None:
    rows = re.findall(
        r"^\| ([\d.]+) images/s .*?\| ([\d.]+) (\w+) \| ([\d.]+) (\w+) \| ([\d.]+) (\w+) \|$",
        (ROOT / "docs/scale.md").read_text(),
        re.MULTILINE,
    )
    assert len(rows) >= 2
    seconds = {"days": 86_400, "h": 3_600, "min": 60}
    for rate, *told in rows:
        for value, unit, images in zip(told[::2], told[1::2], (15e6, 15e6 / 64, 500e6 / 64), strict=True):
            assert float(value) * seconds[unit] == pytest.approx(images / float(rate), rel=0.02)


def test_every_exit_code_stands_in_the_table() -> None:
    table = dict(
        re.findall(r"^\| ([\d, ]+) \| (.*) \|$", (ROOT / "docs/command_line.md").read_text(), re.MULTILINE)
    )
    told = {int(code) for codes in table for code in codes.split(",")}
    kinds = [getattr(errors, name) for name in errors.__all__]
    codes = {kind.exit_code for kind in kinds if issubclass(kind, errors.V2FError)}
    assert {0, *codes, *(Stopped(number).exit_code for number in SIGNALS)} == told


def test_layouts_of_sets_are_as_many_as_their_tables_have_rows() -> None:
    page = (ROOT / "docs/formats.md").read_text()
    tables = page.partition("## Folders\n")[2].partition("## Several sets in one place")[0]
    rows = sum(line.startswith("| ") for line in tables.splitlines()) - 2 * tables.count("| --- |\n")
    said = re.search(r"(\d+) layouts are damaged", page)
    logged = re.search(r"(\d+) layouts of", (ROOT / "CHANGELOG.md").read_text())
    assert said is not None
    assert logged is not None
    assert int(said[1]) == int(logged[1]) == rows
