"""MXNet RecordIO as insightface's trainers read it, without mxnet: `train.rec`, `train.idx`, `property`.

Record 0 is the meta record (flag 2, labels = first key after the images, first key after the identities); images are
keys 1..N; then one record per identity (flag 2, labels = its first key, its last key + 1), which the older trainers
read. The meta labels are float32, exact to 16,777,216 only, so larger sets have neither and their images are keys
0..N-1: the trainers then take every key. How records are framed: `frames`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine.atomic import DurableFile, aborted_on_error
from v2f_engine.data.formats.account import Account
from v2f_engine.data.formats.dataset import Dataset
from v2f_engine.data.formats.protocol import Finished, Place, ReadShard
from v2f_engine.data.formats.recordio.books import MAX_EXACT, Books, read_books, read_index, read_ranges
from v2f_engine.data.formats.recordio.frames import HEADER, image_record, range_record, read_record, unpack
from v2f_engine.data.formats.recordio.side_lists import People, listed_people, own_labels, remarks_of
from v2f_engine.data.formats.splits import choose, remark
from v2f_engine.data.formats.staging import StagedFormat
from v2f_engine.data.gate.open_files import OpenFiles
from v2f_engine.data.gate.pictures import is_hidden
from v2f_engine.data.layout import IDX, PROPERTY, REC
from v2f_engine.data.records.pieces import Piece, file_piece, region_piece, write_piece
from v2f_engine.data.records.plan import Plan
from v2f_engine.data.records.shard_record import ShardRecord
from v2f_engine.errors import ConfigError, DatasetError

FOLDERS = 20
"""Folders in a folder without `.rec` up to which they are looked into: DCFace's root holds `record/`, or `record_0-8/`
and so on where several processes made it; a folder of a hundred thousand people is not searched."""


def sets_of(path: Path) -> dict[str, Path]:
    """Name -> `.rec` of the sets at `path`: of the folder, or of the few folders in it."""
    if path.is_file():
        return {path.stem: path}
    found = {rec.stem: rec for rec in _records_in(path)}
    if not path.is_dir():
        return found
    folders = [Path(entry.path) for entry in islice(os.scandir(path), FOLDERS + 1) if entry.is_dir()]
    if len(folders) > FOLDERS:
        return found
    inside = {folder.name: _records_in(folder) for folder in sorted(folders) if not is_hidden(folder.name)}
    return found | {
        name if len(records) == 1 and name not in found else f"{name}/{rec.stem}": rec
        for name, records in inside.items()
        for rec in records
    }


def _records_in(folder: Path) -> list[Path]:
    return [rec for rec in sorted(folder.glob("*.rec")) if not is_hidden(rec.name)]


class RecordIO(Dataset):
    """Reads `*.rec` with its `*.idx`, ours or a stranger's.

    Ours are as the manifest says. Of a stranger's, every record is looked at when it is opened (`books`): it
    is a picture, a range of keys, or damaged, which shows when it is read.
    """

    def __init__(self, path: Path, split: str | None = None) -> None:
        super().__init__(path, "recordio", split)
        found = {"train": path / REC} if self.manifest is not None else sets_of(path)
        if not found:
            raise DatasetError(f"{path}: no .rec file; expected train.rec and train.idx.")
        name, self._rec = choose(path, found, split)
        self._remarks = remark(found, name)
        self._files = OpenFiles()
        self._index = read_index(self._rec.with_suffix(".idx"))
        self._people: People | None = None
        self._ranges = np.zeros(0, np.int64)
        if self.manifest is not None:
            self._keys, self._offsets = self._own_images(*self._index)
        else:
            self._keys, self._offsets = self._books.keys, self._books.offsets
            self._people = listed_people(self._rec, self._books)

    def _own_images(
        self, keys: NDArray[np.int64], offsets: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(keys, offsets) of the images of a set of this engine, whose manifest counts them."""
        assert self.manifest is not None
        order = np.argsort(keys, kind="stable")
        keys, offsets = keys[order], offsets[order]
        payload, _ = read_record(self._files, self._rec, int(offsets[0]))
        labels, data = unpack(payload, f"{self._rec}: record {int(keys[0])}")
        first = 0 if data else 1
        count = sum(record.count for record in self.manifest.shards)
        expected = np.arange(first, first + count)
        if not np.array_equal(keys[first : first + count], expected) or (first and labels[0] != count + 1):
            raise DatasetError(
                f"{self._rec.with_suffix('.idx')}: expected the keys {first} to {first + count - 1} of {count} "
                "images, found "
                f"{len(keys)} keys up to {int(keys[-1])}."
            )
        self._ranges = offsets[first + count :]
        return keys[first : first + count], offsets[first : first + count]

    @cached_property
    def _books(self) -> Books:
        return read_books(self._files, self._rec, *self._index)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        if self._people is not None:
            return self._people.labels
        known = self.planned_labels()
        if known is not None:
            return known
        if self.manifest is None and not self._books.faults:
            return own_labels(self._rec, self._books)
        labels = self.labels_one_by_one(len(self._offsets))
        bounds = read_ranges(self._files, self._rec, self._ranges)
        held = np.maximum(bounds[:, 1] - bounds[:, 0], 0)
        if len(bounds) and not np.array_equal(labels, np.repeat(np.arange(len(bounds)), held)):
            raise DatasetError(
                f"{self._rec}: its labels are not those that its {len(bounds)} records of ranges of keys state. "
                f"`v2f verify {self.path}` names what was changed."
            )
        return labels

    @property
    def class_names(self) -> list[str] | None:
        """Folders of a list beside the records; None where labels are the records' own."""
        return None if self._people is None else self._people.class_names

    def account(self) -> Account:
        own = self._people is None
        said = self._remarks if self._people is None else (*self._remarks, *self._people.remarks)
        people = len(np.unique(self.labels)) if not self._books.faults else 0
        if own:
            said = (*said, *remarks_of(self._rec, self._books, people))
        return self._books.account(self._rec, people, said)

    def label(self, index: int) -> int:
        if self.manifest is None and index in self._books.faults:
            raise DatasetError(self._books.faults[index])
        if self._people is not None:
            return int(self._people.labels[index])
        # frame 8, header 24, first label of several 4; the header is never split: no field is the magic
        start = self._files.read(self._rec, int(self._offsets[index]), 36)
        flag, label, _, _ = HEADER.unpack_from(start, 8)
        value = label if flag == 0 else struct.unpack_from("<f", start, 32)[0]
        if not (0 <= value < MAX_EXACT and float(value).is_integer()):
            raise DatasetError(
                f"{self.where(index)}: label {value!r}; expected a whole number from 0 and below 2**24."
            )
        return int(value)

    def where(self, index: int) -> str:
        return f"{self._rec}: key {int(self._keys[index])}"

    def data(self, index: int) -> bytes:
        if self.manifest is None and index in self._books.faults:
            raise DatasetError(self._books.faults[index])
        payload, _ = read_record(self._files, self._rec, int(self._offsets[index]))
        return unpack(payload, self.where(index))[1]


class RecordIOFormat(StagedFormat):
    name = "recordio"

    def finish(self, place: Place, records: Mapping[int, ShardRecord], read: ReadShard) -> Finished:
        rec = DurableFile(place.root / REC, place.writer, whole=False)
        idx = DurableFile(place.root / IDX, place.writer)
        with aborted_on_error(rec, idx):
            shards, files = _assemble(rec, idx, place.plan.identities, records, read)
            rec.prepare()
            index = idx.prepare()
            rec.publish()
            idx.publish()
        shape = f"{place.plan.identities},112,112".encode()
        files += [file_piece(IDX, index), write_piece(place.root, PROPERTY, shape, place.writer)]
        return Finished(shards, tuple(files))

    def refuse_growth(self, old: Plan, new: Plan) -> None:
        if _has_meta(old.images, old.identities) != _has_meta(new.images, new.identities):
            raise ConfigError(
                f"recordio keeps its first and last records in float32, exact to {MAX_EXACT:,}: a set of {new.images:,}"
                f" images has none, and each of the {old.images:,} images that are there would get another key. "
                "Convert the set to another format, and let that one grow."
            )

    def image_at(self, files: OpenFiles, path: Path, offset: int) -> tuple[int, bytes, int]:
        payload, following = read_record(files, path, offset)
        labels, data = unpack(payload, f"{path}: offset {offset}")
        return int(labels[0]), data, following

    def recognises(self, path: Path) -> bool:
        return path.suffix == ".rec" if path.is_file() else bool(sets_of(path))

    def open(self, path: Path, split: str | None = None) -> Dataset:
        return RecordIO(path, split)


def _has_meta(images: int, identities: int, max_exact: int = MAX_EXACT) -> bool:
    return images + 1 + identities <= max_exact


def _assemble(
    rec: DurableFile,
    idx: DurableFile,
    identities: int,
    records: Mapping[int, ShardRecord],
    read: ReadShard,
    max_exact: int = MAX_EXACT,
) -> tuple[dict[int, tuple[Piece, ...]], list[Piece]]:
    """Fills both files; returns each shard's region and the regions before and after them."""
    if identities > MAX_EXACT:
        raise ConfigError(
            f"recordio keeps labels as float32, exact to {MAX_EXACT}; found {identities} identities."
        )
    images = sum(record.count for record in records.values())
    with_meta = _has_meta(images, identities, max_exact)
    key = 0
    rec.begin_region()
    if with_meta:
        idx.write(b"0\t0\n")
        rec.write(range_record(images + 1, images + 1 + identities, 0))
        key = 1
    head = region_piece(REC, rec.end_region())
    keys = np.zeros((identities, 2), np.int64)
    shards: dict[int, tuple[Piece, ...]] = {}
    for number in sorted(records):
        rec.begin_region()
        for sample in read(number):
            idx.write(b"%d\t%d\n" % (key, rec.size))
            rec.write(image_record(sample.identity, key, sample.data))
            if keys[sample.identity, 1] == 0:
                keys[sample.identity, 0] = key
            key += 1
            keys[sample.identity, 1] = key
        shards[number] = (region_piece(REC, rec.end_region()),)
    rec.begin_region()
    if with_meta:
        for first, last in keys.tolist():
            idx.write(b"%d\t%d\n" % (key, rec.size))
            rec.write(range_record(first, last, key))
            key += 1
    return shards, [head, region_piece(REC, rec.end_region())]


FORMAT = RecordIOFormat()
