"""One table: measured rows among published ones, with the source of each and what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from v2f_engine.evaluate.tables.columns import HIGHER, NEITHER, Column


@dataclass(frozen=True)
class Cell:
    """A value in its column's unit.

    Args:
        value: None where it is not known.
        off_plot: read off a drawing.
        computed: the mean of its row, which its source does not state.
        best: of its column, among generated sets.
    """

    value: float | None = None
    off_plot: bool = False
    computed: bool = False
    best: bool = False

    def text(self, form: str) -> str:
        """As readers see it: `-` where nothing is known, `≈` before what was read off a plot."""
        return "-" if self.value is None else ("≈" if self.off_plot else "") + format(self.value, form)


@dataclass(frozen=True)
class Line:
    """One row.

    Args:
        name: of the training set.
        cells: one for each column of the table.
        people, images: of the set, None where not known.
        ours: measured by this engine, not published.
        photographs: of real people.
        notes: numbers of footnotes, the source's first.
        source: the published source's name; `measured` for ours.
        url: of the source.
    """

    name: str
    cells: tuple[Cell, ...]
    people: int | None = None
    images: int | None = None
    ours: bool = False
    photographs: bool = False
    notes: tuple[int, ...] = ()
    source: str = "measured"
    url: str = ""


@dataclass(frozen=True)
class Difference:
    """A measured row minus a published one, column by column; None where either is not known."""

    ours: str
    published: str
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Footnote:
    """What a number in a row's last column stands for."""

    text: str
    url: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the talk; iterates over its lines.

    Args:
        key, title: `verification` and what it shows.
        columns: what is in each cell.
        lines: from the lowest to the best, or ours beneath.
        differences: ours against published rows.
        footnotes: 1, 2, ... as the lines name them.
        remarks: about the whole table.
    """

    key: str
    title: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    differences: tuple[Difference, ...] = ()
    footnotes: tuple[Footnote, ...] = ()
    remarks: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Line]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    def line(self, name: str, *, ours: bool | None = None) -> Line:
        """The row of that name. Raises LookupError without one."""
        for line in self.lines:
            if line.name == name and ours in (None, line.ours):
                return line
        raise LookupError(f"{self.key} has no row {name!r}")

    def to(self, form: str) -> str:
        """As `text`, `markdown`, `html`, `latex`, `csv` or `json`. Raises ConfigError for another."""
        from v2f_engine.evaluate.tables.formats import render

        return render([self], form)

    def to_text(self) -> str:
        return self.to("text")

    def to_markdown(self) -> str:
        return self.to("markdown")

    def to_html(self) -> str:
        return self.to("html")

    def to_latex(self) -> str:
        return self.to("latex")

    def to_csv(self) -> str:
        return self.to("csv")

    def to_json(self) -> str:
        return self.to("json")

    def values(self, line: Line) -> Mapping[str, float | None]:
        """Key of the column -> value in its unit, with every digit."""
        return {column.key: cell.value for column, cell in zip(self.columns, line.cells, strict=True)}


def best_of(column: Column, values: Sequence[float]) -> float | None:
    """The best value, as it is written, so that what reads alike is equally good; None where no way is better."""
    if column.better == NEITHER or not values:
        return None
    return max(values) if column.better == HIGHER else min(values)


def people_text(count: int | None) -> str:
    """`10K`, `10.5K`, `740`, `12,345`; `-` for what is not known."""
    if count is None:
        return "-"
    return f"{count / 1000:g}K" if count >= 1000 and count % 100 == 0 else f"{count:,}"


def images_text(count: int | None) -> str:
    """`0.5M`, `15M`, `12,345`; `-` for what is not known."""
    if count is None:
        return "-"
    return f"{count / 1e6:g}M" if count >= 100_000 and count % 10_000 == 0 else f"{count:,}"
