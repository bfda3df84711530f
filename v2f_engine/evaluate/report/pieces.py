"""Tables, images and numbers as HTML, and the sets of a page with their colours."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from v2f_engine.evaluate.report.measures import TOO_FEW

COLOURS = ("var(--blue)", "var(--pink)", "var(--amber)", "var(--sky)")
"""Of the set and of those beside it, in turn."""
REFERENCE = "var(--green)"


def table(
    head: Sequence[str],
    rows: Iterable[tuple[bool, Sequence[str]]],
    *,
    words: int | tuple[int, ...] = (),
    stacked: bool = False,
) -> str:
    """A table that scrolls sideways in a narrow window, or is `stacked` there: the cells of a row below each other.

    `words` are columns of text, which may break; what stands in `head` is HTML.
    """
    wordy = {words} if isinstance(words, int) else set(words)

    def cell(tag: str, place: int, text: str) -> str:
        named = f' data-name="{head[place]}"' if stacked and tag == "td" and 0 < place < len(head) - 1 else ""
        return f"<{tag}{' class=words' if place in wordy else ''}{named}>{text}</{tag}>"

    top = "".join(cell("th", place, text) for place, text in enumerate(head))
    body = "".join(
        f"<tr{' class=own' if own else ''}>{''.join(cell('td', place, text) for place, text in enumerate(cells))}</tr>"
        for own, cells in rows
    )
    return (
        f'<div class="scroll{" stack" if stacked else ""}" tabindex="0"><table>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def image(data: bytes | None, what: str) -> str:
    """A picture within the page, or its name where there is none."""
    if data is None:
        return f'<span class="blank">{escape(what)}</span>'
    text = base64.b64encode(data).decode()
    return f'<img alt="{escape(what)}" width="112" height="112" src="data:image/jpeg;base64,{text}">'


def strips(rows: Sequence[Sequence[bytes]]) -> str:
    """Faces, one identity a strip."""
    found = []
    for place, row in enumerate(rows, 1):
        pictures = "".join(image(data, f"identity {place}, image {n}") for n, data in enumerate(row, 1))
        found.append(f"<div>{pictures}</div>")
    return f'<div class="faces">{"".join(found)}</div>'


def percent(share: float | None, digits: int = 2) -> str:
    """A share as percent; `too few` where there is none."""
    return TOO_FEW if share is None else f"{100 * share:.{digits}f} %"


def number(value: float | None, digits: int = 3) -> str:
    """A number; `too few` where there is none."""
    return TOO_FEW if value is None else f"{value:.{digits}f}"


def sets_of(record: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any], str]]:
    """(name, what was measured, colour): the set, its reference, those beside it."""
    found = [(str(record["dataset"]["name"]), record, COLOURS[0])]
    if record["reference"] is not None:
        found.append((str(record["reference"]["name"]), record["reference"], REFERENCE))
    for place, one in enumerate(record["beside"]):
        found.append((str(one["name"]), one, COLOURS[1 + place % (len(COLOURS) - 1)]))
    return found
