"""The one call that turns batches of images into a dataset on disk."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from v2f_engine import disk
from v2f_engine.config import at_least
from v2f_engine.data.formats import get_format
from v2f_engine.data.layout import MANIFEST, SHEETS
from v2f_engine.data.records.manifest import Manifest, software_versions
from v2f_engine.data.records.plan import Plan
from v2f_engine.data.records.shard_record import ShardRecord
from v2f_engine.data.writing.assembly_line import AssemblyLine
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.data.writing.open_run import Attachments, open_run
from v2f_engine.data.writing.repair import Fill, MakeBatches, from_batches, mend
from v2f_engine.data.writing.room import refuse_beyond
from v2f_engine.data.writing.run import DatasetRun
from v2f_engine.data.writing.set_report import SetReport
from v2f_engine.data.writing.signals import stop_request
from v2f_engine.errors import V2FError
from v2f_engine.stopping import saying_what_is_kept
from v2f_engine.threads import Cores

OnProgress = Callable[[int, int], None]
"""Called with (images done, images in all); images of earlier runs count as done."""


@dataclass(frozen=True)
class WriteReport(SetReport):
    """What a call of `write_dataset`, or of `scale.write_scaled`, did.

    Args:
        path, format: of the dataset.
        images: in the dataset.
        images_written: by this call, in committed shards.
        shards_written, shards_kept, shards_repaired: numbers of shards.
        image_bytes: encoded bytes written by this call.
        seconds: wall time; of it `writing_s` in the writing thread (hash, write, fsync, rename), which
            overlaps with generation.
        complete: False when a signal stopped the run and its handler let us go on.
        manifest, contact_sheet: their paths; None where there is none: the null format, and a run that was stopped.
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
    manifest = manifest_for(format, plan, encoder.describe(), settings)
    return write_planned(
        out, manifest, make_batches, encoder, threads=threads, progress=progress, grace_s=grace_s,
        attachments=attachments,
    )  # fmt: skip


def write_planned(
    out: str | Path,
    manifest: Manifest,
    make_batches: MakeBatches,
    encoder: Encoder,
    *,
    threads: int | None = None,
    progress: OnProgress | None = None,
    grace_s: float = 20.0,
    attachments: Attachments | None = None,
) -> WriteReport:
    """`write_dataset` of what a manifest without records describes; of one that `grow.grown` made, more of a set.

    Args:
        manifest: format, plan, settings, and `encoder` as it describes itself.
        others: as in `write_dataset`.

    Raises:
        As `write_dataset`.
    """
    threads = min(4, Cores.look().usable) if threads is None else threads
    at_least("threads", threads, 1)

    def make(run: DatasetRun) -> float:
        line = AssemblyLine(run, encoder, threads)
        _make_missing(run, make_batches, line, grace_s, progress)
        return line.tally.writing_s

    return complete(Path(out), manifest, make, lambda _: from_batches(make_batches, encoder), attachments)


def manifest_for(
    format: str, plan: Plan, encoder: Mapping[str, Any], settings: Mapping[str, Any]
) -> Manifest:
    """The manifest of a dataset that is to be written here, without records."""
    return Manifest(format, get_format(format).describe(), plan, encoder, settings, software_versions())


def complete(
    root: Path,
    manifest: Manifest,
    make: Callable[[DatasetRun], float],
    again: Callable[[Manifest], Fill],
    attachments: Attachments | None = None,
) -> WriteReport:
    """Has the missing shards of a dataset made and finishes it, or mends it where it was finished before.

    Args:
        root, manifest, attachments: as `open_run`.
        make: commits the missing shards of the open run, or as many as it is let; returns seconds spent writing.
        again: of the finished dataset's manifest; re-makes its broken shards.
    """
    started = time.perf_counter()
    plan, stored = manifest.plan, get_format(manifest.format).stores
    finished: Manifest | None
    refuse_beyond(root, plan.identities, plan.images_per_id, manifest.encoder, stored=stored)
    with open_run(root, manifest, attachments=attachments) if stored else _nowhere(root, manifest) as state:
        if isinstance(state, Manifest):
            repaired = mend(root, state, again(state), manifest.encoder, attachments)
            kept, made = plan.shards - len(repaired), list[ShardRecord]()
            images, writing_s, whole, finished = state.images, 0.0, True, state
        else:
            before = set(state.records)
            with saying_what_is_kept(partial(_kept, state) if stored else lambda: "nothing was kept"):
                writing_s = make(state)
            made = [record for number, record in state.records.items() if number not in before]
            images = sum(record.count for record in state.records.values())
            repaired, kept, whole = (), len(before), not state.missing()
            finished = state.finish() if whole and stored else None
    return WriteReport(
        path=root,
        format=manifest.format,
        images=images,
        images_written=sum(record.count for record in made),
        shards_written=len(made),
        shards_kept=kept,
        shards_repaired=len(repaired),
        image_bytes=sum(record.image_bytes for record in made),
        seconds=time.perf_counter() - started,
        writing_s=writing_s,
        complete=whole,
        manifest=root / MANIFEST if finished is not None else None,
        contact_sheet=_sheet(root, finished) if finished is not None else None,
    )


def _kept(run: DatasetRun) -> str:
    images, plan = sum(record.count for record in run.records.values()), run.manifest.plan
    of = f" of {plan.images:,}" if plan.uniform else ""
    shards = f"{len(run.records):,} of {plan.shards:,} shards"
    return f"{images:,}{of} images ({shards}) kept in {run.root}; the same command resumes, or `v2f resume {run.root}`"


def _sheet(root: Path, finished: Manifest) -> Path | None:
    """The contact sheet: sets made by earlier versions have it elsewhere."""
    return next((root / piece.name for piece in finished.files if piece.name in SHEETS), None)


@contextlib.contextmanager
def _nowhere(root: Path, manifest: Manifest) -> Iterator[DatasetRun]:
    """A run that commits to nowhere, for the format that stores nothing."""
    yield DatasetRun(root, manifest, {}, persistent=False)


class _Stopped(V2FError):
    """Abandons the shard in hand after a signal; the signal itself follows."""


def _make_missing(
    run: DatasetRun,
    make_batches: MakeBatches,
    line: AssemblyLine,
    grace_s: float,
    progress: OnProgress | None,
) -> None:
    """Makes all missing shards, in order, until somebody asks to stop."""
    plan = run.manifest.plan
    kept = sum(record.count for record in run.records.values())

    def report_progress() -> None:
        if progress is not None:
            progress(kept + line.tally.images, plan.images)

    report_progress()
    with contextlib.suppress(_Stopped), stop_request(grace_s) as stop, line:
        for number in run.missing():
            with disk.named_errors(run.root, run.bytes_needed):
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
