"""The one call that turns batches of images into a dataset on disk."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from v2f_engine.config import at_least
from v2f_engine.data import fs
from v2f_engine.data.assembly_line import AssemblyLine
from v2f_engine.data.contact_sheet import SHEET
from v2f_engine.data.encode import Encoder
from v2f_engine.data.formats import get_format
from v2f_engine.data.manifest import MANIFEST, Manifest, ShardRecord, software_versions
from v2f_engine.data.plan import Plan
from v2f_engine.data.repair import MakeBatches, from_batches, mend
from v2f_engine.data.shards import Attachments, Run, open_run
from v2f_engine.data.signals import stop_request

OnProgress = Callable[[int, int], None]
"""Called with (images done, images in all); images of earlier runs count as done."""


@dataclass(frozen=True)
class WriteReport:
    """What a call of `write_dataset` did.

    Args:
        path, format: of the dataset.
        images: in the dataset.
        images_written: by this call.
        shards_written, shards_kept, shards_repaired: numbers of shards.
        image_bytes: encoded bytes written by this call.
        seconds: wall time; of it `writing_s` in the writing thread (hash, write, fsync, rename), which
            overlaps with generation.
        complete: False when a signal stopped the run and its handler let us go on.
        manifest, contact_sheet: their paths; None for the null format.
    """

    path: Path
    format: str
    images: int
    images_written: int
    shards_written: int
    shards_kept: int
    shards_repaired: int
    image_bytes: int
    seconds: float
    writing_s: float
    complete: bool
    manifest: Path | None
    contact_sheet: Path | None

    @property
    def images_per_s(self) -> float:
        """Images written per second of wall time."""
        return self.images_written / self.seconds if self.seconds > 0 else 0.0


def write_dataset(
    out: str | Path,
    settings: Mapping[str, Any],
    plan: Plan,
    make_batches: MakeBatches,
    *,
    format: str = "webdataset",
    encoder: Encoder | None = None,
    threads: int | None = None,
    progress: OnProgress | None = None,
    grace_s: float = 20.0,
    attachments: Attachments | None = None,
) -> WriteReport:
    """Makes the missing shards of a dataset, in order, and finishes it.

    Interrupted at any moment, even by `kill -9`, and called again with the same arguments, it ends in the
    same bytes as an undisturbed run. Called on a finished dataset it verifies every hash and re-makes broken
    shards.

    Args:
        out: output folder: new, empty, or of an earlier run with the same settings.
        settings: everything that decides the images (seed, model hash, identity table hash, ...), as JSON
            values.
        plan: identities, images per identity, shards.
        make_batches: must depend on `settings` and the range of identities only.
        format: name in `formats.FORMATS`.
        encoder: JPEG quality 95, 4:2:0 by default.
        threads: encoding threads; by default one per core, at most 4. They do not influence the bytes.
        progress: called with (images done, images in all) after each batch, from the calling thread.
        grace_s: after SIGINT or SIGTERM, seconds to finish the shard in hand before it is abandoned. The
            signal is then raised as usual (KeyboardInterrupt, or death by SIGTERM).
        attachments: further files of the dataset; each function depends on `settings` only.

    Raises:
        ConfigError: unknown format, impossible counts, settings that JSON cannot hold.
        OutputFolderError: the folder belongs to a run with other settings (they are listed), holds foreign
            files, is being written by another process, or cannot be written.
        DiskFull: bytes needed and free; every committed shard stays.
        DatasetError: `make_batches` gave wrong images, or a finished dataset cannot be mended.
    """
    encoder = encoder or Encoder()
    threads = min(4, os.cpu_count() or 1) if threads is None else threads
    at_least("threads", threads, 1)
    kind = get_format(format)
    manifest = Manifest(format, kind.describe(), plan, encoder.describe(), settings, software_versions())
    root = Path(out)
    started = time.perf_counter()
    if not kind.stores:
        run = _NullRun(root, manifest, {}, "main")
        return _fill(run, make_batches, encoder, threads, progress, grace_s, started)
    with open_run(root, manifest, attachments=attachments) as state:
        if isinstance(state, Manifest):
            repaired = mend(root, state, from_batches(make_batches, encoder), encoder.describe(), attachments)
            seconds = time.perf_counter() - started
            counts = (state.images, 0, 0, plan.shards - len(repaired), len(repaired), 0)
            return WriteReport(root, format, *counts, seconds, 0.0, True, root / MANIFEST, root / SHEET)
        report = _fill(state, make_batches, encoder, threads, progress, grace_s, started)
        if report.complete:
            with fs.named_errors(root, state.bytes_needed):
                state.check_room()
                state.finish()
    return replace(report, seconds=time.perf_counter() - started)


class _NullRun(Run):
    """A run that commits to nowhere."""

    def record(self, record: ShardRecord) -> None:
        self._records[record.number] = record


class _Stopped(Exception):
    """Abandons the shard in hand after a signal; the signal itself follows."""


def _fill(
    run: Run,
    make_batches: MakeBatches,
    encoder: Encoder,
    threads: int,
    progress: OnProgress | None,
    grace_s: float,
    started: float,
) -> WriteReport:
    """Makes all missing shards."""
    plan = run.manifest.plan
    missing = run.missing()
    kept = plan.shards - len(missing)
    kept_images = sum(record.count for record in run.records.values())
    line = AssemblyLine(run, encoder, threads)

    def report_progress() -> None:
        if progress is not None:
            progress(kept_images + line.tally.images, plan.images)

    report_progress()
    with contextlib.suppress(_Stopped), stop_request(grace_s) as stop, line:
        for number in missing:
            with fs.named_errors(run.root, run.bytes_needed):
                run.check_room()
            for batch in make_batches(plan.shard(number).identities):
                if stop.overdue:
                    raise _Stopped
                line.add(number, batch)
                report_progress()
            line.commit(number)
            if stop.requested:
                break
    report_progress()
    tally = line.tally
    stored = run.format.stores
    return WriteReport(
        run.root,
        run.format.name,
        kept_images + tally.images,
        tally.images,
        len(tally.shards),
        kept,
        0,
        tally.image_bytes,
        time.perf_counter() - started,
        tally.writing_s,
        not run.missing(),
        run.root / MANIFEST if stored else None,
        run.root / SHEET if stored else None,
    )
