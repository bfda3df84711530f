"""Tables as one page of HTML that fetches nothing, light and dark, on a phone and on a desk."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from v2f_engine.evaluate.report.pieces import table as drawn
from v2f_engine.evaluate.report.style import STYLE
from v2f_engine.evaluate.tables.formats import cells, clean, difference, head
from v2f_engine.evaluate.tables.table import Line, Table

LEGEND = "Highlighted rows are ours; bold: the best of the column among generated sets; ≈ read off a plot; - not known."


def html(tables: Sequence[Table]) -> str:
    """The page."""
    body = "".join(fragment(table) for table in tables)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Measured beside published</title><style>{STYLE}</style></head>"
        f"<body><main><h1>Measured beside published</h1>{body}</main></body></html>\n"
    )


def fragment(table: Table, *, level: int = 2) -> str:
    """One table with its footnotes, under a heading of that level."""
    rows = [(line.ours, _cells(table, line)) for line in table]
    rows += [(False, [*(f"<i>{escape(text)}</i>" if text else "" for text in difference(table, one)), ""])
             for one in table.differences]  # fmt: skip
    notes = "".join(f"<li>{escape(clean(note.text))}{_link(note.url)}</li>" for note in table.footnotes)
    remarks = "".join(f'<p class="note">{escape(clean(text))}</p>' for text in (*table.remarks, LEGEND))
    return (
        f"<h{level}>{escape(table.title)}</h{level}>"
        + drawn([*map(escape, head(table)), "source"], rows)
        + remarks
        + f'<ol class="note">{notes}</ol>'
    )


def _cells(table: Table, line: Line) -> list[str]:
    name, people, images, *values = map(escape, cells(table, line))
    shown = [f"<b>{v}</b>" if cell.best else v for v, cell in zip(values, line.cells, strict=True)]
    return [name, people, images, *shown, " ".join(map(str, line.notes))]


def _link(url: str) -> str:
    return f', <a href="{escape(url)}">{escape(url)}</a>' if url else ""
