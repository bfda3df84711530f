"""What became of each photograph, as rows of a CSV that grows while the work lasts and is read again to go on."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from v2f_engine.faces.finder import Face

ALIGNED, NO_FACE, SEVERAL, TOO_SMALL, UNREADABLE = (
    "aligned", "no face", "several faces", "too small", "unreadable",
)  # fmt: skip
OUTCOMES = (ALIGNED, NO_FACE, SEVERAL, TOO_SMALL, UNREADABLE)
CURES = {
    NO_FACE: "look whether there is one, cut the picture closer around it",
    SEVERAL: "--several largest takes the largest, --several all each of them",
    TOO_SMALL: "--min-side takes smaller ones, which are blurred",
    UNREADABLE: "convert them to JPEG, PNG or WebP, or fetch them again",
}


@dataclass(frozen=True)
class Row:
    """One face of a photograph, or why it has none.

    Args:
        picture: its name.
        face: number of the face, the largest first; -1 where none was aligned.
        outcome: one of `OUTCOMES`.
        file: of the aligned face, below the folder.
        sha256: of that file.
        left, top, right, bottom: what the detector framed, in pixels of the upright picture.
        side: pixels of the picture along a side of the aligned face.
        turn: degrees that the head was turned clockwise.
        misfit: `finder.Face.misfit`.
        detector: `hog` or `cnn`.
        why: in words, where it was not aligned.
    """

    picture: str
    face: int
    outcome: str
    file: str = ""
    sha256: str = ""
    left: int | str = ""
    top: int | str = ""
    right: int | str = ""
    bottom: int | str = ""
    side: str = ""
    turn: str = ""
    misfit: str = ""
    detector: str = ""
    why: str = ""


HEADER = tuple(one.name for one in fields(Row))


def row_of(picture: str, number: int, outcome: str, face: Face, **more: str) -> Row:
    """The row of a face that was seen."""
    return Row(
        picture,
        number,
        outcome,
        left=face.box[0],
        top=face.box[1],
        right=face.box[2],
        bottom=face.box[3],
        side=f"{face.side:.1f}",
        turn=f"{face.turn:.1f}",
        misfit=f"{face.misfit:.2f}",
        detector=face.detector,
        **more,
    )


def lines_of(rows: Iterable[Row]) -> str:
    """The rows as text of a CSV."""
    lines = []
    for row in rows:
        text = io.StringIO()
        csv.writer(text, lineterminator="\r\n").writerow(astuple(row))  # so that a name with either is quoted
        lines.append(text.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


def rows_in(table: Path) -> dict[str, list[Row]]:
    """Name of each photograph that was done -> its rows.

    The last one is left out and made again: a kill may have cut a line of it, or one of several.
    """
    if not table.is_file():
        return {}
    text = table.read_bytes().decode(errors="replace")  # names may hold any kind of line end
    done: dict[str, list[Row]] = {}
    try:
        lines = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1])))
    except csv.Error:
        return {}
    for cells in lines[1:]:
        if len(cells) == len(HEADER) and re.fullmatch(r"-?[0-9]{1,9}", cells[1]):
            done.setdefault(cells[0], []).append(Row(cells[0], int(cells[1]), *cells[2:]))
    if done:
        done.popitem()
    return done


def stands(rows: Sequence[Row], out: Path) -> bool:
    """Whether every file of a photograph's rows lies there as it was written."""
    for row in rows:
        if not row.file:
            continue
        path = out / row.file
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != row.sha256:
            return False
    return True


def counted(rows: Iterable[Row]) -> dict[str, int]:
    """Outcome -> how many, all of `OUTCOMES`; faces where aligned, photographs elsewhere."""
    found = Counter(row.outcome for row in rows)
    return {outcome: found[outcome] for outcome in OUTCOMES}
