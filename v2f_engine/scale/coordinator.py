"""The coordinator: starts workers, watches them, restarts the dead, and ends when every shard is decided.

It holds the dataset's lock, makes no image, and commits nothing but the finished dataset. Whatever happens to
workers, the loop ends: each death either is followed by a restart or counts towards a limit.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from v2f_engine.data.writing.run import DatasetRun
from v2f_engine.data.writing.signals import StopRequest
from v2f_engine.errors import ShardsFailed, V2FError
from v2f_engine.scale.executors import Ended, Executor, Handle
from v2f_engine.scale.identity import Worker
from v2f_engine.scale.job import Job
from v2f_engine.scale.queue import ShardQueue

BACK_OFF_S = (0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0)
"""Pause before restart k of a worker that committed nothing since the last one."""


@dataclass
class Watch:
    """What happened, for reports and tests."""

    started: int = 0
    lost: int = 0
    killed: list[str] = field(default_factory=list)
    images: int = 0


@dataclass
class _Slot:
    number: int
    name: str = ""
    handle: Handle | None = None
    deaths: int = 0
    not_before: float = 0.0
    stuck: str = ""


class Coordinator:
    """Runs the workers of one job.

    Args:
        run: the open run whose missing shards are to be made.
        job: every worker's orders.
        executor: starts them.
        workers: how many at a time.
        progress: called with (images committed in this and earlier runs, images in all).
    """

    def __init__(
        self,
        run: DatasetRun,
        job: Job,
        executor: Executor,
        workers: int,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._run = run
        self._job = job
        self._executor = executor
        self._limits = job.limits
        self._slots = [_Slot(number) for number in range(workers)]
        self._progress = progress
        self.watch = Watch()
        self.queue = ShardQueue(run.root, run.manifest.plan, Worker.here(), job.limits)
        self._error: V2FError | None = None
        self._last_death = ""
        self._idle_deaths = 0
        self._committed = 0
        self._crashes = 0

    def execute(self, stop: StopRequest) -> None:
        """Until every shard is committed or set aside, or somebody asked to stop.

        Raises:
            ShardsFailed: shards were set aside, or workers cannot start at all.
            V2FError: whatever named error a worker met.
        """
        queue = self.queue
        self._run.rewrite_ledger()  # so that workers see what the hashes confirm, and nothing else
        queue.make()
        try:
            while True:
                queue.tick()
                done = len(queue.done.refresh())
                if done > self._committed:
                    self._committed, self._idle_deaths = done, 0
                    for slot in self._slots:
                        slot.deaths = 0
                self._report()
                left = queue.left()
                hopeless = self._idle_deaths >= self._limits.false_starts
                ending = left <= 0 or stop.requested or self._error is not None or hopeless
                if ending:
                    if left > 0:
                        self._ask_to_stop(stop)
                    if all(slot.handle is None for slot in self._slots):
                        break
                for slot in self._slots:
                    self._look(slot, ending)
                time.sleep(self._limits.poll_s / 4)
            self._run.adopt(queue.done.refresh())
            self._report()
            poisoned = queue.poisoned()
            reasons = {number: queue.reasons(number) for number in poisoned}
        finally:
            for slot in self._slots:
                if slot.handle is not None:
                    slot.handle.kill()
            queue.remove()
            self._run.remove_temporaries()
        if self._error is not None:
            raise self._error
        if not stop.requested:
            self._raise_failed(reasons)

    def _look(self, slot: _Slot, ending: bool) -> None:
        if slot.handle is None:
            if not ending and time.monotonic() >= slot.not_before:
                slot.name, slot.stuck = f"w{slot.number}-{secrets.token_hex(6)}", ""
                slot.handle = self._executor.start(slot.number, replace(self._job, name=slot.name))
                self.watch.started += 1
            return
        self._end_if_stuck(slot)
        ended = slot.handle.ended()
        if ended is not None:
            self._bury(slot, ended, ending)

    def _bury(self, slot: _Slot, ended: Ended, ending: bool) -> None:
        """Takes note of a worker's end and frees the shard it leaves behind."""
        slot.handle = None
        how = ended.why or "ended with a shard in hand"
        self.queue.reap(slot.name, f"{slot.stuck}, so ended: {how}" if slot.stuck else how)
        if ended.error is not None:
            self._error = self._error or ended.error
            return
        slot.not_before = time.monotonic() + self._limits.poll_s
        if ended.report is not None or ending:
            return
        self._last_death = ended.why
        self.watch.lost += 1
        slot.deaths += 1
        slot.not_before = time.monotonic() + BACK_OFF_S[min(slot.deaths, len(BACK_OFF_S)) - 1]
        crashes = self.queue.crash_count()
        if crashes > self._crashes:
            self._crashes, self._idle_deaths = crashes, 0
        else:
            self._idle_deaths += 1

    def _end_if_stuck(self, slot: _Slot) -> None:
        """Ends a worker that is stopped, or that beats without making images."""
        assert slot.handle is not None
        stalled = self.queue.stalled_s(slot.name)
        silent = self.queue.silent_s(slot.name) if self.queue.beating(slot.name) else 0.0
        state = b"stopped" if slot.handle.stopped() else b"%d" % time.monotonic_ns()
        stopped = self.queue.unchanged_s(f"{slot.name} state", state)
        if stopped > self._limits.stopped_s:
            what = f"stopped for {stopped:.1f} s"
        elif silent > self._limits.lease_s:
            what = f"no heartbeat for {silent:.1f} s"
        elif stalled > self._limits.stall_s:
            what = f"no image for {stalled:.0f} s"
        else:
            return
        self.watch.killed.append(what)
        slot.stuck = slot.stuck or what
        slot.handle.kill()

    def _ask_to_stop(self, stop: StopRequest) -> None:
        if not self.queue.stopping:
            self.queue.request_stop()
            for slot in self._slots:
                if slot.handle is not None:
                    slot.handle.terminate()
        if stop.overdue:
            for slot in self._slots:
                if slot.handle is not None:
                    slot.handle.kill()

    def _report(self) -> None:
        done = sum(record.count for record in self.queue.done.records.values())
        self.watch.images = done
        if self._progress is not None:
            self._progress(done, self._run.manifest.plan.images)

    def _raise_failed(self, reasons: dict[int, list[str]]) -> None:
        root = self._run.root
        if reasons:
            listed = "; ".join(
                f"shard {n}: {(why or ['?'])[-1][:300]}" for n, why in list(reasons.items())[:5]
            )
            raise ShardsFailed(
                f"{root}: {len(reasons)} of {self._run.manifest.plan.shards} shards were set aside, because "
                f"{self._limits.crashes} workers each died over them ({listed}). All other shards are committed. "
                "The same command tries the others again."
            )
        missing = len(self._run.missing())
        if missing:
            raise ShardsFailed(
                f"{root}: workers keep dying before they make anything; {missing} shards are missing. The last "
                f"one said: {self._last_death[:1000]}"
            )
