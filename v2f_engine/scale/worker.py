"""The worker: claims a shard, makes it, commits it, until there is nothing left to claim.

It ends by itself: when every shard is committed or set aside, when the queue says stop, on SIGTERM after the
shard in hand, when the coordinator is gone, and on any error (named ones end the whole run, others only this
worker).

    python -m v2f_engine.scale.worker JOB   # JSON; what the local executor starts
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
import time
import traceback
from pathlib import Path

from v2f_engine import disk, orphans
from v2f_engine.data.layout import LEDGER, RUN, WORK
from v2f_engine.data.records import ledger
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.records.shard_record import ShardRecord
from v2f_engine.data.writing.repair import MakeBatches
from v2f_engine.data.writing.signals import StopRequest, stop_request
from v2f_engine.errors import V2FError
from v2f_engine.scale.heartbeat import Beat
from v2f_engine.scale.identity import Worker
from v2f_engine.scale.job import Job
from v2f_engine.scale.queue import ShardQueue
from v2f_engine.scale.report import Outcome, WorkReport, say_error, say_report
from v2f_engine.scale.shard import Abandoned, make_shard

NAMED_ERROR = 3
"""Exit status after a named error: repeating would only repeat it."""
_PR_SET_PDEATHSIG = 1
ORPHAN_GRACE_S = 2.0
"""Seconds in which a worker whose coordinator died may end by itself; a shard in hand then is made again."""


class _Recorder:
    """The worker's own ledger file, opened with the first committed shard."""

    def __init__(self, root: Path, worker: str) -> None:
        self._folder = root / WORK / LEDGER
        self._worker = worker
        self._ledger: ledger.Ledger | None = None

    def record(self, record: ShardRecord) -> None:
        if self._ledger is None:
            disk.make_folder(self._folder)
            self._ledger = ledger.Ledger(self._folder, self._worker, [])
        self._ledger.append(record)

    def close(self) -> None:
        if self._ledger is not None:
            self._ledger.close()


def work(job: Job, worker: Worker | None = None) -> WorkReport:
    """Works on the job's queue until nothing is left for this process.

    Args:
        job: the orders.
        worker: who we are; by default this process.

    Raises:
        V2FError: what would stop any other worker too: disk full, a broken checkpoint, other software.
        Exception: whatever the source raised; the shard has been given back with a note.
    """
    worker = worker or Worker.here(job.name)
    manifest = Manifest.load(job.root / WORK / RUN)
    queue = ShardQueue(job.root, manifest.plan, worker, job.limits)
    shards: list[int] = []
    images = 0
    recorder = _Recorder(job.root, worker.name)
    with stop_request(job.grace_s) as stop, Beat(queue.beats / worker.name, job.limits.beat_s) as beat:
        try:
            # Before the first claim: a device that cannot even start is not the fault of any shard.
            make_batches = job.source.open(manifest, job.root, job.device) if queue.left() > 0 else None
            while make_batches is not None and not (stop.requested or queue.stopping):
                number = queue.claim()
                if number is None:
                    if queue.left() <= 0:
                        break
                    time.sleep(job.limits.poll_s)  # another worker's shard; ours if that worker dies
                    continue
                try:
                    record = _make(job, manifest, number, make_batches, queue, stop, beat)
                except Abandoned:
                    queue.release(number)
                    continue
                except V2FError:
                    queue.release(number)
                    raise
                except BaseException as error:
                    queue.fail(number, "".join(traceback.format_exception_only(error)))
                    raise
                recorder.record(record)
                queue.release(number)
                shards.append(number)
                images += record.count
        finally:
            recorder.close()
    return WorkReport(worker.name, tuple(shards), images)


def _make(
    job: Job,
    manifest: Manifest,
    number: int,
    make_batches: MakeBatches,
    queue: ShardQueue,
    stop: StopRequest,
    beat: Beat,
) -> ShardRecord:
    def progress(images: int) -> None:
        beat.images += images
        if stop.overdue:
            raise Abandoned

    return make_shard(
        manifest,
        number,
        make_batches,
        job.root,
        writer=queue.worker.name,
        threads=job.threads,
        guard=lambda: queue.holds(number),
        progress=progress,
    )


def die_with_parent() -> None:
    """Has Linux send this process SIGTERM when its parent dies, so that a shard in hand may be finished soon."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def outcome_of(job: str) -> Outcome:
    """Works on a job given as JSON, in this process."""
    try:
        return work(Job.from_json(job))
    except V2FError as error:
        return type(error).__name__, str(error)


def main(text: str) -> int:
    """Runs a job given as JSON; prints its report, or the error's name and message, as the last line."""
    die_with_parent()
    orphans.end_with_parent(orphans.told(), ORPHAN_GRACE_S)
    try:
        report = work(Job.from_json(text))
    except V2FError as error:
        say_error(error)
        return NAMED_ERROR
    except KeyboardInterrupt:
        return 130
    except BaseException:
        with contextlib.suppress(OSError):
            sys.stderr.write(traceback.format_exc())
        return 1
    say_report(report)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
