"""The formats: complete, escaped whatever a row is called, and the command that writes them."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables_toy import FIVE, FOUR, put, verification
from typer.testing import CliRunner

from v2f_engine.cli.main import app
from v2f_engine.errors import ConfigError, OutputFolderError
from v2f_engine.evaluate.report.origin import accuracy
from v2f_engine.evaluate.tables import Table, columns, make_tables
from v2f_engine.evaluate.tables.formats import ENDINGS, FORMATS, markdown
from v2f_engine.evaluate.tables.kinds import Result
from v2f_engine.evaluate.tables.latex import SPECIAL, escaped

NAMES = st.text(st.characters(exclude_categories=[]), min_size=1, max_size=12) | st.sampled_from(
    ["a|b", "<b>&", "\\end{table}", "_x_ $y$ %", "**bold**", "]", "[1]", "人", "`c`", "a\nb", "\udcff"]
)


def named(name: str) -> list[Table]:
    values = {columns.column_of(key): 100 * value for key, value in {**FIVE, **FOUR}.items()}
    columns.add_average(values)
    return make_tables([Result(Path("v.json"), "verification", name, values)])


class Cells(HTMLParser):
    """Elements, their nesting, and the rows of tables."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, ...]] = []
        self.rows: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, *(key for key, _ in attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


@given(NAMES)
@settings(max_examples=20, deadline=None)
def test_a_name_changes_no_structure(name: str) -> None:
    plain, other = named("plain"), named(name)
    pages = []
    for tables in (plain, other):
        page = Cells()
        page.feed(FORMATS["html"](tables))
        assert page.open == []
        pages.append(page)
    assert pages[0].seen == pages[1].seen
    for form in ("text", "markdown", "latex"):
        a, b = (FORMATS[form](tables).encode().decode().split("\n") for tables in (plain, other))
        assert len(a) == len(b), form
        assert [bars(line) for line in a] == [bars(line) for line in b] if form == "markdown" else True
        assert [ands(line) for line in a] == [ands(line) for line in b] if form == "latex" else True
    rows = list(csv.DictReader(FORMATS["csv"](other).splitlines()))
    assert sum(row["ours"] == "1" for row in rows) == 2
    assert json.loads(FORMATS["json"](other))["schema"] == "v2f-tables/1"


def bars(line: str) -> int:
    return len(re.findall(r"(?<!\\)(?:\\\\)*\|", line))


def ands(line: str) -> tuple[int, int]:
    """Column marks, and braces that are open at the end."""
    bare = re.sub(r"\\.", "", line)
    return bare.count("&"), bare.count("{") - bare.count("}")


@given(NAMES)
def test_latex_has_nothing_of_a_name_that_it_would_obey(name: str) -> None:
    text = escaped(name)
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    for ours in sorted(SPECIAL.values(), key=len, reverse=True):
        text = text.replace(ours, "")
    bare = text
    assert not set(bare) & set("\\$&%#_~^")
    assert all(letter.isprintable() or letter == " " for letter in bare)


def test_markdown_shows_what_was_typed() -> None:
    assert markdown("a|b*c_<d>") == r"a\|b\*c\_\<d\>"
    text = named("mine")[0].to_markdown()
    assert "| **mine** (ours) | - | - | 99.12 |" in text
    assert "**95.58**" in text  # VFace20K on AgeDB, the best of the generated


def test_csv_has_every_digit_and_nothing_where_nothing_is_known() -> None:
    rows = {
        (row["table"], row["row"]): row for row in csv.DictReader(FORMATS["csv"](named("mine")).splitlines())
    }
    assert float(rows["challenging", "mine"]["hadrian"]) == 100 * FOUR["hadrian"] != 75.13
    assert rows["challenging", "VFace10K"]["hadrian"] == ""
    assert rows["verification", "WebFace4M"]["off_plot"] == "average"
    assert rows["verification", "HSFace100K"]["people"] == "100000"
    assert rows["verification", "HSFace100K"]["url"] == "https://github.com/HaiyuWu/Vec2Face"


def test_html_has_each_figure_in_its_cell() -> None:
    page = Cells()
    page.feed(FORMATS["html"](named("mine")))
    (head, *_) = page.rows
    (mine, *_) = (row for row in page.rows if row[0] == "mine")
    assert dict(zip(head, mine, strict=True))["CFP-FP"] == "92.10"
    assert ["HSFace200K", "200K", "10M", "79.85", "71.12", "95.70", "89.86", "-", "1"] in page.rows
    assert not any(key == "src" or tag == "script" for tag, *keys in page.seen for key in keys)


def test_text_is_aligned_and_marks_ours() -> None:
    lines = named("mine")[0].to_text().split("\n")
    (mine,) = (line for line in lines if line.startswith(">"))
    assert mine.split()[:2] == [">", "mine"]
    assert mine.index("99.12") == lines[1].index("LFW") - 2
    assert any("≈97.20" in line for line in lines)


@pytest.mark.parametrize(("ending", "form"), sorted((ending[1:], form) for ending, form in ENDINGS.items()))
def test_the_command_writes_what_the_ending_says(tmp_path: Path, ending: str, form: str) -> None:
    result = verification(tmp_path / "v.json", FIVE)
    out = tmp_path / f"t.{ending}"
    run = CliRunner().invoke(
        app, ["evaluate", "table", str(result), "--out", str(out)], catch_exceptions=False
    )
    assert run.exit_code == 0, run.output
    printed = CliRunner().invoke(
        app, ["evaluate", "table", str(result), "--format", form], catch_exceptions=False
    )
    assert out.read_text() == printed.stdout
    assert "r50" in printed.stdout


def test_the_command_claims_its_file_and_reads_anew(tmp_path: Path) -> None:
    folder = tmp_path / "r50.evaluation"
    verification(folder / "v.json", FIVE)

    def run(*words: str) -> None:
        CliRunner().invoke(app, ["evaluate", "table", str(folder), *words], catch_exceptions=False)

    out = tmp_path / "t.csv"
    run("--out", str(out))
    before = out.read_text()
    verification(
        folder / "v.json", {**FIVE, "lfw": 0.9913}
    )  # as long as before: the same words, other figures
    run("--out", str(out))
    assert out.read_text() != before
    with pytest.raises(OutputFolderError, match="--overwrite"):
        run("--out", str(out), "--order", "below")
    run("--out", str(out), "--order", "below", "--overwrite")
    with pytest.raises(OutputFolderError, match="is what this command reads"):
        CliRunner().invoke(
            app, ["evaluate", "table", str(folder / "v.json"), "--out", str(folder / "v.json"), "--overwrite"],
            catch_exceptions=False,
        )  # fmt: skip
    with pytest.raises(ConfigError, match="a name for csv"):
        run("--out", str(out), "--format", "html")
    with pytest.raises(OutputFolderError, match="ends in"):
        run("--out", str(tmp_path / "t.pdf"))


def test_what_is_passed_over_is_said(tmp_path: Path) -> None:
    verification(tmp_path / "a.evaluation" / "v.json", FIVE)
    put(tmp_path / "a.evaluation" / "z.json", {"a": 1})
    run = CliRunner().invoke(app, ["evaluate", "table", str(tmp_path)], catch_exceptions=False)
    assert "passed over" in run.stderr
    assert "z.json" in run.stderr


def test_the_report_shows_a_measured_hadrian_between_the_published() -> None:
    measured = {**FIVE, **FOUR}.items()
    sets = [{"name": name, "accuracy": value, "deviation": 0.0, "pairs": 10} for name, value in measured]
    mine = {"name": "<mine>", "average": 0.9, "sets": sets}
    page = Cells()
    page.feed(accuracy({"accuracy": [mine, mine]}))
    names = [row[0] for row in page.rows]
    assert names.count("<mine>") == 4  # two of one name in two tables
    assert ["<mine>", "", "75.12", "67.10", "94.00", "88.90", "-", "this report"] in page.rows
    assert {"HSFace100K", "HSFace200K", "VFace100K"} <= set(names)
    none = Cells()
    none.feed(accuracy({"accuracy": []}))
    assert "Hadrian" not in none.rows[0]


def test_letters_that_default_fonts_lack_are_written_by_their_numbers() -> None:
    assert escaped("Łódź, Čapek, Åse, ß, 人, ð, ą") == "Łódź, Čapek, Åse, ß, U+4EBA, U+00F0, U+0105"
