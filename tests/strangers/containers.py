"""What lies in a made set, to be changed: files of a folder, members of its archives; rewritten by tarfile and zipfile.

Never by code of the engine: what a damage did must be known without it.
"""

from __future__ import annotations

import io
import os
import tarfile
import warnings
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

ARCHIVED = ("zips", "tars", "shards")
"""Families whose pictures are members of archives."""


@dataclass
class Entry:
    """A file: of a folder (`holder` is the folder), or of an archive."""

    holder: Path
    name: str
    data: bytes

    @property
    def folder(self) -> str:
        return self.name.rpartition("/")[0]

    @property
    def base(self) -> str:
        return self.name.rpartition("/")[2]

    def beside(self, base: str) -> str:
        """The name of a file in the same folder."""
        return f"{self.folder}/{base}" if self.folder else base


def is_archive(name: str) -> bool:
    return name.endswith((".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2"))


@dataclass
class Contents:
    """All files at `path`, in order; `save` makes it so on the disk.

    Args:
        path: what a user hands over.
        family: of the layout.
        held: them.
    """

    path: Path
    family: str
    held: list[Entry] = field(default_factory=list)

    def __post_init__(self) -> None:
        root = self.path if self.path.is_dir() else self.path.parent
        if self.family not in ARCHIVED:
            self._holders = {root: _files(root)}
        else:
            files = [self.path] if self.path.is_file() else sorted(root / name for name, _ in _files(root))
            self._holders = {
                file: _members(file) for file in files if is_archive(file.name) and file.name[0] != "."
            }
        self.held = [Entry(place, name, data) for place, held in self._holders.items() for name, data in held]

    def save(self) -> None:
        for holder, before in self._holders.items():
            after = [(entry.name, entry.data) for entry in self.held if entry.holder == holder]
            if after == before:
                continue
            if holder.is_dir():
                for name in {name for name, _ in before} - {name for name, _ in after}:
                    (holder / name).unlink()
                for name, data in after:
                    (holder / name).parent.mkdir(parents=True, exist_ok=True)
                    (holder / name).write_bytes(data)
            elif holder.suffix == ".zip":
                with warnings.catch_warnings(), zipfile.ZipFile(holder, "w") as packed:
                    warnings.simplefilter("ignore")  # of names that are there twice: that is the damage
                    for name, data in after:
                        packed.writestr(zipfile.ZipInfo(name), data)
            else:
                _write_tar(holder, after)


def _files(root: Path) -> list[tuple[str, bytes]]:
    found = []
    for folder, _, names in os.walk(root, followlinks=True):
        for name in names:
            place = Path(folder) / name
            found.append((place.relative_to(root).as_posix(), place.read_bytes()))
    return sorted(found)


def _members(file: Path) -> list[tuple[str, bytes]]:
    if file.suffix == ".zip":
        with zipfile.ZipFile(file) as packed:
            return [(info.filename, packed.read(info)) for info in packed.infolist() if not info.is_dir()]
    found = []
    with tarfile.open(file, ignore_zeros=True) as archive:
        for member in archive:
            opened = archive.extractfile(member) if member.isreg() or member.islnk() else None
            if opened is not None:
                found.append((member.name, opened.read()))
    return found


def _write_tar(file: Path, members: list[tuple[str, bytes]]) -> None:
    mode = {"gz": "w:gz", "tgz": "w:gz", "xz": "w:xz", "bz2": "w:bz2"}.get(file.name.rpartition(".")[2], "w")
    with tarfile.open(file, mode, format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
