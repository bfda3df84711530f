"""MXNet RecordIO as insightface's trainers read it, without mxnet: `train.rec`, `train.idx`, `property`.

Record 0 is the meta record (flag 2, labels = first key after the images, first key after the identities); images are
keys 1..N; then one record per identity (flag 2, labels = its first key, its last key + 1), which the older trainers
read. The meta labels are float32, exact to 16,777,216 only, so larger sets have neither and their images are keys
0..N-1: the trainers then take every key. How records are framed: `recordio_frames`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine.atomic import DurableFile, aborted_on_error
from v2f_engine.data.formats.dataset import Dataset
from v2f_engine.data.formats.protocol import Finished, Place, ReadShard
from v2f_engine.data.formats.recordio_frames import HEADER, image_record, range_record, read_record, unpack
from v2f_engine.data.formats.staging import StagedFormat
from v2f_engine.data.gate.open_files import OpenFiles
from v2f_engine.data.layout import IDX, PROPERTY, REC
from v2f_engine.data.records.pieces import Piece, file_piece, region_piece, write_piece
from v2f_engine.data.records.shard_record import ShardRecord
from v2f_engine.errors import ConfigError, DatasetError

MAX_EXACT = 1 << 24
"""Largest key that a float32 label holds exactly."""


def read_index(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(keys, offsets) of a `.idx` file: lines of `key<TAB>offset`.

    Raises:
        DatasetError: a line that is not two whole numbers from 0.
    """
    try:
        if not path.stat().st_size:
            raise ValueError("an empty file")
        columns = np.loadtxt(path, dtype=np.int64, delimiter="\t", ndmin=2, comments=None)
    except (ValueError, OSError, OverflowError) as error:
        raise DatasetError(f"{path}: expected lines of key<TAB>offset, found {error}.") from error
    if columns.shape[1] != 2 or columns.min() < 0:
        raise DatasetError(f"{path}: expected lines of key<TAB>offset from 0, found shape {columns.shape}.")
    return columns[:, 0], columns[:, 1]


class RecordIO(Dataset):
    """Reads `*.rec` with its `*.idx`, ours or a stranger's."""

    def __init__(self, path: Path, split: str | None = None) -> None:
        super().__init__(path, "recordio", split)
        self._rec = next(iter(sorted(path.glob("*.rec"))), path / REC) if path.is_dir() else path
        self._files = OpenFiles()
        keys, offsets = read_index(self._rec.with_suffix(".idx"))
        order = np.argsort(keys, kind="stable")
        keys, offsets = keys[order], offsets[order]
        if keys[0] == 0:
            payload, _ = read_record(self._files, self._rec, int(offsets[0]))
            labels, _ = unpack(payload, f"{self._rec}: record 0")
            if len(labels) > 1:
                if not labels[0].is_integer():
                    raise DatasetError(
                        f"{self._rec}: record 0: expected the number of keys, found {labels[0]}."
                    )
                is_image = (keys >= 1) & (keys < int(labels[0]))
                keys, offsets = keys[is_image], offsets[is_image]
        self._keys, self._offsets = keys, offsets

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        known = self.planned_labels()
        return self.labels_one_by_one(len(self._offsets)) if known is None else known

    def label(self, index: int) -> int:
        # frame 8, header 24, first label of several 4; the header is never split: no field is the magic
        start = self._files.read(self._rec, int(self._offsets[index]), 36)
        flag, label, _, _ = HEADER.unpack_from(start, 8)
        value = label if flag == 0 else struct.unpack_from("<f", start, 32)[0]
        if not (0 <= value < 2**53 and float(value).is_integer()):  # beyond it a float is no exact number
            raise DatasetError(f"{self.where(index)}: label {value!r}; expected a whole number from 0.")
        return int(value)

    def where(self, index: int) -> str:
        return f"{self._rec}: key {int(self._keys[index])}"

    def data(self, index: int) -> bytes:
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

    def image_at(self, files: OpenFiles, path: Path, offset: int) -> tuple[int, bytes, int]:
        payload, following = read_record(files, path, offset)
        labels, data = unpack(payload, f"{path}: offset {offset}")
        return int(labels[0]), data, following

    def recognises(self, path: Path) -> bool:
        return path.suffix == ".rec" if path.is_file() else any(path.glob("*.rec"))

    def open(self, path: Path, split: str | None = None) -> Dataset:
        return RecordIO(path, split)


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
    with_meta = images + 1 + identities <= max_exact
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
