"""Parquet as Hugging Face `datasets` reads it: `data/train-00000-of-00012.parquet`, columns image and label.

`image` is struct(bytes, path) with the feature type Image, `label` int64. Needs the extra `[parquet]`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine import disk
from v2f_engine.atomic import DurableFile
from v2f_engine.data.formats.dataset import Dataset
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
from v2f_engine.errors import DatasetError, MissingDependency

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise MissingDependency(
        "The parquet format needs pyarrow. Install it with: pip install 'v2f-engine[parquet]'"
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
        super().__init__(place, parquet_name(shard.number, place.plan.shards))
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


class ParquetDataset(Dataset):
    """Reads Parquet files with columns image (struct of bytes, or binary) and label (integer)."""

    def __init__(self, path: Path, split: str | None = None) -> None:
        super().__init__(path, "parquet", split)
        self._paths = _files(path)
        if not self._paths:
            raise DatasetError(
                f"{path}: no .parquet file; expected data/train-00000-of-00001.parquet and so on."
            )
        groups: list[tuple[int, int, int]] = []
        for number in range(len(self._paths)):
            meta = self._open(number).metadata
            groups += [
                (number, group, meta.row_group(group).num_rows) for group in range(meta.num_row_groups)
            ]
        self._groups = groups
        self._starts = np.concatenate([[0], np.cumsum([rows for _, _, rows in groups], dtype=np.int64)])
        self._column = lru_cache(maxsize=8)(self._read_column)

    def _open(self, number: int) -> Any:
        path = self._paths[number]
        try:
            file = pq.ParquetFile(path, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(f"{path}: expected a Parquet file: {error}.") from error
        schema = file.schema_arrow
        kinds = {name: schema.field(name).type for name in ("image", "label") if name in schema.names}
        image = kinds.get("image")
        image_ok = image is not None and (
            pa.types.is_binary(image) or (pa.types.is_struct(image) and image.get_field_index("bytes") >= 0)
        )
        if not image_ok or "label" not in kinds or not pa.types.is_integer(kinds["label"]):
            found = {name: str(schema.field(name).type) for name in schema.names}
            raise DatasetError(f"{path}: expected columns image (bytes) and label (integer), found {found}.")
        return file

    def _read_column(self, group: int, name: str) -> Any:
        number, row_group, _ = self._groups[group]
        try:
            with self._open(number) as file:
                column = file.read_row_group(row_group, columns=[name]).column(name).combine_chunks()
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(
                f"{self._paths[number]}: row group {row_group} is damaged: {error}."
            ) from error
        return column.field("bytes") if pa.types.is_struct(column.type) else column

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        columns = [self._read_column(group, "label") for group in range(len(self._groups))]
        if any(column.null_count for column in columns):
            raise DatasetError(f"{self.path}: missing labels; expected one number per image.")
        return np.concatenate([np.zeros(0, np.int64), *(column.to_numpy() for column in columns)]).astype(
            np.int64
        )

    def data(self, index: int) -> bytes:
        group = int(np.searchsorted(self._starts, index, side="right")) - 1
        value = self._column(group, "image")[index - int(self._starts[group])].as_py()
        if not isinstance(value, bytes):
            raise DatasetError(f"{self.where(index)}: no image bytes; expected them inside the Parquet file.")
        return value


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted((path / PARQUET if (path / PARQUET).is_dir() else path).glob("*.parquet"))


class ParquetFormat(Format):
    name = "parquet"

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
        return path.suffix == ".parquet" if path.is_file() else bool(_files(path))

    def open(self, path: Path, split: str | None = None) -> Dataset:
        return ParquetDataset(path, split)


FORMAT = ParquetFormat()
