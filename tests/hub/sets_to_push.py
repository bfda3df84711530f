"""Small sets of every format, and how two folders compare."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from v2f_engine.batch import ImageBatch
from v2f_engine.data import Encoder, Plan, write_dataset
from v2f_engine.data.layout import WORK
from v2f_engine.data.records.licences import MINI_STATISTICS

FORMATS = ("imagefolder", "webdataset", "lmdb", "recordio", "parquet")


def made(root: Path, format: str, seed: int = 1, identities: int = 6) -> Path:
    """A finished set of three images an identity, in three shards, under CC0 as those of `mini` are."""

    def batches(numbers: range) -> Iterator[ImageBatch]:
        for identity in numbers:
            images = np.full((3, 112, 112, 3), 20 * identity + seed, np.uint8)
            images[:, :56] += np.arange(3, dtype=np.uint8)[:, None, None, None]
            number = np.arange(3)
            yield ImageBatch(images, np.full(3, identity), number, {"yaw": number.astype(np.float32)})

    model = {"name": "mini", "sha256": "0" * 64}
    vectors = {
        "source": "statistics.safetensors",
        "source_sha256": MINI_STATISTICS[0],
        "table_hash": "1" * 64,
    }
    settings = {"seed": seed, "model": model, "identities": vectors}
    plan = Plan.of(identities, 3, 3 * identities // 3)
    write_dataset(root, settings, plan, batches, format=format, encoder=Encoder(quality=60))
    return root


def tree(root: Path) -> dict[str, bytes]:
    """Name -> bytes of every file but those of the run that made it."""
    files = {path.relative_to(root): path for path in root.rglob("*") if path.is_file()}
    return {name.as_posix(): path.read_bytes() for name, path in files.items() if name.parts[0] != WORK}
