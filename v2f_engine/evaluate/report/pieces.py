"""Tables and images as HTML."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence


def table(
    head: Sequence[str], rows: Iterable[tuple[bool, Sequence[str]]], *, words: int | tuple[int, ...] = ()
) -> str:
    """A table that scrolls sideways in a narrow window; `words` are columns of text, which may break."""
    wordy = {words} if isinstance(words, int) else set(words)

    def cell(tag: str, place: int, text: str) -> str:
        return f"<{tag}{' class=words' if place in wordy else ''}>{text}</{tag}>"

    top = "".join(cell("th", place, text) for place, text in enumerate(head))
    body = "".join(
        f"<tr{' class=own' if own else ''}>{''.join(cell('td', place, text) for place, text in enumerate(cells))}</tr>"
        for own, cells in rows
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def image(data: bytes | None, what: str) -> str:
    if data is None:
        return f'<span class="blank">{what}</span>'
    return f'<img alt="{what}" src="data:image/jpeg;base64,{base64.b64encode(data).decode()}">'


def percent(share: float, digits: int = 2) -> str:
    """A share as percent."""
    return f"{100 * share:.{digits}f} %"
