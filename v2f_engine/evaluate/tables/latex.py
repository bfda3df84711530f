"""Tables as LaTeX that needs no package: to be read by `\\input` into any document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from v2f_engine.evaluate.tables.formats import cells, clean, difference, head
from v2f_engine.evaluate.tables.table import Line, Table

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$", "|": r"$|$", '"': r"{''}",
    "≈": r"$\approx$", "±": r"$\pm$", "²": "$^2$", "³": "$^3$", "µ": r"$\mu$", "×": r"$\times$", "°": r"$^\circ$",
    "-": "{-}", "'": "{'}", "`": "{`}", "[": "{[}", "]": "{]}",
}  # fmt: skip
"""`-`, quotes and brackets in braces: no ligature, and no optional argument of the line's end before them."""
LAST_LATIN = 0x17F
ONLY_T1 = frozenset("ÐÞðþĄąĐđĘęĦħĮįĸĿŀŉŊŋŦŧŲųſ")
"""Beyond the last, and of these, LaTeX's default fonts have no letters, and it would stop: they are written by their
numbers, `U+4EBA`. Every letter below was put through pdfTeX 1.40.24 once."""


def escaped(text: str) -> str:
    """Text that LaTeX prints as it is."""

    def letter(one: str) -> str:
        if one in SPECIAL:
            return SPECIAL[one]
        known = " " <= one <= "~" or (one.isalpha() and ord(one) <= LAST_LATIN and one not in ONLY_T1)
        return one if known else f"U+{ord(one):04X}"

    return "".join(map(letter, clean(text)))


def latex(tables: Sequence[Table]) -> str:
    """A float a table: ours in italics with a star, the best bold, sources beneath."""
    return "\n".join(map(_table, tables))


def _table(table: Table) -> str:
    rows = [_row(table, line) for line in table]
    lines = [
        r"\begin{table}[htbp]",
        r"\centering\scriptsize\setlength{\tabcolsep}{2.5pt}\renewcommand{\arraystretch}{0.85}",
        rf"\caption{{{escaped(table.title)}}}",
        rf"\label{{tab:{table.key}}}",
        r"\makebox[\textwidth][c]{%",
        rf"\begin{{tabular}}{{l{'r' * (len(head(table)) - 1)}l}}",
        r"\hline",
        _joined([*map(escaped, head(table)), "source"]),
        r"\hline",
        *rows,
        r"\hline",
    ]
    if table.differences:
        lines += [_joined([*map(escaped, difference(table, one)), ""]) for one in table.differences]
        lines.append(r"\hline")
    lines += [r"\end{tabular}}", "", r"\smallskip\raggedright"]
    for n, note in enumerate(table.footnotes, 1):
        lines.append(f"{{[}}{n}{{]}} {escaped(note.text)}" + f", {escaped(note.url)}" * bool(note.url) + ".")
    lines += [escaped(text) for text in table.remarks]
    lines += [
        r"$\star$ ours; bold: best of the column among generated sets; $\approx$ read off a plot; {-} not known.",
        r"\end{table}",
        "",
    ]
    return "\n".join(lines)


def _row(table: Table, line: Line) -> str:
    name, people, images, *values = map(escaped, cells(table, line))
    called = rf"\textit{{{name}}}$^\star$" if line.ours else name
    shown = [rf"\textbf{{{v}}}" if cell.best else v for v, cell in zip(values, line.cells, strict=True)]
    return _joined([called, people, images, *shown, " ".join(f"{{[}}{n}{{]}}" for n in line.notes)])


def _joined(values: Iterable[str]) -> str:
    return " & ".join(values) + r" \\"
