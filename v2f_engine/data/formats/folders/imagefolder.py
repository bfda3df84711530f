"""ImageFolder: `images/000012/003.jpg`, a folder per identity, as torchvision and arcface_torch read it.

The identity folders lie in `images/`, apart from manifest, attributes and contact sheet: ImageFolder takes
every folder it sees for a class.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine import disk
from v2f_engine.data.formats.account import Account
from v2f_engine.data.formats.dataset import Dataset
from v2f_engine.data.formats.folders.container_files import is_archive
from v2f_engine.data.formats.folders.folder_dataset import FolderDataset
from v2f_engine.data.formats.folders.people import people_of
from v2f_engine.data.formats.folders.walk import first_picture, walk
from v2f_engine.data.formats.protocol import Format, Place, Sample, ShardWriter
from v2f_engine.data.gate.pictures import IMAGE_SUFFIXES, is_hidden, suffix_of
from v2f_engine.data.layout import IMAGES
from v2f_engine.data.records.pieces import Piece, folder_header, image_pieces
from v2f_engine.data.records.plan import PlannedShard
from v2f_engine.data.records.shard_record import ShardRecord
from v2f_engine.errors import DatasetError


class FolderWriter:
    """Fills the identity folders of one shard inside a temporary folder, then moves them into place.

    The moves are not one atomic step; the shard counts when its record is in the ledger, and until then its
    folders are replaced on the next attempt.
    """

    def __init__(self, place: Place, shard: PlannedShard) -> None:
        self._place = place
        self._images = place.root / IMAGES
        disk.make_folder(self._images)
        self._temporary = disk.temporary_path(self._images / f"shard-{shard.number:06d}", place.writer)
        disk.remove(self._temporary)
        disk.make_folder(self._temporary)
        self._folders: list[str] = []
        self._hash = hashlib.sha256()
        self._bytes = 0

    def write(self, sample: Sample) -> None:
        folder = self._place.plan.identity_name(sample.identity)
        if not self._folders or self._folders[-1] != folder:
            self._folders.append(folder)
            disk.make_folder(self._temporary / folder)
        name = f"{folder}/{self._place.plan.image_name(sample.image)}.{self._place.extension}"
        self._hash.update(folder_header(name, len(sample.data)))
        self._hash.update(sample.data)
        self._bytes += len(sample.data)
        path = f"{self._temporary}/{name}"
        disk.before("create", path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            disk.write_all(descriptor, sample.data, path)
        finally:
            os.close(descriptor)

    def prepare(self) -> tuple[Piece, ...]:
        disk.sync_file_system(self._temporary)
        return (Piece("folders", IMAGES, self._bytes, self._hash.hexdigest(), folders=tuple(self._folders)),)

    def publish(self) -> None:
        for folder in self._folders:
            disk.remove(self._images / folder)
            disk.rename(self._temporary / folder, self._images / folder)
        disk.remove(self._temporary)
        disk.fsync_folder(self._images)

    def abort(self) -> None:
        disk.remove(self._temporary)


class ImageFolder(FolderDataset):
    """Reads `root/<class>/<image>`; labels are the ranks of the sorted class names, as torchvision has it.

    A stranger's folder is walked to its last file (`people`); a set of ours is read as it was written.

    Args:
        path: a dataset of this engine, or the folder that holds the class folders.
        split: which of several sets.
    """

    def __init__(self, path: Path, split: str | None = None) -> None:
        super().__init__(path, "imagefolder", split)
        if self.manifest is not None:
            if split is not None:
                raise DatasetError(f"{path}: one set and no split {split!r}; open it without.")
            self._names, self._classes, self._labels = _as_written(path / IMAGES)
            counts = (sum(record.count for record in self.manifest.shards), self.manifest.plan.identities)
            found = (len(self._names), len(self._classes))
            if self.manifest.complete and found != counts:
                raise DatasetError(
                    f"{path / IMAGES}: the manifest counts {counts[0]} images of {counts[1]} identities, found "
                    f"{found[0]} of {found[1]}. `v2f verify {path}` names what is missing or not its own."
                )
        else:
            files = walk(path)
            people = people_of(files.names, files.tally, split)
            files.refuse_doubled(people.rows.tolist())
            self._names = [files.paths[row] for row in people.rows.tolist()]
            self.found(people)

    def account(self) -> Account:
        return super().account() if self.manifest is None else self._account_of_ours

    @cached_property
    def _account_of_ours(self) -> Account:
        """Walked only when it is asked for."""
        files = walk(self.path / IMAGES)
        return people_of(files.names, files.tally).account

    def where(self, index: int) -> str:
        return self._names[index]

    def data(self, index: int) -> bytes:
        try:
            with open(self._names[index], "rb") as file:
                return file.read()
        except OSError as error:
            raise DatasetError(f"{self._names[index]}: cannot be read: {error.strerror}.") from error


def _as_written(root: Path) -> tuple[list[str], list[str], NDArray[np.int64]]:
    """(pictures, class names, labels) of a set that `FolderWriter` wrote; no more than a listing of each folder."""
    found: list[str] = []
    classes: list[str] = []
    labels: list[int] = []
    try:
        folders = sorted(
            entry.name for entry in os.scandir(root) if entry.is_dir() and not is_hidden(entry.name)
        )
        for folder in folders:
            names = sorted(entry.name for entry in os.scandir(root / folder) if _is_image(entry))
            found += [f"{root}/{folder}/{name}" for name in names]
            labels += [len(classes)] * len(names)
            classes.append(folder)
    except OSError as error:
        raise DatasetError(f"{error.filename}: cannot be read: {error.strerror}.") from error
    if not found:
        raise DatasetError(f"{root}: no image; expected folders such as 000000/ holding 000.jpg and so on.")
    return found, classes, np.asarray(labels, np.int64)


def _is_image(entry: os.DirEntry[str]) -> bool:
    return suffix_of(entry.name) in IMAGE_SUFFIXES and entry.name[0] != "." and entry.is_file()


class ImageFolderFormat(Format):
    name = "imagefolder"

    def shard_writer(self, place: Place, shard: PlannedShard) -> ShardWriter:
        return FolderWriter(place, shard)

    def read_shard(self, place: Place, record: ShardRecord) -> Iterator[Sample]:
        for piece in image_pieces(record.pieces):
            for folder in piece.folders:
                for path in sorted((place.root / piece.name / folder).iterdir()):
                    yield Sample(int(folder), int(path.stem), path.read_bytes())

    def recognises(self, path: Path) -> bool:
        """A folder with a picture in a folder, or with pictures and no archive."""
        if not path.is_dir():
            return False
        first = first_picture(path)
        return first is not None and ("/" in first or not any(is_archive(name) for name in os.listdir(path)))

    def open(self, path: Path, split: str | None = None) -> Dataset:
        return ImageFolder(path, split)


FORMAT = ImageFolderFormat()
