"""LMDB as HaiyuWu's trainer reads it: one file `train.lmdb` (subdir=False), ASCII index keys, msgpack values.

`entries` says what stands in it, `layout` how the file is made, `tree_writer` and `tree_reader` do it by hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgpack

from v2f_engine.atomic import DurableFile, aborted_on_error
from v2f_engine.data.formats.dataset import Dataset, Record
from v2f_engine.data.formats.lmdb.entries import pack_record, record_from, write_values
from v2f_engine.data.formats.lmdb.layout import OVERFLOW_HEADER, PAGE
from v2f_engine.data.formats.lmdb.reader import Lmdb
from v2f_engine.data.formats.lmdb.tree_reader import data_files, is_lmdb
from v2f_engine.data.formats.protocol import Finished, Place, ReadShard
from v2f_engine.data.formats.staging import StagedFormat
from v2f_engine.data.gate.open_files import OpenFiles
from v2f_engine.data.layout import LMDB
from v2f_engine.data.records.shard_record import ShardRecord


class LmdbFormat(StagedFormat):
    name = "lmdb"

    def finish(self, place: Place, records: Mapping[int, ShardRecord], read: ReadShard) -> Finished:
        def values(number: int) -> Iterator[bytes]:
            return (pack_record(Record(sample.data, sample.identity)) for sample in read(number))

        file = DurableFile(place.root / LMDB, place.writer, whole=False)
        with aborted_on_error(file):
            groups = ((number, values(number)) for number in sorted(records))
            regions, files = write_values(file, groups, place.plan.identities)
            file.prepare()
            file.publish()
        return Finished({number: (region,) for number, region in regions.items()}, tuple(files))

    def image_at(self, files: OpenFiles, path: Path, offset: int) -> tuple[int, bytes, int]:
        _, _, _, pages = OVERFLOW_HEADER.unpack(files.read(path, offset, OVERFLOW_HEADER.size))
        value = files.read(path, offset + OVERFLOW_HEADER.size, pages * PAGE - OVERFLOW_HEADER.size)
        unpacker = msgpack.Unpacker(raw=True, use_list=False, max_buffer_size=len(value))
        unpacker.feed(value)
        record = record_from(next(unpacker), f"{path}: offset {offset}")
        return record.label, record.image, offset + pages * PAGE

    def recognises(self, path: Path) -> bool:
        if path.is_dir():
            return any(map(is_lmdb, data_files(path).values()))
        return is_lmdb(path)

    def open(self, path: Path, split: str | None = None) -> Dataset:
        return Lmdb(path, split)


FORMAT = LmdbFormat()
