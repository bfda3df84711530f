"""Layouts of the compared training sets: read, converted to every format and back, faults named."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path

import msgpack
import numpy as np
import pytest

from v2f_engine.data import convert_dataset, open_dataset
from v2f_engine.data.formats.folders.zips import Zip
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.errors import DatasetError

COUNTS = (3, 1, 2)
LABELS = np.repeat(np.arange(3), COUNTS)
ENCODED = [
    Encoder().encode(np.random.default_rng(row).integers(0, 256, (112, 112, 3), np.uint8))
    for row in range(len(LABELS))
]


def names() -> list[str]:
    numbers = [number for count in COUNTS for number in range(count)]
    return [f"subject {label}/{number}.jpg" for label, number in zip(LABELS, numbers, strict=True)]


def folders(root: Path) -> Path:
    for name, data in zip(names(), ENCODED, strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def zipped(root: Path, compression: int = zipfile.ZIP_STORED) -> Path:
    root.mkdir(parents=True)
    with zipfile.ZipFile(root / "set.zip", "w", compression) as file:
        for name, data in zip(names(), ENCODED, strict=True):
            file.writestr(f"set/{name}", data)
        file.writestr("__MACOSX/set/._0.jpg", b"no image")
        file.writestr("set/readme.txt", b"words")
    return root / "set.zip"


def several_zips(root: Path) -> Path:
    root.mkdir(parents=True)
    for part in (0, 1):
        with zipfile.ZipFile(root / f"part{part}.zip", "w", zipfile.ZIP_DEFLATED) as file:
            for place, (name, data) in enumerate(zip(names(), ENCODED, strict=True)):
                if place % 2 == part:
                    file.writestr(name, data)
    return root


def listed(root: Path) -> Path:
    folders(root / "images")
    lines = [f"images/{name} {label}" for name, label in zip(names(), LABELS, strict=True)]
    (root / "image_list.txt").write_text("\n".join(lines) + "\n")
    return root / "image_list.txt"


def paths_only(root: Path) -> Path:
    folders(root)
    (root / "train.txt").write_text("\n".join(str(root / name) for name in names()))
    return root / "train.txt"


def insightface(root: Path, *, array_labels: bool) -> Path:
    """`train.rec` as insightface's own tools write it: meta record 0, images 1..N, identity records after them."""
    root.mkdir(parents=True)
    rec, idx = io.BytesIO(), []

    def add(key: int, payload: bytes) -> None:
        idx.append(f"{key}\t{rec.tell()}\n")
        rec.write(struct.pack("<II", 0xCED7230A, len(payload)) + payload + b"\0" * (-len(payload) % 4))

    count, people = len(ENCODED), len(COUNTS)
    add(0, struct.pack("<IfQQ", 2, 0.0, 0, 0) + struct.pack("<ff", count + 1, count + 1 + people))
    for place, data in enumerate(ENCODED):
        label = float(LABELS[place])
        if array_labels:
            add(place + 1, struct.pack("<IfQQ", 2, 0.0, place + 1, 0) + struct.pack("<ff", label, 0.0) + data)
        else:
            add(place + 1, struct.pack("<IfQQ", 0, label, place + 1, 0) + data)
    first = 1
    for person, images in enumerate(COUNTS):
        key = count + 1 + person
        add(key, struct.pack("<IfQQ", 2, 0.0, key, 0) + struct.pack("<ff", first, first + images))
        first += images
    (root / "train.rec").write_bytes(rec.getvalue())
    (root / "train.idx").write_text("".join(idx))
    (root / "property").write_text("3,112,112\n")
    return root


def dcface(root: Path) -> Path:
    """DCFace's `record/file.rec`: no meta record, keys from 0, every label 0; who it is stands in `list.txt`."""
    (root / "record").mkdir(parents=True)
    rec, idx = io.BytesIO(), []
    for key, data in enumerate(ENCODED):
        payload = struct.pack("<IfQQ", 0, 0.0, key, 0) + data
        idx.append(f"{key}\t{rec.tell()}\n")
        rec.write(struct.pack("<II", 0xCED7230A, len(payload)) + payload + b"\0" * (-len(payload) % 4))
    (root / "record" / "file.rec").write_bytes(rec.getvalue())
    (root / "record" / "file.idx").write_text("".join(idx))
    (root / "record" / "list.txt").write_text("".join(f"{key}\t{name}\n" for key, name in enumerate(names())))
    return root


def haiyu_wu(root: Path) -> Path:
    """The recogniser's LMDB, written by liblmdb."""
    import lmdb

    root.mkdir(parents=True)
    environment = lmdb.open(str(root / "set.lmdb"), subdir=False, map_size=1 << 24)
    with environment.begin(write=True) as transaction:
        for place, data in enumerate(ENCODED):
            transaction.put(f"{place}".encode(), msgpack.packb((data, int(LABELS[place]))))
        keys = [f"{place}".encode() for place in range(len(ENCODED))]
        transaction.put(b"__keys__", msgpack.packb(keys))
        transaction.put(b"__len__", msgpack.packb(len(keys)))
        transaction.put(b"__classnum__", msgpack.packb(3))
    environment.close()
    return root / "set.lmdb"


LAYOUTS = {
    "folders": folders,
    "zip": zipped,
    "several zips": several_zips,
    "list": listed,
    "paths only": paths_only,
    "insightface": lambda root: insightface(root, array_labels=False),
    "insightface, array labels": lambda root: insightface(root, array_labels=True),
    "DCFace": dcface,
    "LMDB of HaiyuWu": haiyu_wu,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_found_and_read_equal(tmp_path: Path, layout: str) -> None:
    found = open_dataset(LAYOUTS[layout](tmp_path / "set"))
    assert found.labels.tolist() == LABELS.tolist()
    assert [found.record(row) for row in range(len(found))] == list(
        zip(ENCODED, LABELS.tolist(), strict=True)
    )
    assert found.images([0, 5]).shape == (2, 112, 112, 3)
    again = pickle.loads(pickle.dumps(found))
    assert again.record(2) == found.record(2)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("target", ["imagefolder", "webdataset", "lmdb", "recordio", "parquet"])
def test_any_layout_converts_to_any_format(tmp_path: Path, layout: str, target: str) -> None:
    if target == "parquet":
        pytest.importorskip("pyarrow")
    source = LAYOUTS[layout](tmp_path / "set")
    report = convert_dataset(source, tmp_path / "new", target)
    made = open_dataset(tmp_path / "new")
    assert (report.images, report.identities) == (6, 3)
    assert made.labels.tolist() == LABELS.tolist()
    assert [made.record(row)[0] for row in range(6)] == ENCODED


def test_faults_of_lists_are_named(tmp_path: Path) -> None:
    source = listed(tmp_path / "set")
    source.write_text(source.read_text() + "images/subject 0/0.jpg\n")
    with pytest.raises(DatasetError, match="line 7: .*with label or without, not both"):
        open_dataset(source)
    source.write_text("images/none.jpg 0\n")
    with pytest.raises(DatasetError, match="image 0: .*none.jpg cannot be read: No such file"):
        open_dataset(source).record(0)
    source.write_text("no picture\n")
    with pytest.raises(DatasetError, match="no dataset found"):
        open_dataset(source)


def test_faults_of_zips_are_named(tmp_path: Path) -> None:
    path = zipped(tmp_path / "set", zipfile.ZIP_DEFLATED)
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    with pytest.raises(DatasetError, match="not a zip that can be read"):
        open_dataset(path)
    with zipfile.ZipFile(io.BytesIO(whole)) as file:
        at = file.getinfo("set/subject 0/1.jpg").header_offset
    damaged = bytearray(whole)
    damaged[at + 300] ^= 1
    path.write_bytes(bytes(damaged))
    found = open_dataset(path)
    with pytest.raises(DatasetError, match=r"set/subject 0/1.jpg: (damaged|its checksum)"):
        found.record(1)
    assert found.record(0)[0] == ENCODED[0]
    empty = tmp_path / "empty.zip"
    with zipfile.ZipFile(empty, "w") as file:
        file.writestr("readme.txt", b"words")
    with pytest.raises(DatasetError, match="no image; expected folders"):
        Zip(empty)
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("0/0.jpg", b"\0" * (65 << 20))
    with pytest.raises(DatasetError, match="expected at most"):
        Zip(bomb).record(0)
