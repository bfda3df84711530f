"""The format that writes nothing, so that the rest of a run can be timed alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from v2f_engine.data.formats.dataset import Dataset
from v2f_engine.data.formats.protocol import Format, Place, Sample, ShardWriter
from v2f_engine.data.records.pieces import Piece
from v2f_engine.data.records.plan import PlannedShard
from v2f_engine.data.records.shard_record import ShardRecord
from v2f_engine.errors import DatasetError


class NullWriter:
    """Takes samples and drops them."""

    def write(self, sample: Sample) -> None:
        pass

    def prepare(self) -> tuple[Piece, ...]:
        return ()

    def publish(self) -> None:
        pass

    def abort(self) -> None:
        pass


class NullFormat(Format):
    name = "null"
    stores = False

    def shard_writer(self, place: Place, shard: PlannedShard) -> ShardWriter:
        return NullWriter()

    def read_shard(self, place: Place, record: ShardRecord) -> Iterator[Sample]:
        raise DatasetError("The null format stores nothing, so there is nothing to read.")

    def recognises(self, path: Path) -> bool:
        return False

    def open(self, path: Path, split: str | None = None) -> Dataset:
        raise DatasetError(f"{path}: the null format stores nothing, so there is nothing to open.")


FORMAT = NullFormat()
