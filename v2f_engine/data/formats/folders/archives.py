"""Which archives of a folder make one set: its parts, and not the splits or other sets that lie beside them."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.formats.account import EXAMPLES
from v2f_engine.data.formats.folders.set_words import split_word, stem_of
from v2f_engine.data.formats.splits import choose, remark
from v2f_engine.data.formats.tar.blobs import Blob, open_blobs, unpacked_remark
from v2f_engine.data.gate.pictures import is_hidden, is_picture
from v2f_engine.data.layout import ABOUT
from v2f_engine.errors import DatasetError

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
ZIPS = (".zip",)
_FOLDERS = 256
"""Folders of shards that a folder may have; more are people's."""


@dataclass(frozen=True)
class Found:
    """The archives at a place.

    Args:
        path: an archive, or a folder.
        files: the archives, by their path inside the folder.
        pictures: pictures in folders beside the archives.
        loose: names of other archives beside them.
    """

    path: Path
    files: tuple[Path, ...]
    pictures: tuple[str, ...] = ()
    loose: tuple[str, ...] = ()

    def chosen(self, split: str | None) -> tuple[list[Path], list[str], str | None]:
        """(archives of the one set that is meant, remarks, the split still to be found inside them).

        Raises:
            DatasetError: splits and none asked for; two archives that are one and the same; pictures or other archives
                beside them.
        """
        for names, what in ((self.pictures, "pictures in folders"), (self.loose, "other archives")):
            if names:
                raise DatasetError(
                    f"{self.path}: {len(names)} {what} lie beside {len(self.files)} archives, such as "
                    f"{names[0]!r}: expected one set. Give one of them, or move the others away."
                )
        sets: dict[str, list[Path]] = {}
        for file in self.files:
            inside = file.relative_to(self.path).as_posix() if file != self.path else ""
            sets.setdefault(split_word(inside), []).append(file)
        if len(sets) > 1 or (split is not None and split in sets):
            name, files = choose(self.path, sets, split)
            remarks, split = list(remark(sets, name)), None
        else:
            files, remarks = list(self.files), []
        _refuse_copies(files)
        return files, remarks, split


@dataclass(frozen=True)
class Tars:
    """The opened tars of one set.

    Args:
        blobs: one a tar.
        remarks: for the account.
        inside: the split still to be found inside them; None where none is asked for.
    """

    blobs: list[Blob]
    remarks: list[str]
    inside: str | None


def open_tars(path: Path, split: str | None) -> Tars:
    """Opens the tars at `path` that make the set asked for.

    Raises:
        DatasetError: as in `Found.chosen` and `open_blobs`.
    """
    files, remarks, inside = archives_at(path, TARS).chosen(split)
    if not files:
        raise DatasetError(f"{path}: no .tar shard; expected shard-000000.tar and so on.")
    blobs = open_blobs(files)
    return Tars(blobs, [*remarks, *unpacked_remark(blobs)], inside)


def archives_at(path: Path, endings: Sequence[str]) -> Found:
    """The archives with one of these endings: `path` itself, or those in the folder and in the folders inside it."""
    if path.is_file():
        return Found(path, (path,) if path.name.lower().endswith(tuple(endings)) else ())
    inside, loose, folders = _in_folder(path, endings)
    pictures: list[str] = []
    for folder in folders if len(folders) <= _FOLDERS else []:
        below, others, _ = _in_folder(folder, endings)
        inside += below
        loose += others
    if inside:
        beside = [folder for folder in folders if folder.name != ABOUT]
        pictures = [name for folder in beside for name in _pictures_in(folder, path)]
    return Found(path, tuple(inside), tuple(pictures), tuple(loose))


def _in_folder(folder: Path, endings: Sequence[str]) -> tuple[list[Path], list[str], list[Path]]:
    """(archives with these endings, names of others, folders), sorted, without hidden ones."""
    found, others, folders = [], [], []
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read: {error.strerror}.") from error
    for entry in entries:
        if is_hidden(entry.name):
            continue
        if entry.is_dir():
            folders.append(folder / entry.name)
        elif entry.name.lower().endswith(tuple(endings)):
            found.append(folder / entry.name)
        elif entry.name.lower().endswith((*TARS, *ZIPS)):
            others.append(entry.name)
    return found, others, folders


def _pictures_in(folder: Path, root: Path) -> list[str]:
    """Pictures right in `folder`, by their path from `root`."""
    with os.scandir(folder) as entries:
        return [f"{folder.relative_to(root)}/{entry.name}" for entry in entries if is_picture(entry.name)]


def _refuse_copies(files: Sequence[Path]) -> None:
    """Raises where two archives are one: packed and unpacked side by side, or a browser's `name (1).tar`."""
    stems: dict[str, Path] = {}
    sizes: dict[int, list[Path]] = {}
    for file in files:
        stem = file.name.lower().removesuffix(
            next(e for e in sorted((*TARS, *ZIPS), key=len, reverse=True) if file.name.lower().endswith(e))
        )
        other = stems.setdefault(f"{file.parent}/{stem}", file)
        same = [each for each in sizes.get(file.stat().st_size, []) if filecmp.cmp(each, file, shallow=False)]
        if other is not file or same:
            raise DatasetError(
                f"{file}: stands there twice, the other is {same[0] if same else other}; keep one, or every "
                "picture counts twice."
            )
        sizes.setdefault(file.stat().st_size, []).append(file)


def refuse_shared(
    path: Path,
    archives: Sequence[Path],
    places: NDArray[np.int64],
    labels: NDArray[np.int64],
    names: Sequence[object],
) -> None:
    """Raises where archives that are called differently give pictures of one label: two sets, and two people made one.

    Args:
        path: for messages.
        archives: of the set.
        places: int64 `[N]`: archive of each picture.
        labels: int64 `[N]`.
        names: of each label, for messages.
    """
    inside = [archive.relative_to(path) if archive != path else Path(archive.name) for archive in archives]
    stems = ["-".join(filter(None, map(stem_of, place.parts))) for place in inside]
    if len(set(stems)) < 2:
        return
    kinds, of_archive = np.unique(stems, return_inverse=True)
    pairs = np.unique(np.stack([labels, of_archive[places]], 1), axis=0)
    shared, counts = np.unique(pairs[:, 0], return_counts=True)
    several = shared[counts > 1]
    if len(several):
        said = ", ".join(f"{inside[stems.index(str(kind))]}" for kind in kinds[:EXAMPLES])
        raise DatasetError(
            f"{path}: {len(several)} labels, such as {names[int(several[0])]!r}, are in archives of several names "
            f"({said}): one set in parts, or several sets whose people must not be merged? Give one archive, put "
            "each set into a folder of its own, or give parts of one set one name and numbers."
        )
