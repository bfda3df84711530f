"""Every file below a stranger's folder, links followed as torchvision follows them; what cannot be read is named."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from v2f_engine.data.formats.account import Tally
from v2f_engine.data.formats.folders.container_files import HIDDEN, Names
from v2f_engine.data.gate.member_names import text_of
from v2f_engine.data.gate.pictures import IMAGE_SUFFIXES, UNREAD_SUFFIXES, is_hidden, suffix_of
from v2f_engine.errors import DatasetError

_HEAD = 4096
_LOOKED_AT = 100_000
"""Entries after which a folder without a picture is taken for none of pictures."""


@dataclass(frozen=True)
class Walked:
    """The files of a folder.

    Args:
        names: relative to it, as text that can be printed.
        paths: of the same files, as the system spells them.
        tally: what was set aside on the way.
        links: paths of the folders and files that are links.
    """

    names: Names
    paths: list[str]
    tally: Tally
    links: frozenset[str] = frozenset()

    def refuse_doubled(self, rows: Iterable[int]) -> None:
        """Raises where links make one picture of the set two.

        Files that are links to one and the same file outside are left alone: the cache of the Hugging Face Hub keeps
        equal pictures so.

        Args:
            rows: of the set that is meant; a split made of links may point into another.
        """
        folders: dict[str, str] = {}
        seen: dict[str, str] = {}
        for path in [self.paths[row] for row in rows] if self.links else []:
            folder, _, name = path.rpartition("/")
            if folder not in folders:
                folders[folder] = os.path.realpath(folder)
            real = os.path.realpath(path) if path in self.links else f"{folders[folder]}/{name}"
            other = seen.setdefault(real, path)
            if other != path and not (other in self.links and path in self.links):
                raise DatasetError(
                    f"{path} and {other} are one file by a link: its picture, or its whole person, would count twice. "
                    "Take the link away."
                )


def walk(root: Path) -> Walked:
    """All files below `root`; hidden folders count as one entry each and are not entered.

    Raises:
        DatasetError: a folder that cannot be read, a link in a circle, a picture that is no file (a broken link, a
            pipe).
    """
    names: list[str] = []
    paths: list[str] = []
    empty: list[str] = []
    tally = Tally("files")
    links: set[str] = set()
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        held = 0
        for entry in _entries(root, folder):
            held += 1
            name = f"{folder}/{entry.name}" if folder else entry.name
            text = text_of(os.fsencode(name))
            if entry.is_dir():
                if is_hidden(entry.name):
                    tally.aside(HIDDEN, text)
                    continue
                if entry.is_symlink():
                    _refuse_circle(root, entry)
                    links.add(entry.path)
                waiting.append(name)
            elif entry.is_file():
                names.append(text)
                paths.append(entry.path)
                if entry.is_symlink():
                    links.add(entry.path)
            else:
                _refuse_picture(entry)
                tally.aside("broken links, pipes and devices", text)
        if not held and folder:
            empty.append(text_of(os.fsencode(folder)))

    def head(row: int) -> bytes:
        try:
            with open(paths[row], "rb") as file:
                return file.read(_HEAD)
        except OSError as error:
            raise DatasetError(f"{paths[row]}: cannot be read: {error.strerror}.") from error

    return Walked(Names(root, names, head, empty), paths, tally, frozenset(links))


def first_picture(root: Path) -> str | None:
    """The name of a picture below `root`, of one in a folder where there is any; None where none is near."""
    loose = None
    waiting, seen = [""], 0
    while waiting and seen < _LOOKED_AT:
        folder = waiting.pop()
        for entry in _entries(root, folder):
            seen += 1
            if is_hidden(entry.name):
                continue
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir():
                if name.count("/") < 16:
                    waiting.append(name)
            elif suffix_of(entry.name) in (*IMAGE_SUFFIXES, *UNREAD_SUFFIXES):
                if folder:
                    return name
                loose = name
    return loose


def _entries(root: Path, folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(root / folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DatasetError(
            f"{root / folder}: cannot be read: {error.strerror}; its pictures would be missing."
        ) from error
    return found


def _refuse_circle(root: Path, entry: os.DirEntry[str]) -> None:
    """Raises where a link to a folder leads back to a folder it lies in."""
    target = os.path.realpath(entry.path)
    here = os.path.realpath(os.path.dirname(entry.path))
    if f"{here}/".startswith(f"{target}/"):
        raise DatasetError(f"{entry.path}: a link to {target}, in which it lies; take it away.")


def _refuse_picture(entry: os.DirEntry[str]) -> None:
    if suffix_of(entry.name) in IMAGE_SUFFIXES and not is_hidden(entry.name):
        what = "a link to nothing" if entry.is_symlink() else "no file"
        raise DatasetError(f"{entry.path}: expected a picture, found {what}; restore it, or take it away.")
