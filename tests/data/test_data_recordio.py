"""RecordIO byte by byte: framing, meta and identity records, payloads that hold the magic, foreign labels."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stub_people import make_batches, picture

from v2f_engine import atomic
from v2f_engine.data import Encoder, Plan, open_dataset, write_dataset
from v2f_engine.data.formats.protocol import Sample
from v2f_engine.data.formats.recordio import format as recordio
from v2f_engine.data.formats.recordio import frames as recordio_frames
from v2f_engine.data.formats.recordio.frames import (
    MAGIC_BYTES,
    frame,
    image_record,
    range_record,
    read_record,
)
from v2f_engine.data.gate.open_files import OpenFiles
from v2f_engine.data.records.shard_record import ShardRecord
from v2f_engine.errors import ConfigError, DatasetError

ENCODER = Encoder(quality=90)


def parse(data: bytes) -> dict[int, tuple[int, tuple[float, ...], bytes]]:
    """offset -> (flag, labels, image), straight from the description of the format."""
    records = {}
    at = 0
    while at < len(data):
        magic, word = struct.unpack_from("<II", data, at)
        assert (magic, word >> 29) == (0xCED7230A, 0)
        length = word & ((1 << 29) - 1)
        flag, label, _, _ = struct.unpack_from("<IfQQ", data, at + 8)
        labels = struct.unpack_from(f"<{flag}f", data, at + 32) if flag else (label,)
        records[at] = (flag, labels, data[at + 32 + 4 * flag : at + 8 + length])
        at += 8 + length + -length % 4
    return records


def test_layout_that_insightface_reads(tmp_path: Path) -> None:
    root = tmp_path / "d"
    write_dataset(root, {}, Plan.of(7, 3, 6), make_batches(3), format="recordio", encoder=ENCODER)
    assert (root / "property").read_text() == "7,112,112"
    index = dict(tuple(map(int, line.split("\t"))) for line in (root / "train.idx").read_text().splitlines())
    records = parse((root / "train.rec").read_bytes())
    assert list(index) == list(range(1 + 21 + 7))
    assert list(index.values()) == list(records)
    meta = records[index[0]]
    assert meta == (2, (22.0, 29.0), b"")
    for key in range(1, int(meta[1][0])):  # as arcface_torch takes them
        flag, labels, image = records[index[key]]
        identity, number = divmod(key - 1, 3)
        assert (flag, labels) == (0, (float(identity),))
        assert image == ENCODER.encode(picture(identity, number))
    for identity, key in enumerate(range(22, 29)):  # as the older trainers take them
        assert records[index[key]] == (2, (1.0 + 3 * identity, 4.0 + 3 * identity), b"")


def test_sets_too_large_for_float32_have_no_meta_record(tmp_path: Path) -> None:
    rec, idx = (
        atomic.DurableFile(tmp_path / name, "t", whole=name != "train.rec")
        for name in ("train.rec", "train.idx")
    )
    records = {0: ShardRecord(0, 0, 2, 4, 4, "", ())}
    samples = [Sample(identity, number, b"\xff\xd8\xff") for identity in (0, 1) for number in (0, 1)]
    regions, (head, tail) = recordio._assemble(
        rec, idx, 2, records, lambda number: iter(samples), max_exact=6
    )
    for file in (rec, idx):
        file.prepare()
        file.publish()
    assert (head.bytes, tail.bytes) == (0, 0)
    assert regions[0][0].bytes == (tmp_path / "train.rec").stat().st_size
    assert (tmp_path / "train.idx").read_text().split()[::2] == ["0", "1", "2", "3"]
    dataset = open_dataset(tmp_path)
    assert len(dataset) == 4
    assert dataset.labels.tolist() == [0, 0, 1, 1]


def test_meta_limit_is_where_float32_ends() -> None:
    exact = struct.unpack("<f", struct.pack("<f", recordio.MAX_EXACT))[0]
    beyond = struct.unpack("<f", struct.pack("<f", recordio.MAX_EXACT + 1))[0]
    assert exact == recordio.MAX_EXACT
    assert beyond != recordio.MAX_EXACT + 1


magic_rich = st.lists(st.one_of(st.just(MAGIC_BYTES), st.binary(max_size=9))).map(b"".join)


@settings(max_examples=60, deadline=None)
@given(magic_rich)
def test_payloads_that_hold_the_magic(tmp_path_factory: pytest.TempPathFactory, payload: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "magic.rec"
    record = frame(payload)
    path.write_bytes(record + frame(b"next"))
    files = OpenFiles()
    found, following = read_record(files, path, 0)
    assert found == payload
    assert following == len(record)
    assert read_record(files, path, following)[0] == b"next"
    aligned = [at for at in range(0, len(record) - 3, 4) if record[at : at + 4] == MAGIC_BYTES]
    starts = []
    at = 0
    while at < len(record):
        starts.append(at)
        length = struct.unpack_from("<I", record, at + 4)[0] & recordio_frames.MAX_LENGTH
        at += 8 + length + -length % 4
    assert aligned == starts, "the magic stands at a multiple of 4 only where a part begins"


def test_strangers_label_arrays_and_floats(tmp_path: Path) -> None:
    header = struct.Struct("<IfQQ")
    several = frame(header.pack(3, 0, 1, 0) + struct.pack("<3f", 5, 0.25, 9) + b"\xff\xd8\xffa")
    single = frame(header.pack(0, 6, 2, 0) + b"\xff\xd8\xffb")
    records = [range_record(3, 3, 0), several, single]
    write(tmp_path, records)
    dataset = open_dataset(tmp_path / "train.rec")
    assert list(dataset) == [(b"\xff\xd8\xffa", 5), (b"\xff\xd8\xffb", 6)]
    write(tmp_path, [range_record(2, 2, 0), frame(header.pack(0, 0.5, 1, 0) + b"\xff\xd8\xffbcd")])
    with pytest.raises(DatasetError, match=r"label 0\.5"):
        _ = open_dataset(tmp_path).labels


def write(folder: Path, records: list[bytes]) -> None:
    offsets = [sum(map(len, records[:number])) for number in range(len(records))]
    (folder / "train.rec").write_bytes(b"".join(records))
    (folder / "train.idx").write_text("".join(f"{key}\t{offset}\n" for key, offset in enumerate(offsets)))


@pytest.mark.parametrize(
    "index", ["", "0 1 2\n", "a\tb\n", "0\t-4\n", "1.5\t3\n", "0\t99999999999999999999\n"]
)
def test_broken_index(tmp_path: Path, index: str) -> None:
    write(tmp_path, [image_record(0, 0, b"x")])
    (tmp_path / "train.idx").write_text(index)
    with pytest.raises(DatasetError, match=r"key<TAB>offset"):
        open_dataset(tmp_path)


def test_broken_records(tmp_path: Path) -> None:
    whole = [range_record(2, 2, 0), image_record(0, 1, b"\xff\xd8\xff" + bytes(100))]
    write(tmp_path, whole)
    (tmp_path / "train.rec").write_bytes(b"".join(whole)[:-8])
    with pytest.raises(DatasetError, match="the file is cut"):
        open_dataset(tmp_path).record(0)
    write(tmp_path, whole)
    (tmp_path / "train.idx").write_text("0\t0\n1\t4\n")
    with pytest.raises(DatasetError, match="is the index that of another"):
        open_dataset(tmp_path).record(0)
    (tmp_path / "train.idx").unlink()
    with pytest.raises(DatasetError, match="key<TAB>offset"):
        open_dataset(tmp_path)


class Huge(bytes):
    def __len__(self) -> int:
        return recordio_frames.MAX_LENGTH + 1


def test_record_beyond_the_format() -> None:
    with pytest.raises(ConfigError, match="at most"):
        frame(Huge())
