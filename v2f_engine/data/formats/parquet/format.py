"""Parquet as Hugging Face `datasets` reads it: `data/train-00000-of-00012.parquet`, columns image and label.

`image` is struct(bytes, path) with the feature type Image, `label` int64. Needs the extra `[parquet]`. What strangers
write: `files`, `columns`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from v2f_kernels._extras import install

from v2f_engine import disk
from v2f_engine.atomic import DurableFile
from v2f_engine.data.formats.dataset import Dataset
from v2f_engine.data.formats.parquet.files import parquet_sets
from v2f_engine.data.formats.protocol import (
    Format,
    OneFileWriter,
    Place,
    Sample,
    ShardWriter,
)
from v2f_engine.data.layout import PARQUET, parquet_name
from v2f_engine.data.records.pieces import Piece, image_pieces
from v2f_engine.data.records.plan import PlannedShard
from v2f_engine.data.records.shard_record import ShardRecord
from v2f_engine.errors import MissingDependency

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise MissingDependency(
        f"The parquet format needs pyarrow. Install it with: {install('parquet')}"
    ) from error

ROWS_PER_GROUP = 1_000
"""About 7 MB: what a reader takes for one image."""

_FEATURES = {"image": {"_type": "Image"}, "label": {"dtype": "int64", "_type": "Value"}}
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_SCHEMA = pa.schema(
    [("image", _IMAGE), ("label", pa.int64())],
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)


class _Sink(io.RawIOBase):
    """What pyarrow writes to: a DurableFile behind Python's file methods."""

    def __init__(self, file: DurableFile) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._file.write(bytes(data))
        return len(data)

    def tell(self) -> int:
        return self._file.size


class ParquetWriter(OneFileWriter):
    """Writes one shard as one Parquet file. Images are stored as they are: JPEGs do not compress further."""

    def __init__(self, place: Place, shard: PlannedShard) -> None:
        disk.make_folder(place.root / PARQUET)
        super().__init__(place, parquet_name(shard.number, place.plan.shards_with(shard.number)))
        self._place = place
        self._parquet = pq.ParquetWriter(
            _Sink(self.file), _SCHEMA, compression="none", use_dictionary=False, write_statistics=["label"]
        )
        self._rows: list[Sample] = []

    def write(self, sample: Sample) -> None:
        self._rows.append(sample)
        if len(self._rows) == ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            plan, extension = self._place.plan, self._place.extension
            names = [
                f"{plan.identity_name(row.identity)}_{plan.image_name(row.image)}.{extension}"
                for row in self._rows
            ]
            data = pa.array([row.data for row in self._rows], pa.binary())
            images = pa.StructArray.from_arrays([data, pa.array(names, pa.string())], fields=list(_IMAGE))
            labels = pa.array([row.identity for row in self._rows], pa.int64())
            self._parquet.write_table(
                pa.table([images, labels], schema=_SCHEMA), row_group_size=ROWS_PER_GROUP
            )
            self._rows = []

    def prepare(self) -> tuple[Piece, ...]:
        self._flush()
        self._parquet.close()
        return super().prepare()


class ParquetFormat(Format):
    name = "parquet"
    counts_shards = True

    def describe(self) -> dict[str, str]:
        return {"revision": "1", "pyarrow": str(pa.__version__)}

    def shard_writer(self, place: Place, shard: PlannedShard) -> ShardWriter:
        return ParquetWriter(place, shard)

    def read_shard(self, place: Place, record: ShardRecord) -> Iterator[Sample]:
        for piece in image_pieces(record.pieces):
            with pq.ParquetFile(place.root / piece.name) as file:
                for batch in file.iter_batches(batch_size=ROWS_PER_GROUP):
                    for row in batch.to_pylist():
                        image = Path(row["image"]["path"]).stem.partition("_")[2]
                        yield Sample(row["label"], int(image), row["image"]["bytes"])

    def recognises(self, path: Path) -> bool:
        return path.suffix == ".parquet" if path.is_file() else bool(parquet_sets(path)[0])

    def open(self, path: Path, split: str | None = None) -> Dataset:
        from v2f_engine.data.formats.parquet.reader import ParquetDataset

        return ParquetDataset(path, split)


FORMAT = ParquetFormat()
