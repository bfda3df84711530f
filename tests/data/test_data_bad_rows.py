"""Bad data of every kind: skipped or refused as asked, counted, named; never a crash."""

from __future__ import annotations

import io
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
from stub_people import make_batches, picture

from v2f_engine import atomic
from v2f_engine.data import Encoder, MemorySet, Plan, open_dataset, open_training_set, write_dataset
from v2f_engine.data.formats.dataset import Record
from v2f_engine.data.formats.lmdb.entries import pack_record, write_values
from v2f_engine.data.training.prefetch import Prefetcher
from v2f_engine.data.training.stored_set import _stride
from v2f_engine.errors import DatasetError, V2FError

PNG = Encoder("png")
PEOPLE, EACH = 6, 5
COUNT = PEOPLE * EACH
FEATURES = np.random.default_rng(0).normal(size=(COUNT, 512)).astype(np.float32) * 22


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def record(row: int, **changes: object) -> bytes:
    parts: dict[str, object] = {
        "image": PNG.encode(picture(row // EACH, row % EACH)),
        "label": row // EACH,
        "feature": npy(FEATURES[row]),
    }
    return pack_record(Record(**{**parts, **changes}))  # type: ignore[arg-type]


def write_lmdb(path: Path, values: list[bytes]) -> Path:
    file = atomic.DurableFile(path, "main", whole=False)
    write_values(file, [(0, values)], PEOPLE)
    file.prepare()
    file.publish()
    return path


nan = FEATURES[7].copy()
nan[100] = np.nan
FAULTS = {
    "record": (b"\xc1 no msgpack", "expected msgpack"),
    "image": (record(7, image=b"\xff\xd8\xff broken"), "damaged JPEG"),
    "image size": (
        record(7, image=PNG.encode(picture(1, 2)[:100])),
        "100x112 pixels; expected aligned faces of 112x112",
    ),
    "no feature": (record(7, feature=None), "found no feature"),
    "feature": (record(7, feature=npy(FEATURES[7])[:-3]), "truncated: .*2,176 bytes"),
    "feature dimension": (
        record(7, feature=npy(FEATURES[7, :256])),
        "expected a feature of 512 numbers, found 256",
    ),
    "feature nan": (record(7, feature=npy(nan)), "NaN"),
    "feature pickled": (record(7, feature=pickle.dumps(FEATURES[7])), "not a .npy file"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_lmdb_records(tmp_path: Path, fault: str) -> None:
    value, message = FAULTS[fault]
    values = [value if row == 7 else record(row) for row in range(COUNT)]
    path = write_lmdb(tmp_path / "x.lmdb", values)
    with pytest.raises(DatasetError, match=f"record 7.*{message}"):  # at the labels or at the row, by name
        open_training_set(path).read(range(COUNT))
    data = open_training_set(path, on_bad="skip", with_features=True)
    assert (data.feature_dim, data.classes) == (512, PEOPLE)
    rows = data.read([6, 7, 8, 7])
    instead = (7 + _stride(COUNT)) % COUNT
    assert [int(key.split()[-1]) for key in rows.keys] == [6, instead, 8, instead]
    for place, row in enumerate((6, instead, 8, instead)):
        assert np.array_equal(rows.images[place], picture(row // EACH, row % EACH))
        assert np.array_equal(rows.features[place], FEATURES[row])
        assert rows.labels[place] == row // EACH
    report = data.bad.report()
    kind = fault.replace(" size", "").replace(" nan", "").replace(" pickled", "")
    assert report["count"] == 1
    assert report["by_kind"] in ({kind: 1}, {"label": 1})
    assert report["rows"][0]["row"] == 7
    assert "record 7" in report["rows"][0]["reason"]
    loaded = MemorySet.load(data)
    assert len(loaded) == COUNT - 1
    assert np.array_equal(loaded.features, np.delete(FEATURES, 7, axis=0))


def test_first_record_broken_does_not_decide_the_dimension(tmp_path: Path) -> None:
    values = [record(row) for row in range(COUNT)]
    values[0] = record(0, feature=npy(FEATURES[0, :64]))
    data = open_training_set(write_lmdb(tmp_path / "x.lmdb", values), on_bad="skip")
    assert data.feature_dim == 512
    data.read(range(COUNT))
    assert data.bad.report()["by_kind"] == {"feature dimension": 1}


def test_nan_and_missing_rows_of_a_feature_file(tmp_path: Path) -> None:
    write_dataset(
        tmp_path / "d", {}, Plan.of(PEOPLE, EACH), make_batches(EACH), format="imagefolder", encoder=PNG
    )
    features = FEATURES.copy()
    features[3, 5], features[11] = np.inf, 0
    np.save(tmp_path / "f.npy", features)
    with pytest.raises(V2FError, match=r'rows \[3, 11\].*on_bad="skip"'):
        open_training_set(tmp_path / "d", tmp_path / "f.npy")
    data = open_training_set(tmp_path / "d", tmp_path / "f.npy", on_bad="skip")
    rows = data.read(range(COUNT))
    assert np.isfinite(rows.features).all()
    assert data.bad.report()["by_kind"] == {"feature": 2}
    with pytest.raises(V2FError, match="one row per image"):
        open_training_set(tmp_path / "d", FEATURES[:-1], on_bad="skip")


@pytest.mark.parametrize("format", ["imagefolder", "webdataset", "recordio", "lmdb", "parquet"])
def test_every_format_with_a_damaged_image(tmp_path: Path, format: str) -> None:
    """One image's bytes are overwritten on disk; the rest of the set stays usable."""
    root = tmp_path / "d"
    write_dataset(root, {}, Plan.of(PEOPLE, EACH), make_batches(EACH), format=format, encoder=PNG)
    start = open_dataset(root).record(13)[0][:200]
    hits = 0
    for path in root.rglob("*"):
        if path.is_file() and start in (content := path.read_bytes()):
            path.write_bytes(content.replace(start, bytes(len(start)), 1))
            hits += 1
    assert hits == 1
    with pytest.raises(DatasetError):
        open_training_set(root, FEATURES).read(range(COUNT))
    data = open_training_set(root, FEATURES, on_bad="skip")
    rows = data.read(range(COUNT))
    assert rows.images.shape == (COUNT, 112, 112, 3)
    damaged = data.bad.report()
    assert 13 in [row["row"] for row in damaged["rows"]]
    # a Parquet page is checked as a whole: its row group goes with it
    assert damaged["count"] == 1 or format == "parquet"


def test_cut_and_flipped_files_never_crash(tmp_path: Path) -> None:
    """Random damage anywhere in an LMDB: a named error, or a set that still reads."""
    whole = write_lmdb(tmp_path / "x.lmdb", [record(row) for row in range(COUNT)]).read_bytes()
    chance = random.Random(5)
    read = 0
    for trial in range(40):
        broken = bytearray(whole)
        for _ in range(chance.choice((1, 8, 64))):
            broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
        if trial % 8 == 0:
            del broken[chance.randrange(len(broken)) :]
        (tmp_path / "y.lmdb").write_bytes(broken)
        try:
            data = open_training_set(tmp_path / "y.lmdb", on_bad="skip")
            rows = data.read(range(COUNT))
            assert len(rows) == COUNT
            read += 1
        except V2FError:
            continue
    assert read > 20


def test_nothing_usable_is_an_error_with_counts(tmp_path: Path) -> None:
    features = np.full_like(FEATURES, np.nan)
    write_dataset(tmp_path / "d", {}, Plan.of(PEOPLE, EACH), make_batches(EACH), format="lmdb", encoder=PNG)
    data = open_training_set(tmp_path / "d", features, on_bad="skip")
    with pytest.raises(DatasetError, match=r"row 4 cannot be used.*30 bad rows so far: {'feature': 30}"):
        data.read([4])


def test_landmark_pictures(tmp_path: Path) -> None:
    values = [record(row, landmark=PNG.encode(picture(row, 9))) for row in range(COUNT)]
    values[4] = record(4, landmark=b"\x89PNG\r\n\x1a\n broken")
    values[5] = record(5)
    data = open_training_set(write_lmdb(tmp_path / "x.lmdb", values), on_bad="skip")
    rows = data.read(range(COUNT))
    assert np.array_equal(rows.landmarks[8], picture(8, 9))
    assert data.bad.report()["by_kind"] == {"landmark": 2}
    assert np.array_equal(data.landmarks([4, 8]), rows.landmarks[[4, 8]])
    without = open_training_set(tmp_path / "x.lmdb", with_landmarks=False)
    assert without.read(range(COUNT)).landmarks is None
    assert without.landmarks([0]) is None


@pytest.mark.parametrize("threads", [1, 3])
def test_prefetching_keeps_order_and_does_not_change_it(tmp_path: Path, threads: int) -> None:
    values = [b"\xc1" if row == 7 else record(row) for row in range(COUNT)]
    data = open_training_set(write_lmdb(tmp_path / "x.lmdb", values), on_bad="skip")

    def rows_of(step: int) -> list[int]:
        return [(step * 4 + place) % COUNT for place in range(4)]

    with Prefetcher(
        data, rows_of, lambda step, rows: (step, rows), start=3, stop=11, threads=threads
    ) as steps:
        seen = list(steps)
    assert [step for step, _ in seen] == list(range(3, 11))
    for step, rows in seen:
        assert rows.keys == data.read(rows_of(step)).keys
    values[7] = record(7, image=b"no image")
    refusing = open_training_set(write_lmdb(tmp_path / "y.lmdb", values))
    with (
        Prefetcher(refusing, rows_of, lambda step, rows: rows, threads=threads) as steps,
        pytest.raises(DatasetError, match="record 7"),
    ):
        list(steps)


def test_replacements_reach_every_row() -> None:
    for count in (1, 2, 3, 7, 30, 1000, 1_022_444):
        stride = _stride(count)
        if count <= 1000:
            assert sorted(k * stride % count for k in range(count)) == list(range(count))
        assert 0.5 <= stride / count <= 1.0
