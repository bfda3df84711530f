"""Staged shards: formats that keep everything in one file commit their shards as packs first.

Staging makes single-file formats resumable and open to many writers: shards are committed in any order, and
the file is assembled from them once, in shard order. It costs the data's size again on disk until then.

A pack is the encoded images one after the other, then int64 rows (identity, image, size), then the number of
rows as int64 and a magic number. It never leaves the working folder.
"""

from __future__ import annotations

from abc import abstractmethod
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from v2f_engine import disk
from v2f_engine.data.formats.protocol import Format, OneFileWriter, Place, Sample, ShardWriter
from v2f_engine.data.gate.open_files import OpenFiles
from v2f_engine.data.layout import pack_name
from v2f_engine.data.records.pieces import Piece, image_pieces
from v2f_engine.data.records.plan import PlannedShard
from v2f_engine.data.records.shard_record import ShardRecord
from v2f_engine.errors import DatasetError

_MAGIC = b"v2f-pack"
_ROW = 24


class PackWriter(OneFileWriter):
    """Writes one shard into the staging folder."""

    def __init__(self, place: Place, shard: PlannedShard) -> None:
        name = pack_name(shard.number)
        disk.make_folder((place.root / name).parent)
        super().__init__(place, name)
        self._rows = array("q")

    def write(self, sample: Sample) -> None:
        self.file.write(sample.data)
        self._rows.extend((sample.identity, sample.image, len(sample.data)))

    def prepare(self) -> tuple[Piece, ...]:
        rows = np.asarray(self._rows, "<i8")
        self.file.write(rows.tobytes() + (len(rows) // 3).to_bytes(8, "little") + _MAGIC)
        return super().prepare()


def read_staged(root: Path, number: int) -> Iterator[Sample]:
    """The samples of a staged shard, in order.

    Raises:
        DatasetError: not a pack, or one whose parts do not add up.
    """
    path = root / pack_name(number)
    files = OpenFiles()
    size = path.stat().st_size
    tail = files.read(path, max(0, size - 16), min(16, size))
    count = int.from_bytes(tail[:8], "little")
    start = size - 16 - _ROW * count
    if tail[8:] != _MAGIC or start < 0:
        raise DatasetError(f"{path}: expected a staged shard, found {size} bytes ending {tail!r}.")
    rows = np.frombuffer(files.read(path, start, _ROW * count), "<i8").reshape(count, 3)
    if (rows < 0).any() or int(rows[:, 2].sum()) != start:
        raise DatasetError(f"{path}: its sizes do not add up to {start} bytes; the file is damaged.")
    offset = 0
    for identity, image, length in rows.tolist():
        yield Sample(identity, image, files.read(path, offset, length))
        offset += length


class StagedFormat(Format):
    """A format that keeps everything in one file, each shard in a region of it."""

    staged = True

    def shard_writer(self, place: Place, shard: PlannedShard) -> ShardWriter:
        return PackWriter(place, shard)

    @abstractmethod
    def image_at(self, files: OpenFiles, path: Path, offset: int) -> tuple[int, bytes, int]:
        """(label, encoded image, offset of the next) of the image at `offset` of the assembled file."""

    def read_shard(self, place: Place, record: ShardRecord) -> Iterator[Sample]:
        files = OpenFiles()
        numbers: dict[int, int] = {}
        for piece in image_pieces(record.pieces):
            offset = piece.offset
            while offset < piece.offset + piece.bytes:
                label, data, offset = self.image_at(files, place.root / piece.name, offset)
                yield Sample(label, numbers.get(label, 0), data)
                numbers[label] = numbers.get(label, 0) + 1
