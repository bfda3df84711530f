"""Which photographs are meant, where each one's faces go, and their pixels."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.formats.lists.image_list import root_of
from v2f_engine.data.formats.lists.table import read_list
from v2f_engine.data.gate.decode import decode
from v2f_engine.data.gate.pictures import IMAGE_SUFFIXES, UNREAD_SUFFIXES, is_hidden, suffix_of
from v2f_engine.errors import DatasetError

MAX_SIDE = 16_384
"""Pixels along a side: panoramas and 100 megapixels, 0.8 GB at the worst in each process."""
ACCOUNT, SETTINGS = ".alignment", "settings.json"
"""Ending of the folder beside a folder of faces, and what in it says what was asked for."""
LONGEST_STEM = 200
"""Bytes of a name before its ending."""
LISTS = (".txt", ".csv", ".tsv", ".lst")


@dataclass(frozen=True)
class Photograph:
    """One picture and the place of its faces.

    Args:
        path: of the file.
        name: what it is called in the account: relative to what was given, with `/`.
        target: of its face below the folder of aligned faces, without an ending, with `/`.
    """

    path: Path
    name: str
    target: str


def photographs_at(source: Path) -> list[Photograph]:
    """The pictures of a folder with all folders below it, of a list (`path`, or `path label`), or the one picture.

    Faces keep their folders; those of a list lie in a folder for each label, where it has labels.

    Raises:
        DatasetError: there is no such file or folder, or no picture in it; a broken list.
    """
    if source.is_dir():
        return _below(source)
    if not source.is_file():
        raise DatasetError(
            f"{source}: there is no such file or folder; expected photographs, or a list of them."
        )
    if suffix_of(source.name) in LISTS:
        return _listed(source)
    return [Photograph(source, source.name, source.stem)]


def read(photograph: Photograph) -> NDArray[np.uint8]:
    """The pixels, uint8 `[H, W, 3]` RGB, as they are meant to be seen.

    Raises:
        DatasetError: unreadable, of no codec that is read, or with a side above `MAX_SIDE`.
    """
    if photograph.path.exists() and not photograph.path.is_file():  # a pipe would be waited for
        raise DatasetError(f"{photograph.path}: is no file.")
    try:
        data = photograph.path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{photograph.path}: cannot be read ({error.strerror}).") from error
    return decode(data, str(photograph.path), MAX_SIDE)


def _below(folder: Path) -> list[Photograph]:
    entries = _entries(folder)
    records = (
        path.parent for path in entries if path.name == SETTINGS and path.parent.name.endswith(ACCOUNT)
    )
    faces = {
        about.with_name(about.name.removesuffix(ACCOUNT)) for about in records
    }  # written by an earlier run
    names = sorted(path.relative_to(folder).as_posix() for path in entries if faces.isdisjoint(path.parents))
    chosen = [
        name
        for name in names
        if not is_hidden(name) and suffix_of(name) in (*IMAGE_SUFFIXES, *UNREAD_SUFFIXES)
    ]
    if not chosen:
        raise DatasetError(
            f"{folder}: no picture; expected {', '.join(IMAGE_SUFFIXES)} in it or in folders below it."
        )
    called = [os.fsencode(name).decode(errors="backslashreplace") for name in chosen]
    return [
        Photograph(folder / name, known, target)
        for name, known, target in zip(chosen, called, _targets(called), strict=True)
    ]


def _entries(folder: Path) -> list[Path]:
    """All that is no folder below `folder`, through links to folders too: people are often such links."""

    def lost(error: OSError) -> None:
        raise DatasetError(
            f"{error.filename}: cannot be read ({error.strerror}); its pictures would be missing."
        )

    found: list[Path] = []
    for place, folders, names in os.walk(folder, followlinks=True, onerror=lost):
        here = os.path.realpath(place)
        for name in folders:
            path = os.path.join(place, name)
            if os.path.islink(path) and f"{here}/".startswith(f"{os.path.realpath(path)}/"):
                raise DatasetError(f"{path}: a link to a folder in which it lies; take it away.")
        found += [Path(place, name) for name in names]
    return found


def _listed(path: Path) -> list[Photograph]:
    table = read_list(path)
    root = root_of(path, table.names[0])
    if table.stated:
        people = [str(label) for label in table.labels.tolist()]
        if table.class_names is not None:
            people = [table.class_names[label] for label in table.labels.tolist()]
        wanted = [
            f"{_safe(who)}/{name.rpartition('/')[2]}" for who, name in zip(people, table.names, strict=True)
        ]
    else:
        wanted = [name.lstrip("/") for name in table.names]
    if any(".." in name.split("/") for name in wanted):
        raise DatasetError(
            f"{path}: paths with `..` in them: put the list above the pictures, or label its lines."
        )
    return [
        Photograph(root / name, name, target)
        for name, target in zip(table.names, _targets(wanted), strict=True)
    ]


def _safe(label: str) -> str:
    """A label as the name of a folder."""
    return label.strip().replace("/", "_").lstrip(".") or "_"


def _targets(names: Sequence[str]) -> list[str]:
    """Names without their endings; with `_jpg` and the like where `a.jpg` and `a.png` would become one face, or where a
    folder is called like the face.

    Letters count alike in both cases, as some disks have it.
    """
    given = {target for name in names for folder in _folders(name.lower()) for target in _as_faces(folder)}
    targets = []
    for name in names:
        folder, slash, base = name.rpartition("/")
        stem, dot, ending = base.rpartition(".")
        endings = [f"_{ending.lower()}"] if dot and stem else []
        stem = _bounded(stem or base)
        tried = [stem, *(f"{stem}{one}" for one in endings)]
        number = 1
        while f"{folder}{slash}{tried[0]}".lower() in given:
            tried = tried[1:] or [f"{stem}_{(number := number + 1)}"]
        target = f"{folder}{slash}{tried[0]}"
        given.add(target.lower())
        targets.append(target)
    return targets


def _folders(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]


def _as_faces(folder: str) -> list[str]:
    """The targets of which a face would be called as this folder: `x` and `x_0` for `x_0.png`."""
    stem = re.sub(r"\.(png|jpg)$", "", folder)
    return [] if stem == folder else [stem, re.sub(r"_\d+$", "", stem)]


def _bounded(stem: str) -> str:
    """A stem that has room for what is put before and behind it: a file's name has at most 255 bytes."""
    held = stem.encode()
    if len(held) <= LONGEST_STEM:
        return stem
    return f"{held[: LONGEST_STEM - 9].decode(errors='ignore')}_{hashlib.sha256(held).hexdigest()[:8]}"
