"""Attributes of each image (yaw, sigma, cosine_to_centre, ...), one small `.npy` per shard.

`attributes/shard-000000.npy` is a structured array, a row per image in record order: identity and image
(uint32), then the attributes by name (float32). Its bytes depend on the values alone.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine import disk
from v2f_engine.atomic import DurableFile
from v2f_engine.batch import ImageBatch
from v2f_engine.data.layout import sidecar_name
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.records.pieces import Piece, attribute_pieces, file_piece
from v2f_engine.errors import ConfigError, DatasetError

_RESERVED = ("identity", "image")


class SidecarWriter:
    """Gathers the attributes of one shard. Nothing is written when the images have none."""

    def __init__(self, root: Path, number: int, writer: str) -> None:
        self._name = sidecar_name(number)
        self._path = root / self._name
        self._writer = writer
        self._rows: list[NDArray[np.void]] = []
        self._file: DurableFile | None = None

    def add(self, batch: ImageBatch) -> None:
        """Takes a batch's attributes.

        Raises:
            ConfigError: other attributes than the batches before, wrong lengths, or a reserved name.
        """
        names = sorted(batch.attributes)
        if set(names) & set(_RESERVED):
            raise ConfigError(f"Attributes named {_RESERVED} are taken; found {names}.")
        kinds = np.dtype([(name, "<u4") for name in _RESERVED] + [(name, "<f4") for name in names])
        if self._rows and self._rows[0].dtype != kinds:
            expected = list(self._rows[0].dtype.names or ())[2:]
            raise ConfigError(
                f"Every batch must carry the same attributes; expected {expected}, found {names}."
            )
        rows = np.empty(len(batch), kinds)
        columns: Mapping[str, NDArray[np.generic]] = {
            "identity": batch.identity,
            "image": batch.image,
            **batch.attributes,
        }
        for name, column in columns.items():
            if np.shape(column) != (len(batch),):
                raise ConfigError(
                    f"Attribute {name!r}: expected shape ({len(batch)},), found {np.shape(column)}."
                )
            rows[name] = column
        self._rows.append(rows)

    def prepare(self) -> tuple[Piece, ...]:
        if not self._rows or self._rows[0].dtype.names == _RESERVED:
            return ()
        disk.make_folder(self._path.parent)
        self._file = DurableFile(self._path, self._writer)
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.concatenate(self._rows), version=(1, 0), allow_pickle=False)
        self._file.write(buffer.getvalue())
        return (file_piece(self._name, self._file.prepare()),)

    def publish(self) -> None:
        if self._file is not None:
            self._file.publish()

    def abort(self) -> None:
        if self._file is not None:
            self._file.abort()


def read_attributes(root: Path, manifest: Manifest) -> NDArray[np.void] | None:
    """All attributes of a finished dataset, structured `[N]` in record order; None when it has none.

    A run begun by an older version may lack a column in its first shards; it is NaN there.

    Raises:
        DatasetError: a sidecar that cannot be read, or of another length than its shard.
    """
    parts: list[NDArray[np.void]] = []
    for record in manifest.shards:
        for piece in attribute_pieces(record.pieces):
            path = root / piece.name
            try:
                part = np.load(path, allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise DatasetError(f"{path}: cannot be read: {error}.") from error
            if part.shape != (record.count,):
                raise DatasetError(f"{path}: expected {record.count} rows, found {part.shape}.")
            parts.append(part)
    return _joined(parts) if parts else None


def _joined(parts: list[NDArray[np.void]]) -> NDArray[np.void]:
    """Tables one after the other, with every column that any of them has."""
    if all(part.dtype == parts[0].dtype for part in parts):
        return np.concatenate(parts)
    kinds = {name: part.dtype[name] for part in parts for name in part.dtype.names or ()}
    names = [*_RESERVED, *sorted(kinds.keys() - set(_RESERVED))]
    table = np.empty(sum(map(len, parts)), np.dtype([(name, kinds[name]) for name in names]))
    for name in names[len(_RESERVED) :]:
        table[name] = np.nan
    start = 0
    for part in parts:
        for name in part.dtype.names or ():
            table[name][start : start + len(part)] = part[name]
        start += len(part)
    return table
