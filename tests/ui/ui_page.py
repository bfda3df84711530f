"""What tests of the page share."""

from __future__ import annotations

from typing import Any

Line = dict[str, Any]
HOST = "http://127.0.0.1:8765"
"""Under which the server is asked."""
TABLE = 12
"""People of the table that it was begun with."""


def images(lines: list[Line]) -> list[Line]:
    """Those of a row that are images."""
    return [line for line in lines if line["kind"] == "image"]
