"""Re-makes exactly the broken shards of a finished dataset, byte for byte as the manifest has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from v2f_engine import disk
from v2f_engine.atomic import aborted_on_error
from v2f_engine.batch import ImageBatch
from v2f_engine.data.formats.protocol import Sample
from v2f_engine.data.formats.staging import read_staged
from v2f_engine.data.layout import ATTACHED, ATTRIBUTES, MANIFEST, SHEETS
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.records.mend_manifest import mend_manifest
from v2f_engine.data.records.pieces import attribute_pieces
from v2f_engine.data.records.shard_record import ShardRecord
from v2f_engine.data.records.verify import VerifyReport, verify_manifest
from v2f_engine.data.writing.encode import Encoder, check_batch
from v2f_engine.data.writing.open_run import Attachments, attach, locked
from v2f_engine.data.writing.run import DatasetRun
from v2f_engine.data.writing.sink import ShardSink
from v2f_engine.errors import DatasetError

MakeBatches = Callable[[range], Iterable[ImageBatch]]
"""Makes the images of a range of identities, in order of (identity, image)."""

Fill = Callable[[ShardSink], None]
"""Writes all samples (and attributes) of a shard into its sink."""


def from_batches(make_batches: MakeBatches, encoder: Encoder) -> Fill:
    """Fills shards with freshly made images."""

    def fill(sink: ShardSink) -> None:
        for batch in make_batches(sink.shard.identities):
            check_batch(batch)
            pairs = zip(batch.identity.tolist(), batch.image.tolist(), strict=True)
            for (identity, number), image in zip(pairs, batch.images, strict=True):
                sink.write(Sample(identity, number, encoder.encode(image)))
            sink.add_attributes(batch)

    return fill


def repair_dataset(
    path: str | Path,
    make_batches: MakeBatches,
    encoder: Encoder | None = None,
    attachments: Attachments | None = None,
) -> tuple[int, ...]:
    """Re-makes the broken shards of a finished dataset; intact ones are not made again.

    Args:
        path: the dataset's folder.
        make_batches: the same function of the same settings that made it.
        encoder: as used then; must describe itself as the manifest says.
        attachments: as given when it was made; needed only where one of them is broken.

    Returns:
        numbers of the shards that were made again.

    Raises:
        DatasetError: the manifest is broken by more than a flipped bit, or the shards cannot be made with the
            same bytes here (other encoder, library version or images); the broken files are then left as is.
        OutputFolderError, DiskFull: as in `write_dataset`.
    """
    root = Path(path)
    encoder = encoder or Encoder()
    if not (root / MANIFEST).is_file():
        Manifest.load(root / MANIFEST)  # says what is wrong, and leaves the folder as it is
    with locked(root):
        mend_manifest(root)
        manifest = Manifest.load(root / MANIFEST)
        return mend(root, manifest, from_batches(make_batches, encoder), encoder.describe(), attachments)


def mend(
    root: Path,
    manifest: Manifest,
    fill: Fill,
    encoder: Mapping[str, Any],
    attachments: Attachments | None = None,
) -> tuple[int, ...]:
    """`repair_dataset` for whoever holds the lock; `fill` re-makes a shard's samples."""
    report = verify_manifest(root, manifest, full=True)
    if report.ok:
        return ()
    run = DatasetRun(root, replace(manifest, shards=(), files=()), {}, "repair")
    _same_tools(root, manifest, encoder, run.format.describe())
    names = report.broken_names
    beside = {*SHEETS, *ATTACHED}
    data_broken = any(name not in beside and not name.startswith(f"{ATTRIBUTES}/") for name in names)
    with disk.named_errors(root):
        for name, content in (attachments or {}).items():
            if name in names:
                attach(root, name, content(), run.place.writer)
        try:
            make = _restage if run.format.staged and data_broken else _replace
            records = make(run, manifest, report, fill)
            if data_broken and (
                run.format.staged or names & {piece.name for piece in manifest.files} - beside
            ):
                run.format.finish(run.place, records, lambda number: read_staged(root, number))
            for name in names & SHEETS:
                run.draw_sheet(lambda number: run.format.read_shard(run.place, manifest.shards[number]), name)
        finally:
            run.clear()
    again = verify_manifest(root, manifest, full=True)
    if not again.ok:
        raise DatasetError(
            f"{root}: still differs from its manifest after repair: {'; '.join(again.faults)}."
        )
    return report.broken


def _same_tools(
    root: Path, manifest: Manifest, encoder: Mapping[str, Any], writer: Mapping[str, str]
) -> None:
    for what, found, expected in (
        ("encoder", encoder, manifest.encoder),
        ("writer", writer, manifest.writer),
    ):
        if dict(found) != dict(expected):
            raise DatasetError(
                f"{root}: broken, and its shards cannot be made with the same bytes: {what} was "
                f"{dict(expected)}, is {dict(found)} here. Install those versions and repeat."
            )


def _remake(run: DatasetRun, expected: ShardRecord, fill: Fill) -> ShardRecord:
    """Makes a shard again; publishes it only if its images are the recorded ones."""
    sink = run.sink(expected.number)
    with aborted_on_error(sink):
        fill(sink)
        record = sink.prepare()
        kept = [(it.content, attribute_pieces(it.pieces)) for it in (record, expected)]
        if kept[0] != kept[1] or not (run.format.staged or record == expected):
            raise DatasetError(
                f"{run.root}: shard {expected.number} is broken, and making it again gives other bytes: "
                f"images with sha256 {record.content}, expected {expected.content}. Use the machine and the "
                f"versions that made the dataset: {dict(run.manifest.versions)}."
            )
        sink.publish()
    return record


def _replace(run: DatasetRun, manifest: Manifest, report: VerifyReport, fill: Fill) -> dict[int, ShardRecord]:
    """Formats with files per shard: the broken shards' files are replaced."""
    for number in report.broken:
        _remake(run, manifest.shards[number], fill)
    return {record.number: record for record in manifest.shards}


def _restage(run: DatasetRun, manifest: Manifest, report: VerifyReport, fill: Fill) -> dict[int, ShardRecord]:
    """Single-file formats: shards go into staging, intact ones from the file, broken ones made anew."""
    records: dict[int, ShardRecord] = {}
    for record in manifest.shards:
        if record.number in report.broken:
            records[record.number] = _remake(run, record, fill)
            continue
        writer = run.format.shard_writer(run.place, run.manifest.plan.shard(record.number))
        with aborted_on_error(writer):
            for sample in run.format.read_shard(run.place, record):
                writer.write(sample)
            pieces = writer.prepare()
            writer.publish()
        records[record.number] = replace(record, pieces=pieces + attribute_pieces(record.pieces))
    return records
