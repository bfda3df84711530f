"""The first gate for every file from outside: is it a file at all, and of a size that can be meant?

Readers call `admit` before they open anything. A named pipe would hang them, a device would feed them for ever,
and a sparse file of a petabyte passes every header check. What is inside is the business of each format's reader;
`v2f inspect FILE` has it judge a stranger's file in a child process with limited memory and time.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TypeVar

from v2f_engine.errors import V2FError

MAX_BYTES = 1 << 44
"""16 TiB in one file: above any training set in the field (WebFace260M is 5 TB), below what a lying file claims."""

_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)

Error = TypeVar("Error", bound=V2FError)


def admit(path: str | Path, error: type[Error], *, most: int = MAX_BYTES) -> None:
    """Raises `error` for a path that is neither a regular file nor a folder, or a file above `most` bytes.

    What does not exist passes: each reader has its own words for that.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return
    for is_kind, words in _KINDS:
        if is_kind(found.st_mode):
            raise error(
                f"{path}: expected a file, found {words}. Give the file itself, or copy it to the disk."
            )
    if stat.S_ISREG(found.st_mode) and found.st_size > most:
        raise error(f"{path}: {found.st_size} bytes; expected at most {most}. The file's size is wrong.")
