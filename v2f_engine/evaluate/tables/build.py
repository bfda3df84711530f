"""The talk's tables from published rows and measured results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from v2f_engine.config import one_of
from v2f_engine.errors import ConfigError
from v2f_engine.evaluate.tables import columns as c
from v2f_engine.evaluate.tables import published as p
from v2f_engine.evaluate.tables.columns import Column
from v2f_engine.evaluate.tables.kinds import Result
from v2f_engine.evaluate.tables.layouts import LAYOUTS, Layout, unknown
from v2f_engine.evaluate.tables.published import Figure, Row
from v2f_engine.evaluate.tables.table import Cell, Difference, Footnote, Line, Table, best_of

ORDERS = ("average", "below")
"""Measured rows where their average puts them, or beneath the published ones."""
AGAINST = ("HSFace10K", "CASIA-WebFace")
"""What measured rows are compared with unless told otherwise: the talk's smallest set, and photographs of its size."""


@dataclass
class _Measured:
    """One row of ours over all tables."""

    name: str
    values: dict[Column, tuple[float, Path]] = field(default_factory=dict)
    protocols: dict[str, tuple[str, Path]] = field(default_factory=dict)
    abouts: dict[str, list[str]] = field(default_factory=dict)
    people: int | None = None
    images: int | None = None


def merge(results: Iterable[Result]) -> list[_Measured]:
    """Rows by name, in the order in which their first results come.

    Raises:
        ConfigError: one figure of a row twice, or results of two protocols in one row of a table.
    """
    rows: dict[str, _Measured] = {}
    for result in results:
        row = rows.setdefault(result.row, _Measured(result.row))
        for column, value in result.values.items():
            if column in row.values:
                raise ConfigError(
                    f"{result.row}: {column.name} is in {row.values[column][1]} and in {result.path}; leave one out, "
                    "or give them names of their own (--name, one for each path)."
                )
            row.values[column] = (value, result.path)
        for table in dict.fromkeys(column.table for column in result.values):
            found = row.protocols.setdefault(table, (result.protocol, result.path))
            if found[0] != result.protocol:
                raise ConfigError(
                    f"{result.row}: {found[1]} is by {found[0]} and {result.path} by {result.protocol}; figures of two "
                    "protocols are no row. Measure both alike, or give them names of their own (--name)."
                )
            words = "; ".join(filter(None, (result.path.name, result.protocol, result.about)))
            row.abouts.setdefault(table, []).append(words)
        row.people = row.people if result.people is None else result.people
        row.images = row.images if result.images is None else result.images
    return list(rows.values())


def make_tables(
    results: Sequence[Result] = (),
    *,
    which: Sequence[str] = (),
    order: str = "average",
    against: Sequence[str] = AGAINST,
) -> list[Table]:
    """The tables.

    Args:
        results: from `read_results`.
        which: keys of `LAYOUTS`, or `all` for those of the talk; by default the tables that show a result, and without
            results those of the talk.
        order: of `ORDERS`.
        against: published rows that ours are compared with.

    Raises:
        ConfigError: an unknown table, order or row, or results that do not go together.
    """
    one_of("--order", order, ORDERS)
    known = {row.name for layout in LAYOUTS.values() for row in layout.rows}
    for name in against:
        one_of("--against", name, known)
    for key in which:
        one_of("--table", key, (*LAYOUTS, "all"))
    rows = merge(results)
    shown = {column.table for row in rows for column in row.values}
    talk = {key for key, layout in LAYOUTS.items() if layout.rows}
    chosen = set(which) - {"all"} | (talk | shown if "all" in which else set()) if which else shown or talk
    return [_table(LAYOUTS[key], rows, order, against) for key in LAYOUTS if key in chosen]


def _table(layout: Layout, rows: Sequence[_Measured], order: str, against: Sequence[str]) -> Table:
    ours = [row for row in rows if any(column.table == layout.key for column in row.values)]
    columns = _columns(layout, [column for row in ours for column in row.values])
    notes: list[Footnote] = []
    published = [(_published(row, columns, notes), _rank(layout, row.figures)) for row in layout.rows]
    measured = []
    for row in ours:
        values = {column: Figure(value, p.VEC2FACE) for column, (value, _) in row.values.items()}
        measured.append((_measured(row, layout.key, columns, notes), _rank(layout, values)))
    sign = -1 if any(column.better == c.LOWER for column in layout.rank) else 1
    together = published if order == "below" else [*published, *measured]
    ranked = [(sign * rank, line) for line, rank in together if rank is not None]
    lines = [line for _, line in sorted(ranked, key=lambda pair: pair[0])]
    lines += [line for line, rank in together if rank is None]
    if order == "below":
        lines += [line for line, _ in measured]
    lines = _marked(columns, lines)
    return Table(
        layout.key,
        layout.title,
        columns,
        tuple(lines),
        tuple(_differences(lines, against)),
        tuple(notes),
        (*layout.remarks, *unknown(layout)),
    )


def _columns(layout: Layout, measured: Sequence[Column]) -> tuple[Column, ...]:
    """The layout's, and measured ones of it in the order of their family."""
    order = [*c.IJB_COLUMNS, *c.SEPARABILITY_COLUMNS, c.TWINS]
    wanted = {*layout.columns, *(column for row in layout.rows for column in row.figures)}
    extra = dict.fromkeys(
        column for column in measured if column.table == layout.key and column not in wanted
    )
    found = [*layout.columns, *[column for column in order if column in wanted - set(layout.columns)], *extra]
    if layout.key == "ijb":
        found.sort(key=c.IJB_COLUMNS.index)
    return tuple(found)


def _rank(layout: Layout, figures: Mapping[Column, Figure]) -> float | None:
    if not layout.rank or any(column not in figures for column in layout.rank):
        return None
    return sum(figures[column].value for column in layout.rank) / len(layout.rank)


def _note(notes: list[Footnote], text: str, url: str = "") -> int:
    """Number of a footnote, which is made where it is not there."""
    note = Footnote(text, url)
    if note not in notes:
        notes.append(note)
    return notes.index(note) + 1


def _published(row: Row, columns: Sequence[Column], notes: list[Footnote]) -> Line:
    cells = []
    for column in columns:
        figure = row.figures.get(column)
        cells.append(Cell() if figure is None else Cell(figure.value, figure.off_plot, figure.computed))
    source = row.source if row.figures else None
    numbers = []
    if source is not None:
        numbers.append(_note(notes, f"{source.name}, {source.revision}", source.url))
    if row.note:
        numbers.append(_note(notes, f"{row.name}: {row.note}"))
    return Line(
        row.name, tuple(cells), row.people, row.images, False, row.photographs,
        tuple(numbers), row.source.name if source else "", row.source.url if source else "",
    )  # fmt: skip


def _measured(row: _Measured, key: str, columns: Sequence[Column], notes: list[Footnote]) -> Line:
    cells = tuple(Cell(row.values[column][0]) if column in row.values else Cell() for column in columns)
    number = _note(notes, f"{row.name}, measured: {'; '.join(row.abouts[key])}")
    return Line(row.name, cells, row.people, row.images, ours=True, notes=(number,))


def _marked(columns: Sequence[Column], lines: Sequence[Line]) -> list[Line]:
    """The best of each column among generated sets; photographs and plots do not compete."""
    best: list[str | None] = []
    for place, column in enumerate(columns):
        values = [
            cell.value
            for line in lines
            for cell in (line.cells[place],)
            if cell.value is not None and not (line.photographs or cell.off_plot)
        ]
        found = best_of(column, values) if len(values) > 1 else None
        best.append(None if found is None else format(found, column.form))
    return [
        replace(line, cells=tuple(
            replace(cell, best=not line.photographs and cell.value is not None and not cell.off_plot
                    and cell.text(column.form) == word)
            for cell, column, word in zip(line.cells, columns, best, strict=True)
        ))
        for line in lines
    ]  # fmt: skip


def _differences(lines: Sequence[Line], against: Sequence[str]) -> Iterable[Difference]:
    published = {line.name: line for line in lines if not line.ours}
    for line in lines:
        for name in against if line.ours else ():
            if name in published and any(cell.value is not None for cell in published[name].cells):
                pairs = zip(line.cells, published[name].cells, strict=True)
                values = tuple(
                    None if a.value is None or b.value is None else a.value - b.value for a, b in pairs
                )
                yield Difference(line.name, name, values)
