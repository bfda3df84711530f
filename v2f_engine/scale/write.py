"""`write_dataset` with many workers: the same folder, the same bytes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from v2f_engine.config import at_least
from v2f_engine.data import fs
from v2f_engine.data.contact_sheet import SHEET
from v2f_engine.data.encode import Encoder
from v2f_engine.data.formats import get_format
from v2f_engine.data.manifest import MANIFEST, Manifest, software_versions
from v2f_engine.data.plan import Plan
from v2f_engine.data.repair import from_batches, mend
from v2f_engine.data.shards import Attachments, Run, open_run
from v2f_engine.data.signals import stop_request
from v2f_engine.data.write import OnProgress, WriteReport
from v2f_engine.errors import ConfigError
from v2f_engine.scale.coordinator import Coordinator, Watch
from v2f_engine.scale.executors import Executor, get_executor
from v2f_engine.scale.job import Job, Source
from v2f_engine.scale.limits import Limits


def write_scaled(
    out: str | Path,
    settings: Mapping[str, Any],
    plan: Plan,
    source: Source,
    *,
    format: str = "webdataset",
    encoder: Encoder | None = None,
    executor: str | Executor = "local",
    workers: int | None = None,
    device: str = "cpu",
    threads: int = 1,
    attachments: Attachments | None = None,
    limits: Limits | None = None,
    options: Mapping[str, Any] | None = None,
    progress: OnProgress | None = None,
    grace_s: float = 20.0,
    watch: list[Watch] | None = None,
) -> WriteReport:
    """Makes the missing shards of a dataset with an executor's workers, and finishes it.

    Interrupted at any moment, in any process, and called again, with any executor and any number of workers, it
    ends in the same bytes.

    Args:
        out, settings, plan, format, encoder, progress, grace_s: as `write_dataset`.
        source: opens the images in each worker.
        executor: a name in `EXECUTORS`, or an executor.
        workers: at a time; by default one per device.
        device: `"auto"`, `"cpu"`, `"cuda"`: what each worker gets one of.
        threads: encoding threads of each worker.
        attachments: further files of the dataset; see `open_run`.
        limits: see `limits.Limits`.
        options: of the executor.
        watch: receives what the coordinator saw.

    Raises:
        ShardsFailed: shards over which workers keep dying were set aside; all others are committed.
        DiskFull, OutputFolderError, ConfigError, ...: as `write_dataset`, from whichever process met it.
    """
    encoder = encoder or Encoder()
    kind = get_format(format)
    at_least("threads", threads, 1)
    if not kind.stores:
        raise ConfigError(
            f"The format {format!r} writes nothing; measure it in one process, without an executor."
        )
    workers_with = (
        get_executor(executor, limits, **(options or {})) if isinstance(executor, str) else executor
    )
    workers = workers_with.devices(device) if workers is None else workers
    at_least("workers", workers, 1)
    manifest = Manifest(format, kind.describe(), plan, encoder.describe(), settings, software_versions())
    root = Path(out).absolute()
    started = time.perf_counter()
    with open_run(root, manifest, attachments=attachments) as state:
        if isinstance(state, Manifest):
            make = source.open(state, root, device)
            repaired = mend(root, state, from_batches(make, encoder), encoder.describe(), attachments)
            seconds = time.perf_counter() - started
            counts = (state.images, 0, 0, plan.shards - len(repaired), len(repaired), 0)
            return WriteReport(root, format, *counts, seconds, 0.0, True, root / MANIFEST, root / SHEET)
        kept = dict(state.records)
        job = Job(root, source, device, workers_with.limits, threads, grace_s)
        coordinator = Coordinator(state, job, workers_with, min(workers, plan.shards), progress)
        if watch is not None:
            watch.append(coordinator.watch)
        if state.missing():
            with stop_request(grace_s) as stop, workers_with, fs.named_errors(root, state.bytes_needed):
                state.check_room()
                coordinator.execute(stop)
        complete = not state.missing()
        if complete:
            with fs.named_errors(root, state.bytes_needed):
                state.check_room()
                state.finish()
        return _report(state, kept.keys(), complete, time.perf_counter() - started)


def _report(run: Run, kept: Any, complete: bool, seconds: float) -> WriteReport:
    made = [record for number, record in run.records.items() if number not in kept]
    return WriteReport(
        path=run.root,
        format=run.format.name,
        images=sum(record.count for record in run.records.values()),
        images_written=sum(record.count for record in made),
        shards_written=len(made),
        shards_kept=len(kept),
        shards_repaired=0,
        image_bytes=sum(record.image_bytes for record in made),
        seconds=seconds,
        writing_s=0.0,
        complete=complete,
        manifest=run.root / MANIFEST,
        contact_sheet=run.root / SHEET,
    )
