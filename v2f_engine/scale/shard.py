"""`make_shard(manifest, number)`: the pure function behind every promise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.records.shard_record import ShardRecord
from v2f_engine.data.writing.assembly_line import AssemblyLine
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.data.writing.repair import MakeBatches
from v2f_engine.data.writing.run import DatasetRun
from v2f_engine.errors import DatasetError, V2FError


class Abandoned(V2FError):
    """The shard in hand was given up before it was published; nothing of it is left."""


def encoder_of(manifest: Manifest) -> Encoder:
    """The encoder that the manifest names.

    Raises:
        DatasetError: this machine has another version of it, which makes other bytes.
    """
    asked = ("codec", "quality", "subsampling", "library")
    encoder = Encoder(**{key: value for key, value in manifest.encoder.items() if key in asked})
    if encoder.describe() != dict(manifest.encoder):
        raise DatasetError(
            f"The dataset's images are encoded with {dict(manifest.encoder)}; this machine has "
            f"{encoder.describe()}, which gives other bytes. Install that version here."
        )
    return encoder


def make_shard(
    manifest: Manifest,
    number: int,
    make_batches: MakeBatches,
    folder: Path,
    *,
    writer: str = "main",
    threads: int = 1,
    guard: Callable[[], bool] = lambda: True,
    progress: Callable[[int], None] = lambda images: None,
) -> ShardRecord:
    """Makes shard `number` in `folder`, durably; the record, hashes included, depends on the first two alone.

    Args:
        manifest: of the dataset; its records are not looked at.
        number: which shard.
        make_batches: the images, as the manifest describes them.
        folder: where the shard's files appear under their final names, once all of them are safe.
        writer: in temporary names.
        threads: encoding threads; they change no byte.
        guard: asked last before the files get their names; False abandons the shard.
        progress: called with the number of images after each batch; may raise `Abandoned`.

    Raises:
        Abandoned: as said; the temporary files are gone.
        DiskFull, OutputFolderError, DatasetError: as `write_dataset`.
    """

    def still_ours() -> None:
        if not guard():
            raise Abandoned

    run = DatasetRun(folder, manifest, {}, writer, persistent=False, before_publish=still_ours)
    with AssemblyLine(run, encoder_of(manifest), threads) as line:
        for batch in make_batches(manifest.plan.shard(number).identities):
            line.add(number, batch)
            progress(len(batch.images))
        line.commit(number)
    return run.records[number]
