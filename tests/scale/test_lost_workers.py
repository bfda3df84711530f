"""What is known of a worker that is gone: why it died, that it was stuck, that its shard is another's now."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stub_people import make_batches

from v2f_engine.batch import ImageBatch
from v2f_engine.data import Encoder, Plan, fs
from v2f_engine.data.formats.staging import WORK
from v2f_engine.data.manifest import Manifest, software_versions
from v2f_engine.data.repair import MakeBatches
from v2f_engine.data.shards import LEDGER, RUN
from v2f_engine.errors import DatasetError
from v2f_engine.scale import Source, write_scaled
from v2f_engine.scale.coordinator import Watch
from v2f_engine.scale.executors import Ended
from v2f_engine.scale.heartbeat import Beat
from v2f_engine.scale.identity import Worker
from v2f_engine.scale.job import Job
from v2f_engine.scale.limits import Limits
from v2f_engine.scale.queue import ShardQueue
from v2f_engine.scale.worker import work

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


def test_a_lease_that_changed_hands_is_given_back(
    dead: ShardQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two see the same death; the slower one pulls away the lease that the faster one has taken anew."""
    slow, fast = queue(tmp_path, "slow"), queue(tmp_path, "fast")
    for one in (slow, fast):
        one.limits = Limits()  # one death does not set a shard aside
    before, rivals = fs.before, [fast]

    def meanwhile(what: str, path: str) -> None:
        before(what, path)
        if what == "take-back" and rivals:
            assert rivals.pop().claim() == 0

    monkeypatch.setattr(fs, "before", meanwhile)
    assert slow.claim() == 1  # not 0: that is the faster one's
    assert fast.holds(0)
    assert [path.name for path in slow.crashes.iterdir()] == ["000000.gone"]


class Stuck:
    """A worker that beats, and makes `rate` images a beat."""

    def __init__(self, path: Path, rate: int) -> None:
        self.beat, self.rate, self.killed = Beat(path, 0.02), rate, False
        self.beat.__enter__()
        self.until = time.monotonic() + 3.0

    def ended(self) -> Ended | None:
        self.beat.images += self.rate
        late = time.monotonic() > self.until
        if not (self.killed or late):
            return None
        self.beat.__exit__(None, None, None)
        return Ended(error=DatasetError("killed" if self.killed else "left alone"))

    def stopped(self) -> bool:
        return False

    def terminate(self) -> None:
        self.killed = True

    kill = terminate


class StuckExecutor:
    def __init__(self, rate: int) -> None:
        self.limits, self.rate = Limits(stall_s=0.5, poll_s=0.1), rate

    def __enter__(self) -> StuckExecutor:
        return self

    def __exit__(self, *details: object) -> None:
        pass

    def devices(self, asked: str) -> int:
        return 1

    def start(self, slot: int, job: Job) -> Stuck:
        return Stuck(job.root / WORK / "queue" / "beats" / job.name, self.rate)


@pytest.mark.parametrize(("rate", "end"), [(0, "killed"), (1, "left alone")])
def test_a_worker_that_beats_without_making_images_is_ended(tmp_path: Path, rate: int, end: str) -> None:
    watch: list[Watch] = []
    executor = StuckExecutor(rate)
    with pytest.raises(DatasetError, match=end):
        write_scaled(
            tmp_path / "set", {}, PLAN, Source("unused:unused"), executor=executor, workers=1,
            limits=executor.limits, watch=watch,
        )  # fmt: skip
    assert [why.split(" for")[0] for why in watch[0].killed][:1] == ["no image"] * (rate == 0)


def open_robbed(manifest: Manifest, root: Path, device: str) -> MakeBatches:
    """Images, during whose making another worker takes shard 1 over."""
    plain = make_batches(manifest.plan.images_per_id)

    def make(identities: range) -> Iterator[ImageBatch]:
        yield from plain(identities)
        if identities.start == 1 and (root / "rob").exists():
            (root / "rob").unlink()
            lease = ShardQueue(root, manifest.plan, Worker.here(), Limits()).leases / "000001"
            lease.unlink()
            lease.write_bytes(Worker("thief", "another machine", 1, 1).to_bytes())

    return make


def test_a_shard_whose_lease_is_lost_is_not_committed(tmp_path: Path) -> None:
    """Its new holder makes it; who lost it publishes and records nothing of it, and goes on with the next."""
    (tmp_path / WORK / LEDGER).mkdir(parents=True)
    encoder = Encoder(quality=80).describe()
    manifest = Manifest("webdataset", {}, PLAN, encoder, {}, software_versions())
    manifest.save(tmp_path / WORK / RUN)
    mine = queue(tmp_path, "mine")
    mine.make()
    (tmp_path / "rob").touch()
    source = Source(f"{__name__}:open_robbed")
    limits = Limits(lease_s=0.3, poll_s=0.05)
    alive = iter([True] * 3)
    report = work(Job(tmp_path, source, "cpu", limits), Worker.here("mine"), alive=lambda: next(alive, False))
    assert report.shards == (0, 2)
    assert len(list(tmp_path.rglob("*.tar"))) == 2
    assert (mine.leases / "000001").exists()  # the thief's
