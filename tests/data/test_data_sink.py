"""A sink takes a batch whole as it takes its images one by one: same files, same counts, same refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from v2f_engine.data.formats import get_format
from v2f_engine.data.formats.protocol import Sample
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.records.plan import Plan
from v2f_engine.data.records.shard_record import ShardRecord
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.data.writing.open_run import open_run
from v2f_engine.data.writing.run import DatasetRun
from v2f_engine.data.writing.sink import ShardSink
from v2f_engine.data.writing.write import manifest_for
from v2f_engine.errors import DatasetError

Fill = Callable[[ShardSink, list[tuple[int, int]]], None]


def one_by_one(sink: ShardSink, places: list[tuple[int, int]]) -> None:
    for identity, image in places:
        sink.write(Sample(identity, image, b"%d %d" % (identity, image)))


def in_batches(size: int, dtype: type[np.integer] = np.int64) -> Fill:
    def fill(sink: ShardSink, places: list[tuple[int, int]]) -> None:
        for start in range(0, len(places), size):
            part = places[start : start + size]
            identity, image = (np.array(column, dtype) for column in zip(*part, strict=True))
            sink.write_all(identity, image, [b"%d %d" % place for place in part])

    return fill


def shard(folder: Path, plan: Plan, fill: Fill, places: list[tuple[int, int]]) -> tuple[ShardRecord, bytes]:
    manifest = Manifest("webdataset", get_format("webdataset").describe(), plan, Encoder().describe(), {})
    with open_run(folder, manifest) as run:
        assert isinstance(run, DatasetRun)
        sink = run.sink(1)
        try:
            fill(sink, places)
            record = run.commit(sink)
        except DatasetError:
            sink.abort()
            raise
    return record, (folder / "shard-000001.tar").read_bytes()


@pytest.mark.parametrize("size", [1, 2, 5, 7, 12])
@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint16])
def test_a_batch_is_what_its_images_are(tmp_path: Path, size: int, dtype: type[np.integer]) -> None:
    plan = Plan(6, 4, 3)
    places = [(identity, image) for identity in (3, 4, 5) for image in range(4)]
    alone = shard(tmp_path / "alone", plan, one_by_one, places)
    assert shard(tmp_path / "batches", plan, in_batches(size, dtype), places) == alone
    assert alone[0].count == 12


def test_identities_may_end_early_where_the_plan_says_so(tmp_path: Path) -> None:
    plan = Plan(6, 4, 3, uniform=False)
    places = [(3, 0), (3, 1), (4, 0), (5, 0), (5, 1), (5, 2)]
    alone = shard(tmp_path / "alone", plan, one_by_one, places)
    assert shard(tmp_path / "batches", plan, in_batches(4), places) == alone


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ([(3, 0), (3, 2)], r"identity 3, image 1\) next, found \(identity 3, image 2"),
        ([(3, 0), (4, -3)], r"found \(identity 4, image -3"),
        ([(3, 0), (2, 5)], r"found \(identity 2, image 5"),
        ([(0, 0)], r"found \(identity 0, image 0"),
        ([(i, k) for i in (3, 4, 5, 6) for k in range(4)], r"found \(identity 6, image 0"),
        ([(3, k) for k in range(4)], "ended before"),
    ],
)
def test_wrong_order_is_refused_by_both(tmp_path: Path, places: list[tuple[int, int]], words: str) -> None:
    for name, fill in (("alone", one_by_one), ("batch", in_batches(100))):
        with pytest.raises(DatasetError, match=words):
            shard(tmp_path / name, Plan(6, 4, 3), fill, places)


def test_room_is_asked_for_while_a_thread_commits(tmp_path: Path) -> None:
    """Whoever draws asks how much the next shard takes while the writer records one: both are right."""
    run = DatasetRun(tmp_path, manifest_for("imagefolder", Plan.of(8, 1, 1), Encoder().describe(), {}), {})

    class Meanwhile:
        """A record during whose reading another is committed."""

        count, pieces = 1, (SimpleNamespace(bytes=100),)

        def __getattribute__(self, name: str) -> object:
            run._records.setdefault(len(run.records), SimpleNamespace(count=1, pieces=()))
            return super().__getattribute__(name)

    for ask in (run.bytes_for_next, run.bytes_needed):
        run._records.clear()
        run._records[0] = Meanwhile()
        assert ask() >= 50
        assert len(run.records) > 1
