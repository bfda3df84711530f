"""Faults on the shard queue with forked workers, so that a worker starts in milliseconds.

    python queue_harness.py combinations       every way of making a dataset gives the same shards
    python queue_harness.py operations         a worker dies at each of its file-system operations
    python queue_harness.py coordinator KILLS SEED
    python queue_harness.py terminate          SIGTERM finishes the shards in hand
    python queue_harness.py storm KILLS SEED   workers are killed and stopped at random moments

Run by test_scale_faults.py in a process of its own (it forks: no torch here). Prints one line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "data")]

from stub_people import make_batches, tree  # noqa: E402

from v2f_engine import disk  # noqa: E402
from v2f_engine.data import Encoder, Plan, write_dataset  # noqa: E402
from v2f_engine.data.formats import get_format  # noqa: E402
from v2f_engine.data.records.manifest import Manifest, software_versions  # noqa: E402
from v2f_engine.data.writing import contact_sheet  # noqa: E402
from v2f_engine.data.writing.write import manifest_for  # noqa: E402
from v2f_engine.scale import Source, Workforce, make_shard, write_scaled  # noqa: E402
from v2f_engine.scale.coordinator import BACK_OFF_S  # noqa: E402
from v2f_engine.scale.executors import Ended  # noqa: E402
from v2f_engine.scale.job import Job, Limits  # noqa: E402
from v2f_engine.scale.report import WorkReport  # noqa: E402
from v2f_engine.scale.worker import die_with_parent, work  # noqa: E402

ENCODER = Encoder(quality=80)
SETTINGS = {"seed": 3}
SOURCE = "stub_source:open_stub"


class Child:
    """A forked worker."""

    def __init__(self, run: Callable[[], Any]) -> None:
        self.process = os.fork()
        if self.process == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            try:
                run()
                os._exit(0)
            except BaseException as error:
                sys.stderr.write(f"{type(error).__name__}: {error}\n")
                os._exit(1)
        self._status: int | None = None

    def ended(self) -> Ended | None:
        if self._status is None:
            process, status = os.waitpid(self.process, os.WNOHANG)
            if not process:
                return None
            self._status = os.waitstatus_to_exitcode(status)
        if self._status == 0:
            return Ended(report=WorkReport("", (), 0))
        return Ended(why=f"status {self._status}")

    def stopped(self) -> bool:
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{self.process}/stat").read_bytes()
            return stat[stat.rindex(b")") + 2 :][:1] == b"T"
        return False

    def terminate(self) -> None:
        os.kill(self.process, signal.SIGTERM)

    def kill(self) -> None:
        if self._status is None:
            os.kill(self.process, signal.SIGKILL)
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])


class ForkExecutor:
    """Workers as forked children; `prepare` runs in each child first, with its number."""

    def __init__(self, limits: Limits, prepare: Callable[[int], None] = lambda number: None) -> None:
        self.limits = limits
        self.children: list[Child] = []
        self._prepare = prepare

    def __enter__(self) -> ForkExecutor:
        return self

    def __exit__(self, *details: object) -> None:
        for child in self.children:
            child.kill()

    def devices(self, asked: str) -> int:
        return 1

    def start(self, slot: int, job: Job) -> Child:
        number = len(self.children)

        def run() -> None:
            os.closerange(3, 256)  # as a started process: above all, not the coordinator's lock
            self._prepare(number)
            work(job)

        child = Child(run)
        self.children.append(child)
        return child


def scaled(
    root: Path,
    plan: Plan,
    executor: ForkExecutor,
    workers: int,
    format: str = "webdataset",
    **how: Any,
) -> Any:
    watch: list[Any] = []
    write_scaled(
        root,
        manifest_for(format, plan, ENCODER.describe(), SETTINGS),
        Source(SOURCE, how),
        Workforce(executor, workers),
        watch=watch,
    )
    return watch[0] if watch else None


def plain(
    root: Path, plan: Plan, format: str = "webdataset", size: int = 4, threads: int = 2
) -> dict[str, str]:
    source = make_batches(plan.images_per_id, size)
    write_dataset(root, SETTINGS, plan, source, format=format, encoder=ENCODER, threads=threads)
    return tree(root)


def shards_of(root: Path) -> list[tuple[str, Any]]:
    manifest = Manifest.load(root / "manifest.json")
    return [(record.content, record.pieces) for record in manifest.shards]


QUICK = Limits(poll_s=0.02, beat_s=0.2)


def combinations(base: Path) -> dict[str, Any]:
    """At least 50 ways: one process or the queue, workers, batch, threads, order, resume."""
    plan = Plan.of(8, 3, 6)
    plain(base / "one", plan)
    expected = shards_of(base / "one")
    kind = get_format("webdataset")
    manifest = Manifest(
        "webdataset", kind.describe(), plan, ENCODER.describe(), SETTINGS, software_versions()
    )
    made: Counter[str] = Counter()
    wrong: list[str] = []

    def judge(how: str, name: str, found: Any) -> None:
        made[how] += 1
        if found != expected:
            wrong.append(name)

    for size in (1, 2, 5, 6, 64):  # each shard alone, in a folder that holds nothing else
        for order in (1, -1):
            for threads in (1, 3):
                found: dict[int, Any] = {}
                for number in range(plan.shards)[::order]:
                    folder = base / f"alone{number}"
                    folder.mkdir()
                    record = make_shard(manifest, number, make_batches(3, size), folder, threads=threads)
                    found[number] = (record.content, record.pieces)
                    shutil.rmtree(folder)
                judge("shards alone", f"alone {size} {order} {threads}", [found[n] for n in sorted(found)])
    for size in (1, 5, 6, 64):  # one process, undisturbed and resumed
        for resume in (False, True):
            root = base / "set"
            if resume:
                half(root, plan)
            plain(root, plan, size=size)
            judge("one process", f"inline {size} {resume}", shards_of(root))
            shutil.rmtree(root)
    for workers in (1, 2, 4):
        for size in (1, 5, 64):
            for resume in (False, True):
                root = base / "set"
                if resume:
                    half(root, plan)
                scaled(root, plan, ForkExecutor(QUICK), workers, batch=size)
                judge(f"{workers} workers", f"queue {workers} {size} {resume}", shards_of(root))
                shutil.rmtree(root)
    for format in ("imagefolder", "lmdb", "recordio", "parquet"):
        one = plain(base / "one_format", plan, format)
        for workers in (1, 3):
            scaled(base / "set", plan, ForkExecutor(QUICK), workers, format)
            made[f"{format} trees"] += 1
            if tree(base / "set") != one:
                wrong.append(f"{format} {workers}")
            shutil.rmtree(base / "set")
        shutil.rmtree(base / "one_format")
    return {"combinations": sum(made.values()), "by": made, "wrong": wrong}


def half(root: Path, plan: Plan) -> None:
    """Leaves a run that stopped after half of its shards."""

    class Enough(Exception):
        pass

    def source(identities: range) -> Any:
        if identities.start >= plan.identities // 2:
            raise Enough
        return make_batches(plan.images_per_id, 4)(identities)

    with contextlib.suppress(Enough):
        write_dataset(root, SETTINGS, plan, source, encoder=ENCODER, threads=2)


def operations(base: Path) -> dict[str, Any]:
    """The first worker dies before its operation k, for every k; the run ends by itself, bytes equal."""
    plan = Plan.of(4, 2, 2)
    expected = plain(base / "one", plan)
    counter = base / "count"

    def counting(kill_at: int) -> Callable[[int], None]:
        def prepare(number: int) -> None:
            done = 0

            def before(operation: str, path: str) -> None:
                nonlocal done
                if number == 0 and done == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                done += 1
                if kill_at < 0:
                    counter.write_text(str(done))

            disk.before = before

        return prepare

    scaled(base / "set", plan, ForkExecutor(QUICK, counting(-1)), 1)
    total = int(counter.read_text())
    shutil.rmtree(base / "set")
    outcome = {"operations": total, "kills": 0, "unequal": 0, "most_remade": 0}
    for kill_at in range(total):
        log = base / "log"
        watch = scaled(base / "set", plan, ForkExecutor(QUICK, counting(kill_at)), 1, log=str(log))
        outcome["kills"] += watch.lost
        outcome["unequal"] += tree(base / "set") != expected
        remade = len(log.read_text().splitlines()) - plan.shards
        outcome["most_remade"] = max(outcome["most_remade"], remade)
        log.unlink()
        shutil.rmtree(base / "set")
    return outcome


def coordinator(base: Path, kills: int, seed: int) -> dict[str, Any]:
    """The coordinator is killed at random moments; one process, or another coordinator, goes on at once."""
    dice = random.Random(seed)
    plan = Plan.of(8, 2, 2)
    expected = plain(base / "one", plan)
    outcome = {"kills": 0, "unequal": 0}
    root = base / "set"

    def dying(number: int) -> None:
        die_with_parent()

    for number in range(kills):
        child = Child(lambda: scaled(root, plan, ForkExecutor(QUICK, dying), 2, slow_s=0.02))
        time.sleep(dice.uniform(0.0, 0.5))
        outcome["kills"] += child.ended() is None
        child.kill()
        if number % 2:
            scaled(root, plan, ForkExecutor(QUICK), 2)
        else:
            plain(root, plan)
        time.sleep(0.2)  # a worker of the dead may finish its shard now
        outcome["unequal"] += tree(root) != expected
        shutil.rmtree(root)
    return outcome


def terminate(base: Path) -> dict[str, Any]:
    """SIGTERM to the coordinator: the shards in hand are committed, no other is begun, resuming gives the bytes."""
    plan = Plan.of(24, 2, 2)
    expected = plain(base / "one", plan)
    log = base / "log"
    log.touch()
    root = base / "set"
    child = Child(lambda: scaled(root, plan, ForkExecutor(QUICK), 2, log=str(log), slow_s=0.3, batch=1))
    while len(log.read_text().splitlines()) < 3:
        time.sleep(0.01)
    child.terminate()
    deadline = time.monotonic() + 60
    while child.ended() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    begun = len(log.read_text().splitlines())
    committed = len(list(root.glob("*.tar")))
    status = child._status
    child.kill()
    scaled(root, plan, ForkExecutor(QUICK), 2)
    return {"status": status, "begun": begun, "committed": committed, "equal": tree(root) == expected}


class Storm(threading.Thread):
    """Kills or stops random workers until `stop` is set, at most `left` of them."""

    def __init__(self, executor: ForkExecutor, dice: random.Random, left: int) -> None:
        super().__init__(daemon=True)
        self.executor, self.dice, self.left = executor, dice, left
        self.killed = self.paused = 0
        self.stop = threading.Event()

    def run(self) -> None:
        hit: set[int] = set()
        while self.left > 0 and not self.stop.wait(self.dice.uniform(0.01, 0.12)):
            alive = [c for c in self.executor.children if c._status is None and c.process not in hit]
            if not alive:
                continue
            child = self.dice.choice(alive)
            pause = self.dice.random() < 0.1
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.process, signal.SIGSTOP if pause else signal.SIGKILL)
                hit.add(child.process)
                self.paused += pause
                self.killed += not pause
                self.left -= 1


def storm(base: Path, kills: int, seed: int) -> dict[str, Any]:
    """Runs with two workers that are killed again and again, until there were `kills` deaths."""
    dice = random.Random(seed)
    plan = Plan.of(24, 2, 2)
    expected = plain(base / "one", plan)
    limits = replace(QUICK, crashes=10_000, false_starts=10_000, stopped_s=0.3)
    outcome = {"kills": 0, "stops": 0, "runs": 0, "unequal": 0, "most_remade_over_kills": 0, "seconds": 0.0}
    started = time.monotonic()
    while outcome["kills"] + outcome["stops"] < kills:
        log = base / "log"
        log.touch()
        executor = ForkExecutor(limits)
        thread = Storm(executor, dice, kills - int(outcome["kills"] + outcome["stops"]))
        thread.start()
        scaled(base / "set", plan, executor, 2, log=str(log), slow_s=0.02)
        thread.stop.set()
        thread.join()
        outcome["runs"] += 1
        outcome["kills"] += thread.killed
        outcome["stops"] += thread.paused
        outcome["unequal"] += tree(base / "set") != expected
        extra = len(log.read_text().splitlines()) - plan.shards - thread.killed - thread.paused
        outcome["most_remade_over_kills"] = max(outcome["most_remade_over_kills"], extra)
        log.unlink()
        shutil.rmtree(base / "set")
    outcome["seconds"] = round(time.monotonic() - started, 1)
    return outcome


def main(arguments: list[str]) -> None:
    contact_sheet.ROWS = contact_sheet.COLUMNS = 1  # most of a small run's time otherwise
    base = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    from v2f_engine.scale import coordinator as module

    module.BACK_OFF_S = tuple(min(pause, 0.05) for pause in BACK_OFF_S)
    try:
        modes = (combinations, operations, storm, terminate, coordinator)
        work_on = {mode.__name__: mode for mode in modes}[arguments[0]]
        print(json.dumps(work_on(base, *map(int, arguments[1:]))))
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main(sys.argv[1:])
