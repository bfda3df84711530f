"""Whose reference pictures are: an identity a picture, a folder, or a label of a list or dataset; never merged unasked.

Vec2Face's `image_generation_with_reference.py` takes a flat folder or a list of paths, and each picture is an identity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.formats import open_dataset
from v2f_engine.data.formats.folders.folder_dataset import FolderDataset
from v2f_engine.data.formats.lists.image_list import FORMAT as LIST
from v2f_engine.data.formats.lists.image_list import root_of
from v2f_engine.data.formats.lists.lines import read_rows
from v2f_engine.data.formats.lists.table import read_list
from v2f_engine.data.gate.decode import decode
from v2f_engine.data.gate.pictures import is_hidden, is_picture
from v2f_engine.data.gate.resize import Resized
from v2f_engine.data.layout import MANIFEST
from v2f_engine.errors import ConfigError, DatasetError
from v2f_engine.pipeline.references import FACES_A_BATCH, face_centres

KINDS = ("auto", "image", "folder", "column")
"""What is one identity: as the pictures are kept, each picture, all pictures of a folder, all of a label."""
DEFAULTS: Mapping[str, str] = {
    "pictures": "image",
    "list": "column",
    "folders": "folder",
    "records": "column",
}
"""How pictures are kept -> what `auto` means."""
CALLED = {"image": "picture", "folder": "person", "column": "person"}
OFFERED: Mapping[str, tuple[str, ...]] = {
    "pictures": ("image", "folder"),
    "list": ("image", "folder", "column"),
    "folders": ("image", "folder"),
    "records": ("image", "column"),
}
KEPT = {
    "pictures": "pictures without labels",
    "list": "a list with labels",
    "folders": "folders of pictures",
    "records": "a dataset of records with labels",
}


@dataclass(frozen=True)
class LookedAt:
    """Features of reference people.

    Args:
        vectors: float32 `[M, D]`, one an identity.
        pictures: how many were looked at.
        kind: `image`, `folder` or `column`.
        usual: what `auto` would have been.
        through: the recogniser.
        resized: what pictures of another size became; empty where there was none.
    """

    vectors: NDArray[np.float32]
    pictures: int
    kind: str
    usual: str
    through: str
    resized: str = ""

    @property
    def regrouped(self) -> str:
        """For provenance: what was asked for that is not the default."""
        return "" if self.kind == self.usual else f", one a {CALLED[self.kind]} by {self.kind}"

    def told(self, place: str | Path, asked: str) -> list[str]:
        """What was understood, for people."""
        count = len(self.vectors)
        people = f"{count:,} {'person' if count == 1 else 'people'}"
        pictures = f"{self.pictures:,} picture{'' if self.pictures == 1 else 's'}"
        mean = "" if self.kind == "image" else ", the mean of its pictures"
        how = f"{'as they are kept: ' if asked == 'auto' else ''}--reference-identity {self.kind}"
        head = f"{count:,} {'identity' if count == 1 else 'identities'}, one a {CALLED[self.kind]}{mean}"
        return [
            f"{head}: {pictures} of {place} -> {people} ({how})",
            *([self.resized] if self.resized else []),
        ]


def looked_at(place: Path, recogniser: str | Path, asked: str = "auto") -> LookedAt:
    """The features of reference people.

    Args:
        place: one picture, a folder of pictures, or a list of paths without labels (which is what Vec2Face's own tool
            takes): by default an identity a picture; folders of persons, a list with labels and any other dataset: an
            identity a person, the mean of its features.
        recogniser: a name or a path.
        asked: of `KINDS`.

    Raises:
        ConfigError: pictures that are not kept so. DatasetError and the recogniser's errors: as named.
    """
    single = pictures_at(place)
    kept = "pictures" if single is not None else _kept(place)
    usual = DEFAULTS[kept]
    kind = usual if asked == "auto" else asked
    if kind not in OFFERED[kept]:
        raise ConfigError(
            f"--reference-identity {kind}: {place} is {KEPT[kept]}, which say no {kind}. Expected "
            f"{' or '.join(OFFERED[kept])}{_advice(kind)}."
        )
    if single is None and kept == "list" and kind != "column":
        table = read_list(place)
        root = root_of(place, table.names[0])
        single = [root / name for name in table.names]
    if single is None:
        found = face_centres(place, recogniser, images_per_row=1 if kind == "image" else None)
        return LookedAt(found.centres, found.images, kind, usual, found.recogniser)
    features, through, resized = features_of(single, recogniser)
    if kind == "folder":
        _, codes = np.unique([str(path.parent) for path in single], return_inverse=True)
        people = range(int(codes.max()) + 1)
        features = np.stack([features[codes == k].mean(axis=0, dtype=np.float64) for k in people]).astype(
            np.float32
        )
    return LookedAt(features, len(single), kind, usual, through, resized)


def _advice(kind: str) -> str:
    return "; a list of `path label` names people" if kind == "column" else ""


def _kept(place: Path) -> str:
    """How pictures are kept that are no single ones: `list`, `folders` or `records`."""
    if place.is_file() and LIST.recognises(place):
        return "list" if read_list(place).stated else "folders"
    return "folders" if isinstance(open_dataset(place), FolderDataset) else "records"


def pictures_at(place: Path) -> list[Path] | None:
    """The pictures of one identity each at `place`: itself, those of a flat folder by name, or those that a list names
    without labels, in its order; None for a dataset.

    Raises:
        DatasetError: pictures beside folders of pictures: nobody can say whose they are.
    """
    if place.is_file():
        return [place] if is_picture(place.name) else _listed(place)
    if not place.is_dir() or (place / MANIFEST).exists():
        return None
    files = sorted(entry for entry in place.iterdir() if entry.is_file() and is_picture(entry.name))
    if not files:
        return None
    folders = sorted(
        entry.name
        for entry in place.iterdir()
        if entry.is_dir()
        and not is_hidden(entry.name)
        and any(is_picture(each.name) for each in entry.iterdir())
    )
    if folders:
        raise DatasetError(
            f"{place}: {len(files)} pictures (such as {files[0].name}) lie beside {len(folders)} folders of pictures "
            f"(such as {folders[0]}). Expected either pictures alone, an identity each, or a folder a person. Move the "
            "pictures into folders of their own, or out."
        )
    return files


def _listed(place: Path) -> list[Path] | None:
    """The pictures of a list of paths and nothing else, as Vec2Face's own tool takes; None for any other file."""
    if not LIST.recognises(place):
        return None
    rows = read_rows(place)
    if any(len(cells) != 1 for cells in rows.cells):
        return None
    names = [cells[0].replace("\\", "/") for cells in rows.cells]
    root = root_of(place, names[0])
    return [root / name for name in names]


def features_of(files: Sequence[Path], recogniser: str | Path) -> tuple[NDArray[np.float32], str, str]:
    """(features `[N, D]` in the order of `files`, what looked, what was resized)."""
    from v2f_engine.models.embedder import open_reader
    from v2f_engine.models.features import extract_features

    loaded, resized = open_reader(recogniser), Resized(len(files))

    def faces() -> Iterator[NDArray[np.uint8]]:
        for index, path in enumerate(files):
            try:
                data = path.read_bytes()
            except OSError as error:
                raise DatasetError(f"{path}: cannot be read: {error.strerror}.") from error
            yield resized.face(decode(data, str(path)), index, str(path))

    parts, held = list[NDArray[np.float32]](), list[NDArray[np.uint8]]()
    for face in faces():
        held.append(face)
        if len(held) == FACES_A_BATCH:
            parts.append(extract_features(loaded.model, np.stack(held)))
            held = []
    if held:
        parts.append(extract_features(loaded.model, np.stack(held)))
    return np.concatenate(parts), f"{loaded.name} {loaded.sha256[:12]}", resized.line()
