"""Training sets: images with features from a .npy or Vec2Face's LMDB variant; bad features by row number."""

from __future__ import annotations

import io
from pathlib import Path

import lmdb
import msgpack
import numpy as np
import pytest
from stub_people import make_batches, picture

from v2f_engine.data import Encoder, Plan, open_dataset, open_training_set, write_dataset
from v2f_engine.data.formats.lmdb.entries import write_training_lmdb
from v2f_engine.data.training.features_file import check_features, parse_feature
from v2f_engine.errors import DatasetError, VectorError

ENCODER = Encoder("png")
FEATURES = np.random.default_rng(0).normal(size=(15, 512)).astype(np.float32) * 22


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("training") / "d"
    write_dataset(root, {}, Plan.of(5, 3), make_batches(3), format="lmdb", encoder=ENCODER)
    return root


def npy_bytes(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def generator_lmdb(path: Path, landmarks: bool = False) -> None:
    """As the published conversion writes it, by liblmdb."""
    environment = lmdb.open(str(path), subdir=False, lock=False, map_size=1 << 24)
    with environment, environment.begin(write=True) as transaction:
        for index in range(15):
            record: list[object] = [
                ENCODER.encode(picture(index // 3, index % 3)),
                npy_bytes(FEATURES[index]),
            ]
            record.append(index // 3)
            if landmarks:
                record.append(ENCODER.encode(picture(index, 9)))
            transaction.put(b"%d" % index, msgpack.dumps(tuple(record)))
        transaction.put(b"__keys__", msgpack.dumps([b"%d" % index for index in range(15)]))
        transaction.put(b"__len__", msgpack.dumps(15))
        transaction.put(b"__classnum__", msgpack.dumps(5))


@pytest.mark.parametrize("kind", ["npy", "array", "generator lmdb", "with landmarks", "our generator lmdb"])
def test_rows(dataset: Path, tmp_path: Path, kind: str) -> None:
    if kind == "npy":
        np.save(tmp_path / "f.npy", FEATURES.astype(np.float64))
        training = open_training_set(dataset, tmp_path / "f.npy")
    elif kind == "array":
        training = open_training_set(dataset, FEATURES)
    elif kind == "our generator lmdb":
        rows = [(data, FEATURES[index], label) for index, (data, label) in enumerate(open_dataset(dataset))]
        assert write_training_lmdb(tmp_path / "x.lmdb", rows, 5) == 15
        training = open_training_set(tmp_path / "x.lmdb")
    else:
        generator_lmdb(tmp_path / "x.lmdb", kind == "with landmarks")
        training = open_training_set(tmp_path / "x.lmdb")
    assert len(training) == 15
    assert training.labels.tolist() == [identity for identity in range(5) for _ in range(3)]
    batch = training.read([14, 0, 7])
    assert batch.images.dtype == np.uint8
    assert batch.features.dtype == np.float32
    assert batch.labels.tolist() == [4, 0, 2]
    for image, feature, index in zip(batch.images, batch.features, (14, 0, 7), strict=True):
        assert np.array_equal(image, picture(index // 3, index % 3))
        assert np.array_equal(feature, FEATURES[index])
    assert training.feature_dim == 512
    if kind == "with landmarks":
        assert batch.landmarks is not None
        assert np.array_equal(batch.landmarks[2], picture(7, 9))
    else:
        assert batch.landmarks is None
    with pytest.raises(IndexError):
        training.read([15])


def test_generator_lmdb_reads_back_with_liblmdb(tmp_path: Path) -> None:
    write_training_lmdb(tmp_path / "x.lmdb", [(b"jpeg", FEATURES[0], 4)], 5)
    environment = lmdb.open(str(tmp_path / "x.lmdb"), subdir=False, lock=False, readonly=True)
    with environment, environment.begin() as transaction:
        image, feature, label = msgpack.loads(transaction.get(b"0"))
    assert (image, label) == (b"jpeg", 4)
    assert np.array_equal(np.load(io.BytesIO(feature)), FEATURES[0])


def test_subset(dataset: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", np.array([9, 3, 3]))
    training = open_training_set(dataset, FEATURES, tmp_path / "mask.npy")
    assert len(training) == 3
    assert training.labels.tolist() == [1, 0, 0]  # renumbered: a margin head has no empty classes
    assert training.classes == 2
    assert np.array_equal(training.read([0]).features[0], FEATURES[9])
    for bad in (np.array([15]), np.array([-1]), np.array([0.5]), np.zeros((2, 2), int), np.zeros(0, int)):
        with pytest.raises(VectorError, match="row numbers"):
            open_training_set(dataset, FEATURES, bad)


def changed(row: int, value: float) -> np.ndarray:
    features = FEATURES.copy()
    features[row] = value
    return features


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (FEATURES[:14], r"expected floating-point features \[15, D\].*\(14, 512\)"),
        (FEATURES.astype(np.int64), "int64"),
        (FEATURES.ravel(), r"\(7680,\)"),
        (changed(3, np.nan), r"rows \[3\] hold NaN"),
        (changed(14, np.inf), r"rows \[14\]"),
        (changed(2, 0.0), r"rows \[2\].*nothing but zeros"),
        (FEATURES.astype(object), "expected"),
    ],
)
def test_bad_features(dataset: Path, tmp_path: Path, features: np.ndarray, message: str) -> None:
    np.save(tmp_path / "f.npy", features, allow_pickle=True)
    with pytest.raises(VectorError, match=message):
        open_training_set(dataset, tmp_path / "f.npy")


@pytest.mark.parametrize("data", [b"", b"hello", npy_bytes(FEATURES)[:5000], b"\x93NUMPY\x01\x00\xff\xff{"])
def test_bad_feature_files(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "f.npy").write_bytes(data)
    with pytest.raises(VectorError, match=r"f\.npy: (not a \.npy file|truncated)"):
        check_features(tmp_path / "f.npy", 15)


def test_big_endian_and_half_features_become_float32(dataset: Path) -> None:
    for kind in (">f4", "<f2"):
        batch = open_training_set(dataset, FEATURES.astype(kind)).read([3])
        assert batch.features.dtype == np.dtype("<f4")
        assert np.allclose(batch.features[0], FEATURES[3], rtol=1e-3)


def lying(shape: str) -> bytes:
    header = ("{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + ", }").ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + b"\0\0\x80?" * 512


@pytest.mark.parametrize(
    "data",
    [
        b"",
        npy_bytes(FEATURES[0])[:-1],
        npy_bytes(FEATURES[0]) + b"x",
        npy_bytes(FEATURES[0].astype(np.int32)),
        npy_bytes(np.array([np.nan], np.float32)),
        lying("(1000000000000, 512)"),
        lying("(-4, -128)"),
        lying("(512,"),
        b"\x93NUMPY\x09\x00" + bytes(40),
    ],
)
def test_bad_features_inside_records(data: bytes) -> None:
    with pytest.raises(VectorError, match="record 3"):
        parse_feature(data, "x.lmdb: record 3")
    assert parse_feature(lying("(512,)"), "x").shape == (512,)


def test_features_are_not_optional(dataset: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds no features. Give a \.npy of features \[15, 512\]"):
        open_training_set(dataset, with_features=True)
    assert open_training_set(dataset).read([0]).features is None
