"""Our LMDB files against liblmdb and the documented layout; its files, whole and damaged, against our reader."""

from __future__ import annotations

import random
from pathlib import Path

import lmdb
import msgpack
import numpy as np
import pytest
from stub_people import make_batches, picture

from v2f_engine import atomic
from v2f_engine.data import Encoder, Plan, open_dataset, write_dataset
from v2f_engine.data.formats.lmdb.entries import decimal_order, write_values
from v2f_engine.data.formats.lmdb.reader import Lmdb
from v2f_engine.data.formats.lmdb.tree_reader import TreeReader
from v2f_engine.data.formats.lmdb.tree_writer import TreeWriter
from v2f_engine.errors import DatasetError


def bulk(path: Path, values: list[bytes]) -> None:
    file = atomic.DurableFile(path, "t", whole=False)
    write_values(file, [(0, values[: len(values) // 2]), (1, values[len(values) // 2 :])], 3)
    file.prepare()
    file.publish()


def library(path: Path, **options: object) -> lmdb.Environment:
    return lmdb.open(str(path), subdir=False, lock=False, readonly=True, **options)


def test_layout_that_the_trainer_reads(tmp_path: Path) -> None:
    encoder = Encoder(quality=90)
    write_dataset(tmp_path / "d", {}, Plan.of(7, 3, 6), make_batches(3), format="lmdb", encoder=encoder)
    with library(tmp_path / "d/train.lmdb") as environment, environment.begin() as transaction:
        assert msgpack.loads(transaction.get(b"__len__")) == 21
        assert msgpack.loads(transaction.get(b"__classnum__")) == 7
        keys = msgpack.loads(transaction.get(b"__keys__"))
        assert keys == [str(index).encode("ascii") for index in range(21)]
        for index, key in enumerate(keys):
            value = transaction.get(key)
            expected = (encoder.encode(picture(index // 3, index % 3)), index // 3)
            assert value == msgpack.dumps(expected)
            assert msgpack.loads(value, use_list=False) == expected
        assert transaction.stat()["entries"] == 24


@pytest.mark.parametrize("count", [1, 2, 11, 189, 190, 191, 400])
def test_liblmdb_walks_trees_of_every_depth(tmp_path: Path, count: int) -> None:
    """190 keys and the three special ones fill a leaf. Value sizes straddle page boundaries."""
    values = [bytes([index % 251]) * (index % 3 * 4080) for index in range(count)]
    bulk(tmp_path / "x.lmdb", values)
    with library(tmp_path / "x.lmdb") as environment, environment.begin() as transaction:
        found = dict(transaction.cursor())
        statistics = transaction.stat()
        assert environment.info()["last_pgno"] * 4096 + 4096 == (tmp_path / "x.lmdb").stat().st_size
    assert statistics["entries"] == count + 3 == len(found)
    assert statistics["overflow_pages"] + statistics["leaf_pages"] + statistics["branch_pages"] + 2 == (
        (tmp_path / "x.lmdb").stat().st_size // 4096
    )
    assert statistics["depth"] == (1 if count <= 190 else 2)
    assert all(found[b"%d" % index] == value for index, value in enumerate(values))
    reader = TreeReader(tmp_path / "x.lmdb")
    assert [key for key, _ in reader.items()] == sorted(found)
    for index in range(0, count, max(1, count // 500)):
        assert reader.get(b"%d" % index) == values[index]
    assert reader.get(b"x") is None
    assert reader.get(b"") is None


def test_liblmdb_may_change_and_compact_our_files(tmp_path: Path) -> None:
    values = [bytes(index) for index in range(500)]
    bulk(tmp_path / "x.lmdb", values)
    with lmdb.open(str(tmp_path / "x.lmdb"), subdir=False, lock=False, map_size=1 << 26) as environment:
        with environment.begin(write=True) as transaction:
            for index in range(0, 500, 2):
                transaction.delete(b"%d" % index)
            for index in range(1, 500, 10):
                transaction.put(b"%d" % index, b"new" * index)
            transaction.put(b"another", b"one")
        environment.copy(str(tmp_path / "y.lmdb"), compact=True)
    for name in ("x.lmdb", "y.lmdb"):
        with library(tmp_path / name) as environment, environment.begin() as transaction:
            found = dict(transaction.cursor())
        assert len(found) == 250 + 3 + 1
        assert found[b"491"] == b"new" * 491
        assert found[b"493"] == values[493]
        reader = TreeReader(tmp_path / name)
        assert {key: reader.get(key) for key, _ in reader.items()} == found


def test_bytes_depend_on_the_values_alone(tmp_path: Path) -> None:
    values = [bytes([index]) * 300 for index in range(50)]
    bulk(tmp_path / "a.lmdb", values)
    bulk(tmp_path / "b.lmdb", values)
    assert (tmp_path / "a.lmdb").read_bytes() == (tmp_path / "b.lmdb").read_bytes()


def stranger(path: Path, records: list[tuple[object, ...]], **options: object) -> None:
    """An LMDB made the way the published conversion script makes it."""
    environment = lmdb.open(str(path), map_size=1 << 24, lock=False, **options)
    with environment.begin(write=True) as transaction:
        for index, record in enumerate(records):
            transaction.put(str(index).encode("ascii"), msgpack.dumps(record))
        transaction.put(
            b"__keys__", msgpack.dumps([str(index).encode("ascii") for index in range(len(records))])
        )
        transaction.put(b"__len__", msgpack.dumps(len(records)))
        transaction.put(b"__classnum__", msgpack.dumps(9))
    environment.close()


@pytest.mark.parametrize("subdir", [False, True])
@pytest.mark.parametrize("size", [40, 5000])
def test_reads_what_liblmdb_wrote(tmp_path: Path, subdir: bool, size: int) -> None:
    """Small values lie inside the leaves, large ones in overflow pages."""
    records = [(bytes([index % 250]) * size, index // 4) for index in range(300)]
    stranger(tmp_path / "x", records, subdir=subdir)
    dataset = open_dataset(tmp_path / "x")
    assert list(dataset) == records
    assert dataset.labels.dtype == np.int64


def test_old_msgpack_and_odd_keys(tmp_path: Path) -> None:
    environment = lmdb.open(str(tmp_path / "x.lmdb"), subdir=False, lock=False, map_size=1 << 20)
    with environment.begin(write=True) as transaction:
        for index in range(3):
            transaction.put(
                b"k%d" % index, msgpack.packb((b"\xff\xd8\xff" + bytes([index]), 7), use_bin_type=False)
            )
        transaction.put(b"__keys__", msgpack.packb([b"k2", b"k0", b"k1"], use_bin_type=False))
        transaction.put(b"__len__", msgpack.packb(3))
    environment.close()
    assert [data[-1] for data, _ in open_dataset(tmp_path / "x.lmdb")] == [2, 0, 1]


@pytest.mark.parametrize(
    "record", [(b"x",), ("x", 1, 2), (b"x", -1), (b"x", True), 5, (b"x", b"y", b"z"), (b"x", 1, b"z")]
)
def test_records_of_another_shape(tmp_path: Path, record: object) -> None:
    stranger(tmp_path / "x.lmdb", [record], subdir=False)  # type: ignore[list-item]
    with pytest.raises(DatasetError, match=r"record 0: (expected|label)"):
        open_dataset(tmp_path / "x.lmdb").record(0)


def test_length_beyond_the_entries(tmp_path: Path) -> None:
    environment = lmdb.open(str(tmp_path / "x.lmdb"), subdir=False, lock=False, map_size=1 << 20)
    with environment.begin(write=True) as transaction:
        transaction.put(b"__len__", msgpack.packb(1 << 40))
    environment.close()
    with pytest.raises(DatasetError, match="__len__ says 1099511627776"):
        open_dataset(tmp_path / "x.lmdb")


def test_truncated_files_are_refused_at_once(tmp_path: Path) -> None:
    stranger(tmp_path / "x.lmdb", [(bytes(5000), 1)] * 50, subdir=False)
    whole = (tmp_path / "x.lmdb").read_bytes()
    reader = TreeReader(tmp_path / "x.lmdb")
    used = (reader.last_page + 1) * reader.page_size
    for size in (used - 1, used // 2, 8192, 4096, 100, 0):
        (tmp_path / "cut.lmdb").write_bytes(whole[:size])
        with pytest.raises(DatasetError):
            Lmdb(tmp_path / "cut.lmdb")


def test_damaged_files_never_crash_the_reader(tmp_path: Path) -> None:
    """The corpus that killed liblmdb: byte flips all over; here every one ends in data or a DatasetError."""
    stranger(
        tmp_path / "x.lmdb", [(bytes([i]) * (20 if i % 2 else 3000), i) for i in range(60)], subdir=False
    )
    reader = TreeReader(tmp_path / "x.lmdb")
    whole = (tmp_path / "x.lmdb").read_bytes()[: (reader.last_page + 1) * 4096]
    trees = [page for page in range(len(whole) // 4096) if whole[page * 4096 + 10] in (1, 2, 8)]
    dice = random.Random(5)
    refused = 0
    for trial in range(240):
        damaged = bytearray(whole)
        if trial % 2:
            for _ in range(dice.choice((1, 4, 60))):
                damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        else:  # where it hurts: page headers, node pointers, meta pages
            page = dice.choice(trees)
            for _ in range(dice.choice((1, 4))):
                damaged[page * 4096 + dice.randrange(120)] = dice.randrange(256)
        (tmp_path / "damaged.lmdb").write_bytes(damaged)
        try:
            dataset = Lmdb(tmp_path / "damaged.lmdb")
            sum(1 for _ in dataset)
            sum(extent.size for _, extent in dataset.tree.items())
        except DatasetError:
            refused += 1
    assert refused > 50  # the rest changed data only, which msgpack or a label shows, or nothing does


def test_circular_trees_end(tmp_path: Path) -> None:
    bulk(tmp_path / "x.lmdb", [b"v"] * 400)
    reader = TreeReader(tmp_path / "x.lmdb")
    root = reader.last_page  # the single branch page is written last
    data = bytearray((tmp_path / "x.lmdb").read_bytes())
    node = root * 4096 + int.from_bytes(data[root * 4096 + 16 :][:2], "little")
    data[node : node + 6] = root.to_bytes(6, "little")
    (tmp_path / "x.lmdb").write_bytes(data)
    with pytest.raises(DatasetError, match="circles"):
        list(TreeReader(tmp_path / "x.lmdb").items())
    assert TreeReader(tmp_path / "x.lmdb").get(b"0") is None


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 100, 12_345])
def test_decimal_order(count: int) -> None:
    assert decimal_order(count).tolist() == sorted(range(count), key=str)


def test_a_branch_page_never_has_one_child(tmp_path: Path) -> None:
    """liblmdb asserts that; counts are chosen around the number that fills a branch page."""
    for leaves, depth in (
        *zip(range(1, 8), [1] + [2] * 6, strict=True),
        (8, 2),
        (9, 3),
        (57, 3),
        (65, 4),
        (200, 4),
    ):
        file = atomic.DurableFile(tmp_path / "x.lmdb", "t", whole=False)
        file.begin_region()
        writer = TreeWriter(file)
        page = writer.value(b"v")
        keys = [b"%0500d" % index for index in range(leaves * 7)]  # 7 keys of 500 bytes to a page
        file.rewrite(0, writer.tree((key, page, 1) for key in keys))
        file.prepare()
        file.publish()
        with library(tmp_path / "x.lmdb") as environment, environment.begin() as transaction:
            assert [key for key, _ in transaction.cursor()] == keys
            assert all(transaction.get(key) == b"v" for key in keys)
            assert transaction.stat()["depth"] == depth
        reader = TreeReader(tmp_path / "x.lmdb")
        assert all(reader.get(key) == b"v" for key in keys)
        assert [key for key, _ in reader.items()] == keys
