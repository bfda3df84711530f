"""What a notebook shows: faces in rows, and small tables of facts, as HTML and PNG.

Colours are the page's own (`inherit`, half-transparent lines), so that both read on a dark page as on a light one; a
face is shown at its own size and not smoothed. Nothing is loaded from anywhere: pictures stand in the page.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

PEOPLE, IMAGES = 6, 8
"""Rows and pictures a row that are shown: 48 faces are 1 MB of PNG, and a row of eight fits a notebook's width."""
GAP = 2
"""Pixels between faces."""

_FRAME = "font-family:inherit;color:inherit;background:transparent;text-align:left;margin:.3em 0"
_BARE = "border:0;text-align:left;background:transparent"
_SIDE = f"padding:1px 10px 1px 0;vertical-align:middle;white-space:nowrap;{_BARE}"
_CELL = f"padding:1px 0;{_BARE}"


def png(picture: NDArray[np.uint8]) -> bytes:
    """A PNG of uint8 `[H, W, 3]`, or `[H, W, 4]` with transparency."""
    height, width, channels = picture.shape

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = picture.reshape(height, width * channels).astype(np.int16)
    before = np.zeros_like(rows)
    before[:, channels:] = rows[:, :-channels]
    filtered = np.empty((height, 1 + width * channels), np.uint8)
    filtered[:, 0] = 1  # each byte less its left neighbour's: half the size on faces
    filtered[:, 1:] = (rows - before) & 255
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 6, 0, 0, 0)
    body = zlib.compress(filtered.tobytes(), 6)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def grid(rows: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Rows of faces uint8 `[n, H, W, 3]` as one picture uint8 `[H', W', 4]`, transparent where nothing stands."""
    high, wide = rows[0].shape[1:3]
    across = max(len(row) for row in rows)
    shape = (len(rows) * (high + GAP) - GAP, across * (wide + GAP) - GAP, 4)
    picture = np.zeros(shape, np.uint8)
    for down, row in enumerate(rows):
        for right, face in enumerate(row):
            place = picture[down * (high + GAP) :, right * (wide + GAP) :][:high, :wide]
            place[:, :, :3], place[:, :, 3] = face, 255
    return picture


def by_person(labels: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
    """(label, its places) of the first `PEOPLE` people in `labels`, in order of appearance."""
    people, first = np.unique(labels, return_index=True)
    return [(int(people[i]), np.flatnonzero(labels == people[i])) for i in np.argsort(first)[:PEOPLE]]


def faces(
    title: str, rows: Sequence[tuple[str, NDArray[np.uint8], int]], left_out: str = "", note: str = ""
) -> str:
    """HTML: a row a person.

    Args:
        title: above them.
        rows: (what stands beside, uint8 `[n, H, W, 3]`, how many more there are) of each.
        left_out: what is not shown, below them.
        note: a further line.
    """
    lines = "".join(
        f'<tr style="background:transparent"><td style="{_SIDE}">{escape(side)}</td><td style="{_CELL}">'
        f"{img(png(grid([pictures])), side)}</td>"
        f'<td style="{_SIDE};opacity:.65;padding-left:8px">{f"and {more:,} more" if more else ""}</td></tr>'
        for side, pictures, more in rows
        if len(pictures)
    )
    below = "".join(f'<div style="opacity:.65">{escape(line)}</div>' for line in (left_out, note) if line)
    table = f'<table style="{_FRAME};border-collapse:collapse;border:0">{lines}</table>' if lines else ""
    return f'<div style="{_FRAME}"><div>{escape(title)}</div>{table}{below}</div>'


def img(content: bytes, what: str, style: str = "") -> str:
    """An `<img>` that holds its PNG, its pixels sharp."""
    data = base64.b64encode(content).decode()
    sharp = f"display:block;max-width:100%;height:auto;margin:0;image-rendering:pixelated;{style}"
    return f'<img alt="{escape(what)}" style="{sharp}" src="data:image/png;base64,{data}">'


def facts(title: str, values: Mapping[str, Any], picture: str = "") -> str:
    """HTML: a title, a line a fact (None and empty ones left out), and perhaps a picture (`img`) below."""
    line = "border:0;border-top:1px solid rgba(128,128,128,.35)"
    rows = "".join(
        f'<tr style="background:transparent"><td style="{_SIDE};{line};opacity:.65">{escape(name)}</td>'
        f'<td style="{_CELL};{line}">{escape(str(value))}</td></tr>'
        for name, value in values.items()
        if value is not None and value != ""
    )
    table = f'<table style="{_FRAME};border-collapse:collapse">{rows}</table>'
    return f'<div style="{_FRAME}"><div><b>{escape(title)}</b></div>{table}{picture}</div>'
