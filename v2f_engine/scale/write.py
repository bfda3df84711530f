"""`write_dataset` with many workers: the same folder, the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from v2f_engine import disk
from v2f_engine.config import at_least
from v2f_engine.data.formats import get_format
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.writing.open_run import Attachments
from v2f_engine.data.writing.repair import Fill, from_batches
from v2f_engine.data.writing.run import DatasetRun
from v2f_engine.data.writing.signals import stop_request
from v2f_engine.data.writing.write import OnProgress, WriteReport, complete
from v2f_engine.errors import ConfigError
from v2f_engine.scale.coordinator import Coordinator, Watch
from v2f_engine.scale.executors import Executor, get_executor
from v2f_engine.scale.job import Job, Limits, Source
from v2f_engine.scale.shard import encoder_of


@dataclass(frozen=True)
class Workforce:
    """Who makes the shards.

    Args:
        executor: a name in `EXECUTORS`, or an executor.
        workers: at a time; by default one per device.
        device: `"auto"`, `"cpu"`, `"cuda"`: what each worker gets one of.
        threads: encoding threads of each worker.
        limits: see `job.Limits`; those of an executor that is given as such are its own.
        options: of an executor that is given by name.
        grace_s: after SIGINT or SIGTERM, seconds to finish the shards in hand.

    Raises:
        ConfigError: a count below 1.
    """

    executor: str | Executor = "local"
    workers: int | None = None
    device: str = "cpu"
    threads: int = 1
    limits: Limits | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    grace_s: float = 20.0

    def __post_init__(self) -> None:
        at_least("threads", self.threads, 1)
        if self.workers is not None:
            at_least("workers", self.workers, 1)

    def hired(self) -> Executor:
        """The executor, ready to start workers."""
        if isinstance(self.executor, str):
            return get_executor(self.executor, self.limits, **self.options)
        return self.executor


def write_scaled(
    out: str | Path,
    manifest: Manifest,
    source: Source,
    workforce: Workforce,
    *,
    attachments: Attachments | None = None,
    progress: OnProgress | None = None,
    watch: list[Watch] | None = None,
) -> WriteReport:
    """Makes the missing shards of a dataset with an executor's workers, and finishes it.

    Interrupted at any moment, in any process, and called again, with any executor and any number of workers, it
    ends in the same bytes.

    Args:
        out: output folder: new, empty, or of an earlier run with the same settings.
        manifest: what to write, without records (`manifest_for`).
        source: opens the images in each worker.
        workforce: who makes them.
        attachments: further files of the dataset; see `open_run`.
        progress: called with (images committed, images in all), from the calling thread.
        watch: receives what the coordinator saw.

    Raises:
        ShardsFailed: shards over which workers keep dying were set aside; all others are committed.
        DiskFull, OutputFolderError, ConfigError, ...: as `write_dataset`, from whichever process met it.
    """
    if not get_format(manifest.format).stores:
        raise ConfigError(
            f"The format {manifest.format!r} writes nothing; measure it in one process, without an executor."
        )
    executor = workforce.hired()
    workers = workforce.workers or executor.devices(workforce.device)
    at_least("workers", workers, 1)
    root = Path(out).absolute()
    job = Job(root, source, workforce.device, executor.limits, workforce.threads, workforce.grace_s)

    def make(run: DatasetRun) -> float:
        coordinator = Coordinator(run, job, executor, min(workers, manifest.plan.shards), progress)
        if watch is not None:
            watch.append(coordinator.watch)
        if run.missing():
            with stop_request(workforce.grace_s) as stop, executor, disk.named_errors(root, run.bytes_needed):
                run.check_room()
                coordinator.execute(stop)
        return 0.0

    def again(finished: Manifest) -> Fill:
        return from_batches(source.open(finished, root, workforce.device), encoder_of(finished))

    return complete(root, manifest, make, again, attachments)
