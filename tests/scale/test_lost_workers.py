"""Why a worker died is not lost: whoever notes its death first, and where its coordinator ended it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from v2f_engine.data import Plan
from v2f_engine.data.writing.write import manifest_for
from v2f_engine.errors import ShardsFailed
from v2f_engine.scale import Source, Workforce, write_scaled
from v2f_engine.scale.coordinator import Watch
from v2f_engine.scale.executors import Ended
from v2f_engine.scale.heartbeat import Beat
from v2f_engine.scale.identity import Worker
from v2f_engine.scale.job import Job, Limits
from v2f_engine.scale.queue import ShardQueue

PLAN = Plan(3, 1, 1)
KILLED = "killed by SIGKILL: the last line"


def queue(root: Path, name: str, process: int | None = None) -> ShardQueue:
    """Of a worker in this process, or of one whose process is not there."""
    here = Worker.here(name)
    worker = here if process is None else Worker(name, here.machine, process, 1)
    return ShardQueue(root, PLAN, worker, Limits(crashes=1))


@pytest.fixture
def dead(tmp_path: Path) -> ShardQueue:
    """The queue of a worker that died over shard 0."""
    gone = queue(tmp_path, "gone", 2**22 + 5)
    gone.make()
    assert gone.claim() == 0
    return gone


def test_the_coordinators_reason_counts_whoever_notes_the_death_first(
    dead: ShardQueue, tmp_path: Path
) -> None:
    """Another worker that looks earlier sees only that the process is gone; the exit status is the coordinator's."""
    coordinator, other = queue(tmp_path, "coordinator"), queue(tmp_path, "other")
    assert other.reap_lost() == [0]
    assert coordinator.reasons(0) == ["died"]  # nobody knows better yet
    assert coordinator.reap("gone", KILLED) == []
    assert coordinator.reasons(0) == [KILLED]
    assert coordinator.poisoned() == [0]


def test_the_reason_counts_even_if_the_note_comes_after_it(
    dead: ShardQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other worker has the lease in hand and has not yet written its note when the coordinator looks."""
    coordinator, other = queue(tmp_path, "coordinator"), queue(tmp_path, "other")
    note = ShardQueue._note_crash

    def late(self: ShardQueue, *what: Any) -> None:
        assert coordinator.reap("gone", KILLED) == []  # no lease there, no note yet
        note(self, *what)

    monkeypatch.setattr(ShardQueue, "_note_crash", late)
    assert other.reap_lost() == [0]
    assert coordinator.reasons(0) == [KILLED]


def test_what_a_worker_said_itself_is_not_overwritten(dead: ShardQueue, tmp_path: Path) -> None:
    coordinator = queue(tmp_path, "coordinator")
    dead.fail(0, "RuntimeError: no images today")
    coordinator.reap("gone", "exit status 1")
    assert coordinator.reasons(0) == ["RuntimeError: no images today"]


class Stuck:
    """A worker that holds a shard and beats, and makes `rate` images a look of its coordinator."""

    def __init__(self, job: Job, rate: int) -> None:
        worker = ShardQueue(job.root, Plan(1, 1, 1), Worker.here(job.name), job.limits)
        assert worker.claim() == 0
        self.beat, self.rate, self.killed = Beat(worker.beats / job.name, 0.02), rate, False
        self.beat.__enter__()
        self.until = time.monotonic() + 2.0

    def ended(self) -> Ended | None:
        self.beat.images += self.rate
        if not self.killed and time.monotonic() < self.until:
            return None
        self.beat.__exit__(None, None, None)
        return Ended(why="killed by SIGKILL" if self.killed else "exit status 1")

    def stopped(self) -> bool:
        return False

    def terminate(self) -> None:
        self.killed = True

    kill = terminate


class StuckExecutor:
    def __init__(self, rate: int) -> None:
        self.limits, self.rate = Limits(stall_s=0.5, poll_s=0.1, crashes=1), rate

    def __enter__(self) -> StuckExecutor:
        return self

    def __exit__(self, *details: object) -> None:
        pass

    def devices(self, asked: str) -> int:
        return 1

    def start(self, slot: int, job: Job) -> Stuck:
        return Stuck(job, self.rate)


@pytest.mark.parametrize(
    ("rate", "reason"),
    [(0, r"shard 0: no image for \d+ s, so ended: killed by SIGKILL\)"), (1, r"shard 0: exit status 1\)")],
    ids=["stuck", "slow"],
)
def test_why_a_coordinator_ended_a_worker_is_told(tmp_path: Path, rate: int, reason: str) -> None:
    """A worker that makes no images is ended and its shard's reason says so; a slow one is left alone."""
    watch: list[Watch] = []
    executor = StuckExecutor(rate)
    with pytest.raises(ShardsFailed, match=reason):
        write_scaled(
            tmp_path / "set", manifest_for("webdataset", Plan(1, 1, 1), {}, {}),
            Source("unused:unused"), Workforce(executor, 1), watch=watch,
        )  # fmt: skip
    assert [why.split(" for")[0] for why in watch[0].killed][:1] == ["no image"] * (rate == 0)
