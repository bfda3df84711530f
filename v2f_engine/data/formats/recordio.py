"""MXNet RecordIO as insightface's trainers read it, without mxnet: `train.rec`, `train.idx`, `property`.

A record is magic, u32 (part << 29 | length), payload, padding to 4 bytes. An image's payload is the header
`IfQQ` (flag 0, label, id, 0) and the encoded bytes. Record 0 is the meta record (flag 2, labels = first key
after the images, first key after the identities); images are keys 1..N; then one record per identity (flag 2,
labels = its first key, its last key + 1), which the older trainers read. The meta labels are float32, exact
to 16,777,216 only, so larger sets have neither and their images are keys 0..N-1: the trainers then take every
key. A payload that holds the magic at a multiple of 4 is split there into parts, as dmlc-core does.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data import fs
from v2f_engine.data.dataset import Dataset, OpenFiles, planned_labels
from v2f_engine.data.formats import Finished, Place, ReadShard, Sample, ShardWriter, file_pieces
from v2f_engine.data.formats.staging import PackWriter
from v2f_engine.data.manifest import MANIFEST, Manifest, ShardRecord
from v2f_engine.data.pieces import Piece, region_piece
from v2f_engine.data.plan import Shard
from v2f_engine.errors import ConfigError, DatasetError

REC, IDX, PROPERTY = "train.rec", "train.idx", "property"
MAGIC = 0xCED7230A
MAGIC_BYTES = struct.pack("<I", MAGIC)
MAX_LENGTH = (1 << 29) - 1
MAX_EXACT = 1 << 24
"""Largest key that a float32 label holds exactly."""

WHOLE, FIRST, MIDDLE, LAST = 0, 1, 2, 3
_FRAME = struct.Struct("<II")
_HEADER = struct.Struct("<IfQQ")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


def _part(kind: int, payload: bytes) -> bytes:
    length = len(payload)
    return b"".join((_FRAME.pack(MAGIC, kind << 29 | length), payload, _PADDING[length & 3]))


def frame(payload: bytes) -> bytes:
    """The record that holds `payload`; several parts when the magic lies inside at a multiple of 4."""
    if len(payload) > MAX_LENGTH:
        raise ConfigError(f"A record of {len(payload)} bytes; RecordIO holds at most {MAX_LENGTH}.")
    found = np.frombuffer(payload, "<u4", len(payload) // 4) == MAGIC
    if not found.any():
        return _part(WHOLE, payload)
    cuts = (4 * np.flatnonzero(found)).tolist()
    starts = [0, *(cut + 4 for cut in cuts)]
    parts = [payload[start:stop] for start, stop in zip(starts, [*cuts, len(payload)], strict=True)]
    kinds = [FIRST, *[MIDDLE] * (len(parts) - 2), LAST]
    return b"".join(_part(kind, part) for kind, part in zip(kinds, parts, strict=True))


def image_record(label: int, key: int, data: bytes) -> bytes:
    return frame(_HEADER.pack(0, label, key, 0) + data)


def range_record(first: int, last: int, key: int) -> bytes:
    """A record without image whose two labels are a range of keys (meta and identity records)."""
    return frame(_HEADER.pack(2, 0.0, key, 0) + struct.pack("<ff", first, last))


def read_record(files: OpenFiles, path: Path, offset: int) -> tuple[bytes, int]:
    """(payload, offset of the next record).

    Raises:
        DatasetError: no record there, or one that is cut.
    """
    parts: list[bytes] = []
    expected = (WHOLE, FIRST)
    while True:
        magic, word = _FRAME.unpack(files.read(path, offset, 8))
        kind, length = word >> 29, word & MAX_LENGTH
        if magic != MAGIC or kind not in expected:
            raise DatasetError(
                f"{path}: offset {offset}: expected a RecordIO record, found {magic:#x}, part {kind}."
            )
        parts.append(files.read(path, offset + 8, length))
        offset += 8 + length + -length % 4
        if kind in (WHOLE, LAST):
            return MAGIC_BYTES.join(parts), offset
        expected = (MIDDLE, LAST)


def unpack(payload: bytes, where: str) -> tuple[list[float], bytes]:
    """(labels, encoded image) of a payload; one label, or as many as its flag says."""
    if len(payload) < _HEADER.size:
        raise DatasetError(f"{where}: {len(payload)} bytes; expected a header of {_HEADER.size} bytes.")
    flag, label, _, _ = _HEADER.unpack_from(payload)
    if flag == 0:
        return [label], payload[_HEADER.size :]
    start = _HEADER.size + 4 * flag
    if len(payload) < start:
        raise DatasetError(f"{where}: expected {flag} labels, found {len(payload)} bytes.")
    return list(struct.unpack_from(f"<{flag}f", payload, _HEADER.size)), payload[start:]


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

    def __init__(self, path: Path) -> None:
        super().__init__(path, "recordio")
        self._rec = next(iter(sorted(path.glob("*.rec"))), path / REC) if path.is_dir() else path
        self._files = OpenFiles()
        if path.is_dir() and (path / MANIFEST).exists():
            self.manifest = Manifest.load(path / MANIFEST)
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
        known = planned_labels(self.manifest) if self.manifest is not None else None
        if known is not None:
            return known
        labels = np.empty(len(self._offsets), np.int64)
        for index in range(len(labels)):
            labels[index] = self.label(index)
        return labels

    def label(self, index: int) -> int:
        # frame 8, header 24, first label of several 4; the header is never split: no field is the magic
        start = self._files.read(self._rec, int(self._offsets[index]), 36)
        flag, label, _, _ = _HEADER.unpack_from(start, 8)
        value = label if flag == 0 else struct.unpack_from("<f", start, 32)[0]
        if not (0 <= value < 2**53 and float(value).is_integer()):  # beyond it a float is no exact number
            raise DatasetError(f"{self.where(index)}: label {value!r}; expected a whole number from 0.")
        return int(value)

    def where(self, index: int) -> str:
        return f"{self._rec}: key {int(self._keys[index])}"

    def data(self, index: int) -> bytes:
        payload, _ = read_record(self._files, self._rec, int(self._offsets[index]))
        return unpack(payload, self.where(index))[1]


class RecordIOFormat:
    name = "recordio"
    stores = True
    staged = True

    def describe(self) -> dict[str, str]:
        return {"revision": "1"}

    def shard_writer(self, place: Place, shard: Shard) -> ShardWriter:
        return PackWriter(place, shard)

    def finish(self, place: Place, records: Mapping[int, ShardRecord], read: ReadShard) -> Finished:
        rec = fs.DurableFile(place.root / REC, place.writer, whole=False)
        idx = fs.DurableFile(place.root / IDX, place.writer)
        try:
            shards, files = _assemble(rec, idx, place.plan.identities, records, read)
            rec.prepare()
            index = idx.prepare()
            rec.publish()
            idx.publish()
        except BaseException:
            rec.abort()
            idx.abort()
            raise
        shape = fs.write_file(
            place.root / PROPERTY, f"{place.plan.identities},112,112".encode(), place.writer
        )
        files.append(Piece("file", IDX, index.bytes, index.sha256))
        files.append(Piece("file", PROPERTY, shape.bytes, shape.sha256))
        return Finished(shards, tuple(files))

    def read_shard(self, place: Place, record: ShardRecord) -> Iterator[Sample]:
        files = OpenFiles()
        numbers: dict[int, int] = {}
        for piece in file_pieces(record.pieces):
            path, offset = place.root / piece.name, piece.offset
            while offset < piece.offset + piece.bytes:
                payload, following = read_record(files, path, offset)
                labels, data = unpack(payload, f"{path}: offset {offset}")
                identity = int(labels[0])
                yield Sample(identity, numbers.get(identity, 0), data)
                numbers[identity] = numbers.get(identity, 0) + 1
                offset = following

    def recognises(self, path: Path) -> bool:
        return path.suffix == ".rec" if path.is_file() else any(path.glob("*.rec"))

    def open(self, path: Path) -> Dataset:
        return RecordIO(path)


def _assemble(
    rec: fs.DurableFile,
    idx: fs.DurableFile,
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
