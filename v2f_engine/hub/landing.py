"""Where a pull lands: its folder, claimed before the Hub is asked, and left as it was where nothing came."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from v2f_engine import disk
from v2f_engine.atomic import write_file
from v2f_engine.data.layout import MANIFEST, WORK
from v2f_engine.errors import DiskFull, OutputFolderError

STATE = "pull.json"
"""In `OUT/.v2f`: of which repository and commit OUT is being filled."""
SPARE = 64 << 20
"""Bytes that a disk keeps free beside what is fetched."""


@contextlib.contextmanager
def landing(out: Path) -> Iterator[None]:
    """Claims `out` for the block; a folder that was made for nothing goes again.

    Raises:
        OutputFolderError: it holds something that neither a pull began nor a set of this engine is, or cannot be
            written.
    """
    if (out / MANIFEST).is_file():  # a finished set, which may be the very one: `claim` says
        yield
        return
    note = out / WORK / STATE
    if out.is_dir() and any(out.iterdir()) and not note.is_file():
        raise OutputFolderError(f"{out} {_holds(out)}. Give --out, a new folder, or empty this one.")
    disk.refuse_unwritable(out)
    made = not out.exists()
    with disk.named_errors(out):
        disk.make_folder(out / WORK)
    try:
        yield
    finally:
        if not note.is_file():
            disk.remove(out / WORK)
            if made and not (out / MANIFEST).is_file():
                with contextlib.suppress(OSError):
                    out.rmdir()


def claim(out: Path, kind: str, name: str, commit: str) -> None:
    """Notes of which commit `out` is being filled, or sees that it is this one.

    Raises:
        OutputFolderError: it is being filled of another one, or is another set.
    """
    note = out / WORK / STATE
    state = {"kind": kind, "name": name, "commit": commit}
    before = _read(note)
    if before is None and not (out / MANIFEST).is_file():
        disk.make_folder(note.parent)
        write_file(note, json.dumps(state).encode(), "pull")
    elif before != state:
        begun = (
            None if before is None else f"holds a pull of {before.get('name')}, commit {before.get('commit')}"
        )
        raise OutputFolderError(
            f"{out} {begun or _holds(out)}. Give --out, a new folder, or empty this one; nothing was fetched."
        )


def refuse_full(out: Path, needed: int) -> None:
    """Raises DiskFull where `needed` bytes have no room beside `SPARE`."""
    free = disk.free_bytes(out)
    if needed + SPARE > free:
        raise DiskFull(
            f"{out}: needs {disk.in_words(needed)} ({needed:,} bytes), {disk.in_words(free)} ({free:,} bytes) are "
            "free. Make room or give --out on another disk; nothing was fetched."
        )


def _read(note: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(note.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _holds(out: Path) -> str:
    if (out / MANIFEST).is_file():
        return "holds another set"
    names = sorted(os.listdir(out))
    return f"holds something else: {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"
