"""The contract of all executors: the same bytes as one process, a killed worker included, and an end of their own."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from stub_people import make_batches, tree

from v2f_engine.data import Encoder, Plan, write_dataset
from v2f_engine.data.writing.write import manifest_for
from v2f_engine.errors import ConfigError, DatasetError, ShardsFailed
from v2f_engine.scale import Source, Workforce, write_scaled
from v2f_engine.scale.coordinator import Watch
from v2f_engine.scale.executors import EXECUTORS, get_executor
from v2f_engine.scale.job import Limits

PLAN = Plan.of(16, 3, 6)  # 8 shards
SETTINGS = {"seed": 3}
MANIFEST = manifest_for("webdataset", PLAN, Encoder().describe(), SETTINGS)
OPTIONS: dict[str, dict[str, Any]] = {"local": {}, "ray": {}, "slurm": {"cluster": "local"}}
EXTRA = {"local": "v2f_engine", "ray": "ray", "slurm": "submitit"}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("one") / "set"
    write_dataset(root, SETTINGS, PLAN, make_batches(3), encoder=Encoder(quality=80))
    return tree(root)


def scaled(root: Path, executor: str, workers: int = 2, limits: Limits | None = None, **how: Any) -> Watch:
    watch: list[Watch] = []
    write_scaled(
        root,
        manifest_for("webdataset", how.pop("plan", PLAN), Encoder(quality=80).describe(), SETTINGS),
        Source("stub_source:open_stub", how),
        Workforce(executor, workers, limits=limits or Limits(), options=OPTIONS[executor]),
        watch=watch,
    )
    return watch[0]


def begun(log: Path) -> list[tuple[int, int]]:
    """(first identity, process) of every shard that was begun."""
    if not log.exists():
        return []
    return [(int(a), int(b)) for a, b in (line.split() for line in log.read_text().splitlines())]


class KillFirst(threading.Thread):
    """Sends `what` to the first process that begins a shard."""

    def __init__(self, log: Path, what: int = signal.SIGKILL) -> None:
        super().__init__(daemon=True)
        self.log, self.what, self.process = log, what, 0

    def run(self) -> None:
        while not begun(self.log):
            time.sleep(0.01)
        self.process = begun(self.log)[0][1]
        os.kill(self.process, self.what)


@pytest.mark.scale
@pytest.mark.parametrize("executor", sorted(EXECUTORS))
def test_same_bytes_with_a_worker_killed(executor: str, tmp_path: Path, expected: dict[str, str]) -> None:
    pytest.importorskip(EXTRA[executor], reason="needs the extra `scale`")
    log = tmp_path / "log"
    killer = KillFirst(log)
    killer.start()
    watch = scaled(tmp_path / "set", executor, log=str(log), slow_s=0.05)
    killer.join(1)
    assert tree(tmp_path / "set") == expected
    lines = begun(log)
    assert watch.lost == 1
    assert killer.process in {process for _, process in lines}
    assert PLAN.shards < len(lines) <= PLAN.shards + 1  # at most one shard made twice
    print(f"{executor}: 1 killed, {len(lines)} shards begun for {PLAN.shards}, bytes equal")


def test_a_stopped_worker_is_replaced(tmp_path: Path, expected: dict[str, str]) -> None:
    log = tmp_path / "log"
    killer = KillFirst(log, signal.SIGSTOP)
    killer.start()
    limits = Limits(stopped_s=1.0)
    started = time.monotonic()
    watch = scaled(tmp_path / "set", "local", limits=limits, log=str(log), slow_s=0.05)
    assert tree(tmp_path / "set") == expected
    assert watch.killed
    assert watch.killed[0].startswith("stopped for")
    assert len(begun(log)) <= PLAN.shards + 1
    assert time.monotonic() - started < 60


def test_poison_is_set_aside_and_the_rest_is_made(tmp_path: Path, expected: dict[str, str]) -> None:
    log = tmp_path / "log"
    with pytest.raises(ShardsFailed, match="1 of 8 shards were set aside.*shard 2: killed by SIGKILL"):
        scaled(tmp_path / "set", "local", log=str(log), poison=[4])
    assert sum(first == 4 for first, _ in begun(log)) == 3
    done = [p.name for p in (tmp_path / "set").rglob("*.tar")]
    assert len(done) == 7
    scaled(tmp_path / "set", "local", log=str(log))  # the same command, the cause gone
    assert tree(tmp_path / "set") == expected
    assert len(begun(log)) == 7 + 3 + 1


def test_exceptions_count_like_deaths(tmp_path: Path) -> None:
    with pytest.raises(ShardsFailed, match="no images of 6 today"):
        scaled(tmp_path / "set", "local", raising=[6])
    assert len(list((tmp_path / "set").rglob("*.tar"))) == 7


def test_named_errors_end_the_run_at_once(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="Shard 3: expected 2 identities"):
        scaled(tmp_path / "set", "local", skip=[6])


def test_workers_that_cannot_start_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(ShardsFailed, match="(?s)keep dying before they make anything.*No module named"):
        write_scaled(tmp_path / "set", MANIFEST, Source("not_there:open"), Workforce(workers=1))


def test_options_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="local"):
        get_executor("lokal")
    with pytest.raises(ConfigError, match="workers"):
        write_scaled(tmp_path / "set", MANIFEST, Source("stub_source:open_stub"), Workforce(workers=0))
    nothing = manifest_for("null", PLAN, Encoder().describe(), SETTINGS)
    with pytest.raises(ConfigError, match="null"):
        write_scaled(tmp_path / "set", nothing, Source("stub_source:open_stub"), Workforce())
