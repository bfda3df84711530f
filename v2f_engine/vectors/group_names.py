"""Names of groups of people: which can be, which are one name in two spellings, and the number that keys a name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from unicodedata import normalize

from v2f_engine.errors import VectorError

MOST = 256
"""Groups: 2 MiB each while they are fitted. More are numbers that nobody has put into ranges."""
LONGEST = 100
"""Characters of a group's name."""


def key_of(name: str) -> int:
    """1 .. 2**32 - 1, of a group's name alone: what keys its candidates, whatever other groups there are."""
    return 1 + int.from_bytes(hashlib.sha256(f"v2f-group/1 {name}".encode()).digest()[:8], "little") % (
        2**32 - 1
    )


def check_names(names: Sequence[str], what: str) -> None:
    """Whether these can name groups.

    Raises:
        VectorError: none, too many, empty, long or unprintable ones, two alike, or two that differ by case alone, by
            Unicode's normalisation, or by a `.0` behind a number.
    """
    if not 1 <= len(names) <= MOST:
        raise VectorError(
            f"{what}: expected 1 to {MOST} groups, found {len(names):,}. Put numbers into ranges first, such as age "
            "into `under 30` and `30 and over`."
        )
    seen: dict[str, str] = {}
    for name in names:
        if not isinstance(name, str) or not name.strip() or name != name.strip() or not name.isprintable():
            raise VectorError(
                f"{what}: expected names of groups in printable characters, found {name!r:.80}."
            )
        if len(name) > LONGEST:
            raise VectorError(
                f"{what}: expected names of at most {LONGEST} characters, found {name[:60]!r}..."
            )
        other = seen.setdefault(_spelled(name), name)
        if other != name or sum(one == name for one in names) > 1:
            raise VectorError(
                f"{what}: {other!a} and {name!a} are one group in two spellings. Give both one."
            )
    if len({key_of(name) for name in names}) < len(names):
        raise VectorError(
            f"{what}: two groups' names have one key, by a chance of one in four milliards. Rename one."
        )


def _spelled(name: str) -> str:
    """What spellings of one name have in common: macOS writes an accent apart, a table with a gap writes 1 as 1.0."""
    folded = normalize("NFC", name).casefold()
    whole, point, rest = folded.partition(".")
    return whole if point and whole.isdecimal() and not rest.strip("0") else folded
