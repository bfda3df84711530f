"""Errors as words for a page: what was expected, found and what to do, without the places of this machine."""

from __future__ import annotations

import re
import sys
import traceback
from dataclasses import dataclass
from typing import Any

from v2f_engine.errors import V2FError

PLACE = re.compile(r"(?<![\w.~:/-])~?/(?:[^\s/'\"`,;()]+/)*([^\s/'\"`,;:()]+)")
"""An absolute path; its last part is kept."""
OURS = 500
"""Status of an error that is nobody's mistake who asked."""


def without_places(text: str) -> str:
    """The text with `/home/somebody/faces/a.png` as `a.png`."""
    return PLACE.sub(lambda found: found.group(1), text)


@dataclass(frozen=True)
class Told:
    """An error as the page is told it.

    Args:
        name: of its class.
        words: for people.
        status: of HTTP.
    """

    name: str
    words: str
    status: int

    def to_json(self) -> dict[str, Any]:
        return {"kind": "error", "name": self.name, "words": self.words}


def told(error: BaseException) -> Told:
    """What is said of an error; one without a name of ours is told in the terminal and nowhere else."""
    if isinstance(error, V2FError):
        return Told(type(error).__name__, without_places(str(error)), 400)
    traceback.print_exception(error, file=sys.stderr)
    words = "Something went wrong that has no name yet; the terminal in which `v2f ui` runs says what."
    return Told("Error", words, OURS)
