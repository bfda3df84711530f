"""Runs in one folder: continue, refuse, stop on a full disk, never lose a committed shard."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from stub_people import make_batches, tree

from v2f_engine import disk
from v2f_engine.asked import RUNNING, Asked
from v2f_engine.batch import ImageBatch
from v2f_engine.data import Encoder, Plan, open_dataset, verify_dataset, write_dataset
from v2f_engine.data.layout import MANIFEST
from v2f_engine.data.writing.room import sheet_bytes
from v2f_engine.errors import ConfigError, DatasetError, DiskFull, OutputFolderError

PLAN = Plan.of(5, 3, 6)
FORMATS = ("imagefolder", "webdataset", "lmdb", "recordio", "parquet")


def write(
    root: Path, *, seed: int = 1, format: str = "webdataset", make: object = None, **options: object
) -> object:
    source = make or make_batches(3)
    return write_dataset(root, {"seed": seed}, PLAN, source, format=format, **options)  # type: ignore[arg-type]


class Stop(Exception):
    pass


def test_what_can_be_seen_to_be_begun_can_be_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between the two left a run that `v2f resume` could not go on with."""
    placed: list[str] = []
    monkeypatch.setattr(disk, "before", lambda step, path: placed.append(f"{step} {Path(path).name}"))
    token = RUNNING.set(Asked("generate", str(tmp_path)))
    try:
        write(tmp_path / "set")
    finally:
        RUNNING.reset(token)
    assert placed.index("rename command.json") < placed.index("rename run.json")


def stopping(after: int) -> object:
    """A source that fails when the identity `after` comes up."""

    def make(identities: range) -> Iterator[ImageBatch]:
        for batch in make_batches(3)(identities):
            if after in batch.identity:
                raise Stop
            yield batch

    return make


@pytest.fixture
def asked() -> list[range]:
    return []


def noting(asked: list[range]) -> object:
    def make(identities: range) -> Iterator[ImageBatch]:
        asked.append(identities)
        return make_batches(3)(identities)

    return make


def test_a_failing_source_leaves_the_committed_shards(tmp_path: Path, asked: list[range]) -> None:
    write(tmp_path / "a")
    with pytest.raises(Stop):
        write(tmp_path / "b", make=stopping(2))
    assert {name for name in tree(tmp_path / "b") if "tmp" in name} == set()
    with pytest.raises(DatasetError, match="not finished"):
        open_dataset(tmp_path / "b")
    report = write(tmp_path / "b", make=noting(asked))
    assert asked == [range(2, 4), range(4, 5)]
    assert (report.shards_written, report.shards_kept, report.images, report.images_written) == (2, 1, 15, 9)  # type: ignore[attr-defined]
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b"y" + b[1:], lambda b: None]
)
def test_resume_trusts_hashes_not_names(tmp_path: Path, asked: list[range], damage: object) -> None:
    write(tmp_path / "a")
    with pytest.raises(Stop):
        write(tmp_path / "b", make=stopping(4))
    path = tmp_path / "b/shard-000000.tar"
    changed = damage(path.read_bytes())  # type: ignore[operator]
    path.unlink()
    if changed is not None:
        path.write_bytes(changed)
    write(tmp_path / "b", make=noting(asked))
    assert asked == [range(2), range(4, 5)]
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_resume_checks_the_attributes_too(tmp_path: Path, asked: list[range]) -> None:
    with pytest.raises(Stop):
        write(tmp_path / "b", make=stopping(4))
    (tmp_path / "b/attributes/shard-000001.npy").unlink()
    write(tmp_path / "b", make=noting(asked))
    assert asked == [range(2, 4), range(4, 5)]


def test_orphans_are_removed(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        write(tmp_path / "a", make=stopping(4), format="imagefolder")
    for name in (
        ".v2f-tmp.main.x",
        "images/.v2f-tmp.main.shard-000009/000009/000.jpg",
        ".v2f/.v2f-tmp.main.run.json",
    ):
        (tmp_path / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / name).write_bytes(b"orphan")
    write(tmp_path / "a", format="imagefolder")
    write(tmp_path / "b", format="imagefolder")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


@pytest.mark.parametrize("finished", [True, False])
def test_other_settings_are_refused_by_name(tmp_path: Path, finished: bool) -> None:
    if finished:
        write(tmp_path / "a")
    else:
        with pytest.raises(Stop):
            write(tmp_path / "a", make=stopping(4))
    before = tree(tmp_path / "a")
    with pytest.raises(
        OutputFolderError, match="settings.seed is 1 there, 2 now.*choose another output folder"
    ):
        write(tmp_path / "a", seed=2)
    with pytest.raises(OutputFolderError, match="encoder.quality is 95 there, 90 now"):
        write(tmp_path / "a", encoder=Encoder(quality=90))
    with pytest.raises(OutputFolderError, match='format is "webdataset" there, "lmdb" now'):
        write(tmp_path / "a", format="lmdb")
    assert tree(tmp_path / "a") == before


def test_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputFolderError, match=r"not empty.*notes\.txt"):
        write(tmp_path)
    assert list(tree(tmp_path)) == ["notes.txt"]
    with pytest.raises(OutputFolderError, match="is a file"):
        write(tmp_path / "notes.txt")
    with pytest.raises(OutputFolderError, match="Cannot write"):
        write(tmp_path / "notes.txt/below")


def test_a_finished_dataset_is_verified_and_left(tmp_path: Path, asked: list[range]) -> None:
    write(tmp_path / "a")
    before = tree(tmp_path / "a")
    report = write(tmp_path / "a", make=noting(asked))
    assert (report.images, report.images_written, report.shards_kept) == (15, 0, 3)  # type: ignore[attr-defined]
    assert asked == []
    assert tree(tmp_path / "a") == before


def test_a_finished_dataset_with_a_broken_shard_is_mended(tmp_path: Path, asked: list[range]) -> None:
    write(tmp_path / "a")
    before = tree(tmp_path / "a")
    (tmp_path / "a/shard-000001.tar").write_bytes(b"")
    report = write(tmp_path / "a", make=noting(asked))
    assert asked == [range(2, 4)]
    assert (report.shards_kept, report.shards_repaired) == (2, 1)  # type: ignore[attr-defined]
    assert tree(tmp_path / "a") == before


def test_threads_and_batches_do_not_change_the_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a", threads=1)
    for size in (1, 7, 64):
        write(tmp_path / f"b{size}", make=make_batches(3, size), threads=3)
        assert tree(tmp_path / f"b{size}") == tree(tmp_path / "a")


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    inside, leave = threading.Event(), threading.Event()

    def make(identities: range) -> Iterator[ImageBatch]:
        inside.set()
        assert leave.wait(30)
        return make_batches(3)(identities)

    writer = threading.Thread(target=write, args=(tmp_path / "a",), kwargs={"make": make})
    writer.start()
    assert inside.wait(30)
    with pytest.raises(OutputFolderError, match=f"being written by process {os.getpid()} on"):
        write(tmp_path / "a")
    leave.set()
    writer.join()
    assert verify_dataset(tmp_path / "a").ok
    assert not (tmp_path / "a/.v2f").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[::-1], "expected image .identity 0, image 0. next, found .identity 4, image 2"),
        (lambda rows: rows[:4] + rows[5:], "expected image .identity 1, image 1"),
        (lambda rows: rows[:4] + rows[3:], "expected image .identity 1, image 1"),
        (lambda rows: rows[:-1], "batches ended before .identity 4, image 2"),
        (lambda rows: [*rows, (5, 0)], "found .identity 5, image 0"),
        (lambda rows: [], "batches ended before .identity 0, image 0"),
    ],
)
def test_wrong_batches_are_refused(tmp_path: Path, change: object, message: str) -> None:
    rows = change([(identity, image) for identity in range(5) for image in range(3)])  # type: ignore[operator]

    def make(identities: range) -> Iterator[ImageBatch]:
        for row in rows:
            yield ImageBatch(np.zeros((1, 112, 112, 3), np.uint8), *np.array([row]).T)

    with pytest.raises(DatasetError, match=message):
        write_dataset(tmp_path / "a", {}, Plan.of(5, 3), make)
    assert not (tmp_path / "a/shard-000000.tar").exists()


def test_attributes_must_stay_the_same(tmp_path: Path) -> None:
    def make(identities: range) -> Iterator[ImageBatch]:
        for batch in make_batches(3)(identities):
            names = {"yaw": batch.attributes["yaw"]} if 4 in batch.identity else batch.attributes
            yield ImageBatch(batch.images, batch.identity, batch.image, names)

    with pytest.raises(ConfigError, match=r"expected \['sigma', 'yaw'\], found \['yaw'\]"):
        write_dataset(tmp_path / "a", {}, Plan.of(5, 3), make)


def test_a_column_that_an_older_version_did_not_record_is_nan_in_its_shards(tmp_path: Path) -> None:
    """Begun without `failed`, resumed with it: the dataset is whole and read as one table."""

    def newer(identities: range) -> Iterator[ImageBatch]:
        for batch in make_batches(3)(identities):
            failed = np.zeros(len(batch), np.float32)
            yield ImageBatch(
                batch.images, batch.identity, batch.image, {**batch.attributes, "failed": failed}
            )

    with pytest.raises(Stop):
        write(tmp_path / "a", make=stopping(2))
    write(tmp_path / "a", make=newer)
    assert verify_dataset(tmp_path / "a").ok
    table = open_dataset(tmp_path / "a").attributes()
    assert table is not None
    assert table.dtype.names == ("identity", "image", "failed", "sigma", "yaw")
    assert np.isnan(table["failed"]).tolist() == [True] * 6 + [False] * 9
    assert table["identity"].tolist() == sorted([*range(5)] * 3)
    expected = np.concatenate([batch.attributes["yaw"] for batch in make_batches(3)(range(5))])
    np.testing.assert_array_equal(table["yaw"], expected)


def failing(number: int, at: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Makes the file-system operation `at` fail with errno `number`."""
    done = [0]

    def before(operation: str, path: str) -> None:
        done[0] += 1
        if done[0] == at + 1:
            raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(disk, "before", before)
    return done


@pytest.mark.parametrize("format", FORMATS)
def test_full_disk_at_any_operation(tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every operation fails once, in turn; the run goes on from there and ends as if nothing had been."""
    write(tmp_path / "good", format=format)
    failures = 0
    operation = 3  # within the first shard
    while True:
        failing((errno.ENOSPC, errno.EDQUOT, errno.EIO)[failures % 3], operation, monkeypatch)
        committed = committed_shards(tmp_path / "bad")
        try:
            write(tmp_path / "bad", format=format)
        except DiskFull as error:
            assert "bytes) free" in str(error)
            assert "run the same command again" in str(error)
            assert error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)
            failures += 1
            leftovers = [name for name in tree(tmp_path / "bad") if "v2f-tmp" in name]
            assert not leftovers
            assert committed <= committed_shards(tmp_path / "bad"), "a committed shard was lost"
        else:
            break
        operation += 5
    assert failures >= 4
    monkeypatch.undo()
    write(tmp_path / "bad", format=format)
    assert tree(tmp_path / "bad") == tree(tmp_path / "good")


def committed_shards(root: Path) -> set[int]:
    ledger = root / ".v2f/ledger/main.jsonl"
    if (root / MANIFEST).exists():
        return {0, 1, 2}
    lines = ledger.read_bytes().splitlines() if ledger.exists() else []
    return {json.loads(line[9:])["number"] for line in lines if line.endswith(b"}")}


def test_full_disk_says_how_much_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Stop):
        write(tmp_path / "a", make=stopping(4))
    files = ("a/shard-000000.tar", "a/attributes/shard-000000.npy")
    size = sum((tmp_path / name).stat().st_size for name in files)
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 5000)
    asked: list[range] = []
    with pytest.raises(DiskFull, match=r"more needed, 5\.0 kB \(5000 bytes\) free") as caught:
        write(tmp_path / "a", make=noting(asked))
    needed = int(str(caught.value).split("(")[1].split(" bytes")[0])
    assert needed == pytest.approx(size / 2 + sheet_bytes(PLAN), rel=0.02)
    assert asked == [], "noticed before anything was generated"


def test_short_writes_continue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a", format="lmdb")
    whole_write, whole_pwrite = os.write, os.pwrite
    monkeypatch.setattr(os, "write", lambda fd, data: whole_write(fd, data[: max(1, len(data) // 2)]))
    monkeypatch.setattr(
        os, "pwrite", lambda fd, data, at: whole_pwrite(fd, data[: max(1, len(data) // 2)], at)
    )
    write(tmp_path / "b", format="lmdb")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_unwritable_folder(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(number, 0, monkeypatch)
    with pytest.raises(OutputFolderError, match="Cannot write .*may write; choose another"):
        write(tmp_path / "a")


def test_other_errors_stay_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(errno.EMFILE, 6, monkeypatch)
    with pytest.raises(OSError, match="Too many open files") as caught:
        write(tmp_path / "a")
    assert not isinstance(caught.value, DiskFull)


def test_progress_counts_images_of_earlier_runs(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    with pytest.raises(Stop):
        write(tmp_path / "a", make=stopping(4))
    write(tmp_path / "a", progress=lambda done, total: calls.append((done, total)))
    assert calls[0] == (12, 15)
    assert calls[-1] == (15, 15)
    assert calls == sorted(calls)


SIGNALLED = """
import os, signal, sys, time
from pathlib import Path
from stub_people import make_batches
from v2f_engine.data import Plan, write_dataset

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins with SIGINT ignored

def make(identities):
    for batch in make_batches(3, 2)(identities):
        if (batch.identity[0], batch.image[0]) == (2, 0):
            os.kill(os.getpid(), signal.{signal})
            time.sleep(0.05)
        yield batch

try:
    write_dataset(sys.argv[1], {{"seed": 1}}, Plan.of(5, 3, 6), make, grace_s={grace})
except KeyboardInterrupt:
    sys.exit(7)
"""


@pytest.mark.parametrize(
    ("name", "grace", "status", "committed"),
    [
        ("SIGINT", 20, 7, {0, 1}),
        ("SIGINT", 0, 7, {0}),
        ("SIGTERM", 20, -15, {0, 1}),
        ("SIGTERM", 0, -15, {0}),
    ],
)
def test_signals_finish_or_abandon_the_shard_in_hand(
    tmp_path: Path, name: str, grace: int, status: int, committed: set[int]
) -> None:
    root = Path(__file__).parents[2]
    paths = f"{root}:{root / 'kernels'}:{Path(__file__).parent}"
    script = SIGNALLED.format(signal=name, grace=grace)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a")],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert committed_shards(tmp_path / "a") == committed
    assert not [path for path in tree(tmp_path / "a") if "v2f-tmp" in path]
    write(tmp_path / "a")
    write(tmp_path / "b")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_a_handler_that_lets_us_go_on_gets_an_incomplete_report(tmp_path: Path) -> None:
    seen: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))

    def make(identities: range) -> Iterator[ImageBatch]:
        os.kill(os.getpid(), signal.SIGTERM)
        return make_batches(3)(identities)

    try:
        report = write(tmp_path / "a", make=make)
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert seen == [signal.SIGTERM]
    assert (report.complete, report.shards_written, report.images) == (False, 1, 6)  # type: ignore[attr-defined]
    assert write(tmp_path / "a").complete  # type: ignore[attr-defined]
