"""Which columns and published rows each table has, and what is to be said beneath it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from v2f_engine.evaluate.tables import columns as c
from v2f_engine.evaluate.tables import published as p
from v2f_engine.evaluate.tables.columns import Column
from v2f_engine.evaluate.tables.published import Row


@dataclass(frozen=True)
class Layout:
    """What one table shows.

    Args:
        key, title: of the table.
        columns: always there; measured ones of the same table that are not among them follow.
        rows: published.
        rank: columns whose mean orders the rows; a row that lacks one stands beneath.
        remarks: about it.
    """

    key: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...] = ()
    rank: tuple[Column, ...] = ()
    remarks: tuple[str, ...] = ()


LAYOUTS: Mapping[str, Layout] = {
    layout.key: layout
    for layout in (
        Layout(
            "verification",
            "Accuracy on five test sets, %",
            (*c.FIVE, c.AVERAGE),
            p.VERIFICATION,
            (c.AVERAGE,),
            (
                "Trainers differ: differences below about 0.3 between sources mean nothing.",
                "Not known here: UIFace, MorphFace.",
            ),
        ),
        Layout("challenging", "Accuracy on four harder test sets, %", c.FOUR, p.CHALLENGING, c.FOUR),
        Layout(
            "ijb",
            "IJB-B and IJB-C: true-match rate at a false-match rate, %",
            (c.IJBB[-4], c.IJBC[-5], c.IJBC[-4]),
            p.IJB,
            (c.IJBC[-4],),
            (
                "The Vec2Face README says that its sets are above real ones of their size on both; the figures are in "
                "the paper and not known here.",
            ),
        ),
        Layout(
            "leakage",
            "Identity leakage: share above a cosine, %",
            c.LEAKAGE_COLUMNS,
            p.LEAKAGE,
            (c.LEAKAGE_COLUMNS[0],),
            (
                "Pairs: of a synthetic and a real identity, as published; people: of whom any two images are above; "
                "rows: synthetic rows whose nearest real row is. The papers' figures are not known here.",
                "Vec2Face issue 16: images of at least three identities of HSFace10K resemble people of WebFace4M. "
                "DCFace's supplement E states 0.0026 % of matches at 0.3.",
            ),
        ),
        Layout(
            "separability",
            "Unique identities among the first N",
            tuple(map(c.unique_at, c.UNIQUE_COUNTS)),
            p.SEPARABILITY,
            (c.unique_at(10_000),),
            (
                "Published at cosine 0.40 by ArcFace-R100 of Glint360K; another threshold or recogniser is another "
                "scale.",
            ),
        ),
        Layout("consistency", "Is each identity itself? (nothing published)", c.CONSISTENCY_COLUMNS),
        Layout("other", "Accuracy on test sets of which nothing is published, %", ()),
    )
}  # fmt: skip


def unknown(layout: Layout) -> Iterable[str]:
    """The systems of the talk of which this table has no row."""
    if not layout.rows or layout.key == "verification":
        return
    there = {_system(row.name) for row in layout.rows}
    systems = dict.fromkeys(_system(row.name) for row in p.VERIFICATION if not row.photographs)
    missing = [name for name in systems if name not in there]
    if missing:
        yield f"Nothing known here of {', '.join(missing)}, UIFace, MorphFace."


def _system(name: str) -> str:
    """`CemiFace 1.2M, repository` and `CemiFace` are one, and so are the sizes of a family."""
    return re.sub(r"(\d+K| \(Vec2Face\)| [\d.]+M| \d+K)$", "", name.split(",")[0])
