"""Pictures in a folder by the names that a list of pairs gives them: each name one picture, or a named error."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import overload

from v2f_engine.data.gate.pictures import IMAGE_SUFFIXES, is_picture
from v2f_engine.errors import DatasetError

NAMED = 5
"""Missing pictures that a message names; it counts them all."""


class FilePictures(Sequence[bytes]):
    """The bytes of files, read when they are asked for."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [_read(path) for path in self.paths[index]]
        return _read(self.paths[index])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}).") from error


class PictureFolder:
    """Every picture below a folder, found by the names that a list gives, with or without their suffix.

    A list may leave out leading folders (`Ann_0001.jpg` lies in `Ann/`), say another suffix (`.jpg` for an aligned
    `.png`), or begin with folders of another machine (`/data/lfw/Ann/Ann_0001.jpg`). So the shorter of the two paths
    has to be a tail of the longer, and what is cut off the list's names is the same number of folders for all of them:
    else a picture that is missing would be found in another person's folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise DatasetError(
                f"{root} is no folder; expected the folder of the pictures that the list names."
            )
        self.root = root
        self._by_tail: dict[str, list[str]] = {}
        for folder, _, files in os.walk(root):
            above = Path(folder).relative_to(root).as_posix()
            for file in files:
                name = file if above == "." else f"{above}/{file}"
                if is_picture(name):
                    parts = _stem(name).split("/")
                    for start in range(len(parts)):
                        self._by_tail.setdefault("/".join(parts[start:]), []).append(name)

    def find(self, candidates: Sequence[str], cut: int = 0) -> str | None:
        """The one picture that the first fitting of these names means, relative to the folder; None where none is.

        Args:
            candidates: the names that it may have, the likeliest first.
            cut: leading folders of the names that the folder does not have.

        Raises:
            DatasetError: two pictures fit a name.
        """
        for name in candidates:
            found = self._one(name, cut)
            if found is not None:
                return found
        return None

    def _one(self, name: str, cut: int) -> str | None:
        parts = _parts(name)[cut:]
        if not parts or ".." in parts:
            return None
        whole = "/".join(parts)
        hits = self._by_tail.get(_stem(whole), [])
        if cut:
            hits = [hit for hit in hits if hit.count("/") == len(parts) - 1]
        if whole in hits:
            return whole
        if len(hits) > 1:
            raise DatasetError(
                f"{self.root}: {name} may be {len(hits)} pictures: {', '.join(sorted(hits)[:NAMED])}. Give the folder "
                "of one set of them."
            )
        return hits[0] if hits else None

    def all(self, wanted: Sequence[Sequence[str]], where: str) -> list[str]:
        """The picture of each of `wanted`, relative to the folder.

        Args:
            wanted: for each picture the names that it may have, the likeliest first.
            where: what to call the list in messages.

        Raises:
            DatasetError: pictures are missing (counted, the first are named), or two names of the list are one picture.
        """
        keys = list(dict.fromkeys(tuple(names) for names in wanted))
        best: dict[tuple[str, ...], str | None] = {}
        for cut in range(max((len(_parts(key[0])) for key in keys), default=1)):
            found = {key: self.find(key, cut) for key in keys}
            if not best or _missing(found) < _missing(best):
                best = found
            if not _missing(best):
                break
        gone = [key[0] for key in keys if best[key] is None]
        if gone:
            raise DatasetError(
                f"{where}: {len(gone)} of {len(keys)} pictures are not in {self.root}: {', '.join(gone[:NAMED])}"
                f"{' ...' if len(gone) > NAMED else ''}. Expected every picture of the list there, under its name or "
                f"with another suffix of {', '.join(IMAGE_SUFFIXES)}."
            )
        of: dict[str, str] = {}
        for key, name in best.items():
            other = of.setdefault(str(name), key[0])
            if _stem(other) != _stem(key[0]):
                raise DatasetError(
                    f"{where}: {other} and {key[0]} are one picture in {self.root}, {name}: folders that the list "
                    "names are missing there."
                )
        return [str(best[tuple(names)]) for names in wanted]


def _missing(found: Mapping[tuple[str, ...], str | None]) -> int:
    return sum(name is None for name in found.values())


def _parts(name: str) -> list[str]:
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]


def _stem(name: str) -> str:
    """A path without the suffix of a picture; other dots belong to the name (RFW's people are called `m.0xnkj`)."""
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in IMAGE_SUFFIXES else name
