"""What to do after an error, by its cause: the command line's last line; a name for what the system refuses.

The same message may mean a set of ours that a kill left half written, one of ours that a disk damaged, or a stranger's
file that was cut short on its way; each has another cure.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from v2f_engine.errors import V2FError

RESUME = "the command that began it goes on where it stopped when it is repeated"
FETCH = "What was cut short or changed on its way is copied or fetched again."
DAMAGED = re.compile(
    r"damaged|truncated|cut short|cut off|checksum|ends (after|before|early|inside)|incomplete"
)
"""Words of messages about bytes that are not what was written: the only ones that a second copy cures."""
CONTAINER = re.compile(r"entries, found|a zip|tensor|not a readable|: holds|cannot be read")
"""Words of messages about how vectors are stored: the only ones that another container cures."""


def advice(error: V2FError, argv: Sequence[str]) -> str:
    """What to do about `error` of the command line `argv`; empty where the message says it or nothing is known."""
    from v2f_engine.errors import CheckpointError, DatasetError, VectorError

    if not isinstance(error, DatasetError | CheckpointError | VectorError):
        return error.hint
    message = str(error)
    if isinstance(error, VectorError) and not DAMAGED.search(message) and not CONTAINER.search(message):
        return ""  # rows that are alike, people without images: the message has the cure, and no file is at fault
    for path in _paths(argv):
        if not re.search(rf"(?<![\w/]){re.escape(str(path))}(?![\w-])", message):
            continue  # a folder `a` is in any sentence
        if not path.exists():
            return ""  # a name that was mistyped is not cured by fetching it
        state = _of_ours(path)
        if state:
            return state
    if DAMAGED.search(message):
        return f"{error.hint} {FETCH}"
    return error.hint


def _paths(argv: Sequence[str]) -> Iterator[Path]:
    """What may be a path among the words typed, the longest first: it names the cause best."""
    words = [word.partition("=")[2] if word.startswith("--") else word for word in argv]
    for word in sorted(filter(None, words), key=len, reverse=True):
        if not word.startswith("-"):
            yield Path(word)


def _of_ours(path: Path) -> str:
    """The cure for what this engine wrote at `path`, or in the folder that it lies in; empty for a stranger's."""
    from v2f_engine.data.layout import MANIFEST, RUN, WORK

    for folder in (path, path.parent):
        if (folder / MANIFEST).is_file():
            return _cure_of_finished(folder)
        if (folder / WORK / RUN).is_file():
            return f"{folder} is not finished: {RESUME}."
        if (folder / "checkpoints").is_dir():
            return f"{folder} is a training's: {RESUME}, from the newest whole checkpoint."
    return ""


def _cure_of_finished(folder: Path) -> str:
    """What a look at its files' sizes tells: seconds for a million files."""
    from v2f_engine.data.layout import MANIFEST
    from v2f_engine.data.records.manifest import Manifest
    from v2f_engine.data.records.verify import verify_dataset
    from v2f_engine.errors import DatasetError

    try:
        made = Manifest.load(folder / MANIFEST).settings
        broken = len(verify_dataset(folder, "fast").broken_names)
    except DatasetError:
        return f"Restore {folder / MANIFEST} from a copy; without it nothing says what the set was."
    if not broken:
        return f"No file of the set is missing or cut short; `v2f verify {folder}` looks at every byte."
    cure = f"`v2f repair {folder}`" if "model" in made else "the command that made it, repeated,"
    files = "1 file of the set is" if broken == 1 else f"{broken:,} files of the set are"
    return f"{files} missing or cut short; {cure} makes it again, byte for byte."


def named(error: OSError | MemoryError) -> tuple[str, str]:
    """(name, sentence) for what the operating system refused and no room of the engine had named."""
    from v2f_engine import disk

    if isinstance(error, MemoryError):
        return "OutOfMemory", "this process has too little memory. Ask for less at a time, or free some."
    where = _where(error)
    said = error.strerror or str(error)
    if error.errno in disk.FULL:
        folder = Path(where) if error.filename else Path.cwd()
        free = disk.free_bytes(folder.absolute().parent)
        return (
            "DiskFull",
            f"{where}: {said}; {disk.in_words(free)} are free. Make room, then repeat the command.",
        )
    if error.errno is None:
        return type(error).__name__, said
    if (
        error.filename
        and os.path.exists(where)
        and os.access(where, os.R_OK)
        and not os.access(where, os.W_OK)
    ):
        kind, wanted = "OutputFolderError", "Give a place that this user may write"
    elif error.filename and not os.path.isdir(os.path.dirname(os.path.abspath(where))):
        kind, wanted = "OutputFolderError", "Make the folder first, or give another name"
    elif error.filename and os.path.exists(where) and not os.access(where, os.R_OK):
        kind, wanted = "DatasetError", "Give a file that this user may read"
    else:
        kind, wanted = "OutputFolderError", "Give another name or place"
    return kind, f"{where}: {said}. {wanted}."


def _where(error: OSError) -> str:
    name = error.filename if error.filename is not None else "standard output or a file"
    return os.fsdecode(name) if isinstance(name, bytes) else str(name)


def close_stdout() -> None:
    """Says what is left to say; nobody listening any more is no fault (`v2f ids plan 100 | head -1`)."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
