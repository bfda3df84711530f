"""Landmark pictures that a user gives: a picture, a folder of them, or a text list, as often as wanted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine.batch import IMAGE_SIZE
from v2f_engine.errors import DatasetError

PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
LISTS = (".txt", ".lst")
COMMENT = "#"
"""Begins a line of a list that names nothing, as for numpy.genfromtxt, by which the published script reads it."""


def landmark_files(places: Path | Iterable[Path]) -> tuple[Path, ...]:
    """Pictures in the order in which they are used.

    Args:
        places: one or several of: a picture; a folder, whose pictures count by name; a text list (`.txt`), a path a
            line, counted from the list's folder or, where nothing lies there, from the working directory, as the
            published script counts them.

    Raises:
        DatasetError: a place that is none of these or holds none, or a line of a list that names no file.
    """
    found: list[Path] = []
    for place in [places] if isinstance(places, (str, Path)) else places:
        found += _files_at(Path(place))
    if not found:
        raise DatasetError("landmark pictures: expected a picture, a folder or a list of them, found none.")
    return tuple(found)


def _files_at(place: Path) -> list[Path]:
    if place.is_dir():
        found = sorted(path for path in place.iterdir() if path.suffix.lower() in PICTURES)
        if not found:
            raise DatasetError(f"{place}: expected landmark pictures ({', '.join(PICTURES)}), found none.")
        return found
    suffix = place.suffix.lower()
    if suffix not in PICTURES + LISTS or not place.is_file():
        raise DatasetError(
            f"{place}: expected a landmark picture ({', '.join(PICTURES)}), a folder of them or a text list of paths "
            f"({', '.join(LISTS)}), found {'another kind of file' if place.is_file() else 'nothing'}."
        )
    return [place] if suffix in PICTURES else _listed(place)


def _listed(path: Path) -> list[Path]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read as a text list of paths ({error}).") from error
    found = []
    for number, line in enumerate(lines, 1):
        name = line.strip()
        if not name or name.startswith(COMMENT):
            continue
        beside, there = path.parent / name, Path(name)
        file = beside if beside.is_file() else there
        if not file.is_file():
            raise DatasetError(
                f"{path}: line {number} names {name!r}, which is neither a file beside the list ({beside}) nor one in "
                f"the working directory ({Path.cwd() / there}). Write a path a line."
            )
        found.append(file)
    if not found:
        raise DatasetError(f"{path}: expected a path a line, found none.")
    return found


def read_pictures(files: Sequence[Path]) -> NDArray[np.uint8]:
    """uint8 `[N, 112, 112, 3]`.

    Raises:
        DatasetError: a file that is no picture of 112x112.
    """
    from PIL import Image, UnidentifiedImageError

    pictures = []
    for path in files:
        try:
            with Image.open(path) as opened:
                picture = np.asarray(opened.convert("RGB"))
        except (OSError, UnidentifiedImageError) as error:
            raise DatasetError(f"{path}: cannot be read as a picture ({error}).") from error
        if picture.shape != (IMAGE_SIZE, IMAGE_SIZE, 3):
            raise DatasetError(f"{path}: expected 112x112, found {picture.shape[1]}x{picture.shape[0]}.")
        pictures.append(picture)
    return np.stack(pictures)
