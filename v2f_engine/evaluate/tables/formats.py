"""Tables as text, Markdown, LaTeX, HTML, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from v2f_engine.config import one_of
from v2f_engine.evaluate.tables.table import Difference, Line, Table, images_text, people_text

SCHEMA = "v2f-tables/1"


def clean(text: str) -> str:
    """One line that can be encoded: control characters become blanks, halves of characters question marks."""
    visible = "".join(" " if unicodedata.category(letter) == "Cc" else letter for letter in text)
    return visible.encode("utf-8", "replace").decode()


def head(table: Table) -> list[str]:
    return ["training set", "people", "images", *(column.name for column in table.columns)]


def cells(table: Table, line: Line) -> list[str]:
    values = [cell.text(column.form) for cell, column in zip(line.cells, table.columns, strict=True)]
    return [clean(line.name), people_text(line.people), images_text(line.images), *values]


def difference(table: Table, one: Difference) -> list[str]:
    values = [
        "-" if value is None else format(value, "+" + column.form.replace(",", ""))
        for value, column in zip(one.values, table.columns, strict=True)
    ]
    several = len({each.ours for each in table.differences}) > 1
    return [
        f"{clean(one.ours)} minus {one.published}" if several else f"minus {one.published}",
        "",
        "",
        *values,
    ]


def numbers(line: Line) -> str:
    return " ".join(f"[{number}]" for number in line.notes)


def to_text(tables: Sequence[Table]) -> str:
    """Aligned columns: `>` before ours, `*` after the best."""
    return "\n\n".join(map(_text, tables)) + "\n"


def _text(table: Table) -> str:
    first, *heads = head(table)
    rows = [["", first, *heads[:2], *(f"{name} " for name in heads[2:]), "source"]]
    for line in table:
        values = cells(table, line)
        marked = [
            value + ("*" if cell.best else " ") for value, cell in zip(values[3:], line.cells, strict=True)
        ]
        rows.append([">" if line.ours else "", *values[:3], *marked, numbers(line)])
    for one in table.differences:
        first, *values = difference(table, one)
        rows.append(["", first, *values[:2], *(f"{value} " for value in values[2:]), ""])
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    left = (0, 1, len(widths) - 1)
    drawn = [
        " ".join(
            text.ljust(width) if place in left else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    notes = [
        f"  [{n}] {clean(note.text)}" + f", {note.url}" * bool(note.url)
        for n, note in enumerate(table.footnotes, 1)
    ]
    remarks = [f"  {text}" for text in table.remarks]
    legend = "  > ours; * best of the column among generated sets; ≈ read off a plot; - not known"
    return "\n".join([table.title, *drawn, *notes, *remarks, legend])


def to_markdown(tables: Sequence[Table]) -> str:
    """Tables of GitHub's Markdown: ours and the best are bold."""
    return "\n\n".join(map(_markdown, tables)) + "\n"


def markdown(text: str) -> str:
    """Text that Markdown shows as it is, also inside a cell."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&$^])", r"\\\1", clean(text))


def _markdown(table: Table) -> str:
    def row(values: Iterable[str]) -> str:
        return f"| {' | '.join(values)} |"

    lines = [f"### {markdown(table.title)}", "", row([*map(markdown, head(table)), "source"])]
    lines.append(row([":---", *["---:"] * (len(head(table)) - 1), ":---"]))
    for line in table:
        name, *values = cells(table, line)
        shown = [f"**{v}**" if cell.best else v for v, cell in zip(values[2:], line.cells, strict=True)]
        called = f"**{markdown(name)}** (ours)" if line.ours else markdown(name)
        lines.append(
            row([called, *values[:2], *shown, numbers(line).replace("[", "\\[").replace("]", "\\]")])
        )
    for one in table.differences:
        name, *values = difference(table, one)
        lines.append(row([f"*{markdown(name)}*", *values, ""]))
    lines.append("")
    for n, note in enumerate(table.footnotes, 1):
        link = f", <{note.url}>" if note.url else ""
        lines.append(f"- \\[{n}\\] {markdown(note.text)}{link}")
    lines += [f"- {markdown(text)}" for text in table.remarks]
    lines.append(
        "- Bold figures: the best of the column among generated sets; ≈ read off a plot; - not known."
    )
    return "\n".join(lines)


def to_csv(tables: Sequence[Table]) -> str:
    """One line a row of each table, every digit; columns that a table lacks and figures not known are empty."""
    keys = list(dict.fromkeys(column.key for table in tables for column in table.columns))
    out = io.StringIO()
    names = ["table", "row", "ours", "photographs", "people", "images", *keys, "off_plot", "source", "url"]
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    for table in tables:
        for line in table:
            marks = zip(table.columns, line.cells, strict=True)
            values = {key: "" if v is None else repr(v) for key, v in table.values(line).items()}
            writer.writerow({
                **values, "table": table.key, "row": clean(line.name), "ours": int(line.ours),
                "photographs": int(line.photographs), "people": "" if line.people is None else line.people,
                "images": "" if line.images is None else line.images,
                "off_plot": " ".join(column.key for column, cell in marks if cell.off_plot),
                "source": line.source, "url": line.url,
            })  # fmt: skip
    return out.getvalue()


def to_json(tables: Sequence[Table]) -> str:
    """Everything, with every digit."""
    record = {"schema": SCHEMA, "tables": [to_record(table) for table in tables]}
    return json.dumps(record, indent=1, allow_nan=False) + "\n"


def to_record(table: Table) -> dict[str, Any]:
    def marked(line: Line, what: str) -> list[str]:
        pairs = zip(table.columns, line.cells, strict=True)
        return [column.key for column, cell in pairs if getattr(cell, what)]

    return {
        "table": table.key,
        "title": table.title,
        "columns": [
            {"key": c.key, "name": c.name, "unit": c.unit, "better": c.better} for c in table.columns
        ],
        "rows": [
            {
                "name": line.name, "ours": line.ours, "photographs": line.photographs, "people": line.people,
                "images": line.images, "values": dict(table.values(line)), "best": marked(line, "best"),
                "off_plot": marked(line, "off_plot"), "computed": marked(line, "computed"),
                "source": line.source, "url": line.url, "notes": list(line.notes),
            }
            for line in table
        ],
        "differences": [
            {"ours": one.ours, "published": one.published,
             "values": {c.key: v for c, v in zip(table.columns, one.values, strict=True)}}
            for one in table.differences
        ],
        "footnotes": [{"text": note.text, "url": note.url} for note in table.footnotes],
        "remarks": list(table.remarks),
    }  # fmt: skip


def to_latex(tables: Sequence[Table]) -> str:
    from v2f_engine.evaluate.tables.latex import latex

    return latex(tables)


def to_html(tables: Sequence[Table]) -> str:
    from v2f_engine.evaluate.tables.html import html

    return html(tables)


FORMATS: Mapping[str, Callable[[Sequence[Table]], str]] = {
    "text": to_text,
    "markdown": to_markdown,
    "html": to_html,
    "latex": to_latex,
    "csv": to_csv,
    "json": to_json,
}


def render(tables: Sequence[Table], form: str) -> str:
    """The tables in a format of `FORMATS`. Raises ConfigError for another."""
    return FORMATS[one_of("--format", form, FORMATS)](tables)


ENDINGS: Mapping[str, str] = {
    ".txt": "text",
    ".md": "markdown",
    ".html": "html",
    ".htm": "html",
    ".tex": "latex",
    ".csv": "csv",
    ".json": "json",
}
"""What a file's ending says of its format."""
