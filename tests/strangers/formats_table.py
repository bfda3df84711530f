"""The tables of docs/formats.md: every layout is made, and given to what the commands call.

`make formats` writes them into the page. Every cell is what came out, held against the people that were put in:
pictures byte for byte, label for label, pixels and features.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from all_layouts import LAYOUTS, SPLIT_LAYOUTS, Layout
from layout_rows import Row, dataset_row, picture_rows
from other_rows import recogniser_rows, vector_rows, verification_rows

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"

BEGIN, END = "<!-- tables: written by `make formats` -->", "<!-- end of the tables -->"


def _table(rows: Sequence[Row], *, files: bool = True) -> str:
    tool = any(row.tool for row in rows)
    heads = ["layout", *(["written by"] if tool else []), *(["files"] if files else []), *rows[0].cells]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        lines += [[row.name, *[row.tool] * tool, *[row.files] * files, *row.cells.values()]]
    return "\n".join("| " + " | ".join(word.replace("|", "\\|") for word in line) + " |" for line in lines)


def _all(layouts: Sequence[Layout], folder: Path) -> list[Row]:
    rows = []
    for number, layout in enumerate(layouts):
        place = folder / str(number)
        place.mkdir(parents=True)
        rows.append(dataset_row(layout, place))
    return rows


TITLES: Mapping[str, str] = {
    "folders": "Folders",
    "zips": "Zips",
    "tars": "Tars of folders",
    "shards": "WebDataset",
    "records": "RecordIO",
    "lmdb": "LMDB",
    "parquet": "Parquet",
    "lists": "Lists of pictures",
}


def tables(folder: Path) -> str:
    """All of them, in Markdown; layouts are made below `folder`."""
    parts = []
    for family, title in TITLES.items():
        rows = _all([layout for layout in LAYOUTS if layout.family == family], folder / family)
        parts.append(f"## {title}\n\n{_table(rows)}")
    parts.append(f"## Several sets in one place\n\n{_table(_all(SPLIT_LAYOUTS, folder / 'splits'))}")
    for title, make, files in (
        ("Pictures", picture_rows, False),
        ("Pairs for verification", verification_rows, True),
        ("Vectors and features", vector_rows, True),
        ("Recognisers", recogniser_rows, True),
    ):
        place = folder / title
        place.mkdir()
        parts.append(f"## {title}\n\n{_table(list(make(place)), files=files)}")
    return "\n\n".join(parts)


def committed() -> tuple[str, str, str]:
    """(text before the tables, tables, text behind) of the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    held, _, behind = rest.partition(END)
    return before, held.strip(), behind


def main() -> int:
    before, _, behind = committed()
    with tempfile.TemporaryDirectory() as folder:
        made = tables(Path(folder))
    PAGE.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{behind}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
