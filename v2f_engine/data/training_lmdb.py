"""Writes Vec2Face's generator LMDB: msgpack((jpeg, .npy bytes, label[, landmark jpeg])) under index keys."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data import fs
from v2f_engine.data.formats.lmdb import Record, pack_record, write_values

TrainingRecord = tuple[bytes, NDArray[np.float32], int] | tuple[bytes, NDArray[np.float32], int, bytes]


def write_training_lmdb(path: str | Path, rows: Iterable[TrainingRecord], classes: int) -> int:
    """Writes one LMDB file in the published layout.

    Args:
        path: the file; replaced atomically.
        rows: (encoded image, feature float32 `[D]`, label[, encoded landmark picture]).
        classes: number of identities.

    Returns:
        number of records.
    """
    count = 0

    def values() -> Iterable[bytes]:
        nonlocal count
        for image, feature, label, *landmark in rows:
            stream = io.BytesIO()
            np.save(stream, np.ascontiguousarray(feature, np.float32), allow_pickle=False)
            count += 1
            yield pack_record(Record(image, int(label), stream.getvalue(), *landmark))

    file = fs.DurableFile(Path(path), "main", whole=False)
    with fs.named_errors(Path(path).parent):
        try:
            write_values(file, [(0, values())], classes)
            file.prepare()
            file.publish()
        except BaseException:
            file.abort()
            raise
    return count
