"""Moments that storms of kills rarely meet, each brought about on purpose: a lease that changes hands, a stall."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stub_people import make_batches, tree

from v2f_engine import disk
from v2f_engine.batch import ImageBatch
from v2f_engine.data import Encoder, Plan, write_dataset
from v2f_engine.data.formats import get_format
from v2f_engine.data.layout import QUEUE, RUN, WORK
from v2f_engine.data.records.manifest import Manifest, software_versions
from v2f_engine.data.writing.open_run import open_run
from v2f_engine.data.writing.repair import MakeBatches
from v2f_engine.data.writing.write import manifest_for
from v2f_engine.scale import Source, Workforce, write_scaled
from v2f_engine.scale.coordinator import Watch
from v2f_engine.scale.executors import Ended
from v2f_engine.scale.heartbeat import Beat
from v2f_engine.scale.identity import Worker
from v2f_engine.scale.job import Job, Limits
from v2f_engine.scale.queue import ShardQueue
from v2f_engine.scale.report import WorkReport
from v2f_engine.scale.worker import work

PLAN = Plan.of(6, 2, 4)  # 3 shards
ENCODER = Encoder(quality=80)


def test_a_lease_that_changed_hands_is_not_taken_from_its_new_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our look at a dead worker's lease and our taking it back, somebody else took it and leased it anew."""
    dead = ShardQueue(tmp_path, PLAN, Worker("dead", "elsewhere", 1, 1), Limits())
    new = ShardQueue(tmp_path, PLAN, Worker("new", "elsewhere", 2, 1), Limits())
    mine = ShardQueue(tmp_path, PLAN, Worker.here("mine"), Limits())
    mine.make()
    assert dead.claim() == 0
    before = disk.before

    def overtaken(operation: str, path: str) -> None:
        if operation == "take-back":
            monkeypatch.setattr(disk, "before", before)
            assert new.reap("dead", "seen by the other one") == [0]
            assert new.claim() == 0
        before(operation, path)

    monkeypatch.setattr(disk, "before", overtaken)
    assert mine.reap("dead", "seen by us, too late") == []
    assert new.holds(0)
    assert mine.crash_count() == 1  # the death is counted once, not once for each who saw it
    assert mine.reasons(0) == ["seen by the other one"]
    assert mine.claim() == 1


def lent(root: Path, number: int) -> Path:
    return root / WORK / QUEUE / "leases" / f"{number:06d}"


def open_robbed(manifest: Manifest, root: Path, device: str, **how: Any) -> MakeBatches:
    """Images of stub people; the first time that shard 0 is made, its lease goes to another worker meanwhile."""
    plain, log = make_batches(manifest.plan.images_per_id), Path(how["log"])

    def make(identities: range) -> Iterator[ImageBatch]:
        first = not log.exists()
        with log.open("a") as file:
            published = sorted(path.name for path in root.glob("*.tar"))
            file.write(f"{identities.start} {published}\n")
        yield from plain(identities)
        if first:
            lent(root, 0).write_bytes(Worker("thief", "elsewhere", 7, 1).to_bytes())

    return make


def test_a_worker_that_lost_its_lease_publishes_nothing(tmp_path: Path) -> None:
    """It gives the shard up, and makes it again only once the other one has fallen silent."""
    root, log = tmp_path / "set", tmp_path / "log"
    limits = Limits(lease_s=0.5, beat_s=0.1, poll_s=0.05)
    told = Manifest.load(_begun(root))
    source = Source("test_scale_races:open_robbed", {"log": str(log)})
    queue = ShardQueue(root, told.plan, Worker.here("coordinator"), limits)
    queue.make()
    report = work(Job(root, source, "cpu", limits, name="robbed"))
    lines = log.read_text().splitlines()
    starts = [int(line.split()[0]) for line in lines]
    assert sorted(starts) == [0, 0, 2, 4]
    assert sorted(report.shards) == [0, 1, 2]
    assert starts[0] == 0
    again = lines[starts.index(0, 1)]
    assert all(name not in again for name in _files_of(root, 0))
    assert queue.reasons(0) == ["silent"]


def _begun(root: Path) -> Path:
    """A run that has begun and made nothing; the path of its manifest."""
    kind = get_format("webdataset")
    told = Manifest("webdataset", kind.describe(), PLAN, ENCODER.describe(), {"seed": 3}, software_versions())
    with open_run(root, told):
        pass
    return root / WORK / RUN


def _files_of(root: Path, number: int) -> list[str]:
    return sorted(path.name for path in root.glob("*.tar"))[number : number + 1]


class Stuck:
    """A worker that beats and makes nothing."""

    def __init__(self, job: Job) -> None:
        self.killed = threading.Event()
        beats = job.root / WORK / QUEUE / "beats"
        self._beat = Beat(beats / job.name, 0.02)
        self._beat.__enter__()
        self._until = time.monotonic() + 20.0  # a coordinator that never notices shall not hang the test

    def ended(self) -> Ended | None:
        if not self.killed.is_set() and time.monotonic() < self._until:
            return None
        self._beat.__exit__(None, None, None)
        return Ended(why="killed" if self.killed.is_set() else "left alone")

    def stopped(self) -> bool:
        return False

    def terminate(self) -> None: ...

    def kill(self) -> None:
        self.killed.set()


class Done:
    """A worker that has made everything before anybody looks."""

    def __init__(self, job: Job) -> None:
        self._report: WorkReport = work(job)

    def ended(self) -> Ended:
        return Ended(report=self._report)

    def stopped(self) -> bool:
        return False

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


class FirstIsStuck:
    """An executor whose first worker gets stuck."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.started = limits, 0

    def __enter__(self) -> FirstIsStuck:
        return self

    def __exit__(self, *details: object) -> None: ...

    def devices(self, asked: str) -> int:
        return 1

    def start(self, slot: int, job: Job) -> Stuck | Done:
        self.started += 1
        return Stuck(job) if self.started == 1 else Done(job)


def test_a_worker_that_beats_without_making_images_is_ended(tmp_path: Path) -> None:
    limits = Limits(lease_s=60.0, beat_s=0.02, stopped_s=60.0, stall_s=0.4, poll_s=0.05)
    watch: list[Watch] = []
    write_scaled(
        tmp_path / "set", manifest_for("webdataset", PLAN, ENCODER.describe(), {"seed": 3}),
        Source("stub_source:open_stub", {}), Workforce(FirstIsStuck(limits), 1), watch=watch,
    )  # fmt: skip
    assert [what.split(" for ")[0] for what in watch[0].killed] == ["no image"]
    assert (watch[0].started, watch[0].lost) == (2, 1)
    write_dataset(tmp_path / "one", {"seed": 3}, PLAN, make_batches(2), encoder=ENCODER)
    assert tree(tmp_path / "set") == tree(tmp_path / "one")


def test_a_queue_is_removed_while_the_workers_of_the_dead_still_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One takes its note away just before we do, another puts one in just before the folder goes."""
    folder = tmp_path / "queue"
    folder.mkdir()
    for number in range(3):
        (folder / str(number)).write_text("")
    unlink, rmdir = os.unlink, os.rmdir
    met: list[str] = []

    def vanished(path: Any, **options: Any) -> None:
        if not met:
            met.append("vanished")
            unlink(path, **options)
        unlink(path, **options)

    def filled(path: Any, **options: Any) -> None:
        if "filled" not in met:
            met.append("filled")
            (folder / "late").write_text("")
        rmdir(path, **options)

    monkeypatch.setattr(os, "unlink", vanished)
    monkeypatch.setattr(os, "rmdir", filled)
    disk.remove(folder)
    assert met == ["vanished", "filled"]
    assert not folder.exists()


def test_what_may_not_be_removed_is_no_endless_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "queue").mkdir()

    def refused(path: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "rmdir", refused)
    with pytest.raises(PermissionError):
        disk.remove(tmp_path / "queue")
