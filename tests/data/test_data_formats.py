"""Every format gives back the bytes, labels and attributes it was given, through its own reader."""

from __future__ import annotations

import io
import json
import pickle
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from stub_people import make_batches, picture
from v2f_kernels._extras import install

from v2f_engine.data import Encoder, Plan, open_dataset, write_dataset
from v2f_engine.data.formats import FORMATS, detect_format, get_format
from v2f_engine.data.layout import ABOUT, ATTRIBUTES, MANIFEST
from v2f_engine.errors import ConfigError, DatasetError, MissingDependency

STORED = [name for name in FORMATS if name != "null"]
PLAN = Plan.of(7, 3, 6)
ENCODER = Encoder(quality=90, subsampling="444")


@pytest.fixture(scope="module", params=STORED)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    root = tmp_path_factory.mktemp("formats") / request.param
    report = write_dataset(root, {"seed": 1}, PLAN, make_batches(3), format=request.param, encoder=ENCODER)
    assert (report.images, report.images_written, report.shards_written) == (21, 21, 4)
    return request.param, root


def test_round_trip(written: tuple[str, Path]) -> None:
    name, root = written
    dataset = open_dataset(root)
    assert dataset.format == name
    assert len(dataset) == 21
    assert dataset.classes == 7
    assert dataset.labels.tolist() == [identity for identity in range(7) for _ in range(3)]
    for index, (data, label) in enumerate(dataset):
        assert data == ENCODER.encode(picture(index // 3, index % 3)), index
        assert label == index // 3
    with pytest.raises(IndexError):
        dataset.record(21)


def test_images_are_rgb_and_close_to_the_originals(written: tuple[str, Path]) -> None:
    dataset = open_dataset(written[1])
    images = dataset.images([20, 0, 4], threads=2)
    assert images.shape == (3, 112, 112, 3)
    assert images.dtype == np.uint8
    for image, index in zip(images, (20, 0, 4), strict=True):
        original = picture(index // 3, index % 3).astype(int)
        assert np.abs(image - original).mean() < 4
        assert np.abs(image[..., ::-1] - original).mean() > 8, "would pass with BGR too"


def test_batches_count_the_images_of_each_identity(written: tuple[str, Path]) -> None:
    batches = list(open_dataset(written[1]).batches(4))
    assert np.concatenate([batch.identity for batch in batches]).tolist() == [
        i for i in range(7) for _ in range(3)
    ]
    assert np.concatenate([batch.image for batch in batches]).tolist() == [0, 1, 2] * 7
    assert [len(batch) for batch in batches] == [4] * 5 + [1]


def test_attributes(written: tuple[str, Path]) -> None:
    attributes = open_dataset(written[1]).attributes()
    assert attributes is not None
    assert attributes.dtype.names == ("identity", "image", "sigma", "yaw")
    assert attributes["yaw"].tolist() == [0.0, 10.0, 20.0] * 7
    assert attributes["identity"].tolist() == [identity for identity in range(7) for _ in range(3)]


def test_reads_without_the_manifest(written: tuple[str, Path], tmp_path: Path) -> None:
    """As a stranger's dataset: detected by its files, labels read from the records."""
    name, root = written
    bare = tmp_path / "bare"
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if path.is_file() and relative.parts[0] not in (MANIFEST, ATTRIBUTES, ABOUT):
            (bare / relative).parent.mkdir(parents=True, exist_ok=True)
            (bare / relative).write_bytes(path.read_bytes())
    assert detect_format(bare) == name
    dataset, ours = open_dataset(bare), open_dataset(root)
    assert dataset.manifest is None
    assert list(dataset) == list(ours)
    assert dataset.attributes() is None


def test_pickles_as_its_path(written: tuple[str, Path]) -> None:
    dataset = pickle.loads(pickle.dumps(open_dataset(written[1])))
    assert dataset.record(5) == open_dataset(written[1]).record(5)


def test_read_shard_needs_no_index(written: tuple[str, Path]) -> None:
    name, root = written
    dataset = open_dataset(root)
    assert dataset.manifest is not None
    from v2f_engine.data.formats.protocol import Place

    kind, place = get_format(name), Place(root, PLAN, "jpg")
    samples = [sample for record in dataset.manifest.shards for sample in kind.read_shard(place, record)]
    assert [(sample.identity, sample.image) for sample in samples] == [
        (i, k) for i in range(7) for k in range(3)
    ]
    assert [sample.data for sample in samples] == [data for data, _ in dataset]


def test_png(tmp_path: Path) -> None:
    for name in ("imagefolder", "webdataset"):
        root = tmp_path / name
        write_dataset(root, {}, Plan.of(2, 2), make_batches(2), format=name, encoder=Encoder("png"))
        assert np.array_equal(open_dataset(root).image(3), picture(1, 1))
    assert (tmp_path / "imagefolder/images/000001/001.png").is_file()


def test_imagefolder_layout(tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", {}, Plan.of(2, 2), make_batches(2), format="imagefolder")
    names = sorted(
        path.relative_to(tmp_path / "d/images").as_posix() for path in (tmp_path / "d/images").rglob("*.*")
    )
    assert names == ["000000/000.jpg", "000000/001.jpg", "000001/000.jpg", "000001/001.jpg"]


def test_names_widen_together() -> None:
    plan = Plan(2_000_000, 1_001, 10)
    assert plan.identity_name(5) == "0000005"
    assert plan.image_name(5) == "0005"
    assert Plan(10, 3, 10).identity_name(5) == "000005"


def test_webdataset_library_reads_our_shards(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    root = tmp_path / "d"
    write_dataset(root, {}, PLAN, make_batches(3), encoder=ENCODER)
    shards = sorted(str(path) for path in root.glob("*.tar"))
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert [int(sample["cls"]) for sample in samples] == [i for i in range(7) for _ in range(3)]
    assert samples[4]["jpg"] == ENCODER.encode(picture(1, 1))
    assert samples[4]["__key__"] == "000001_001"
    index = json.loads((root / "datasets_webdataset.json").read_text())
    assert index["wids_version"] == 1
    assert index["shardlist"] == [
        {"url": f"shard-{n:06d}.tar", "nsamples": (6, 6, 6, 3)[n]} for n in range(4)
    ]


def test_tarfile_reads_our_shards(tmp_path: Path) -> None:
    root = tmp_path / "d"
    write_dataset(root, {}, PLAN, make_batches(3), encoder=ENCODER)
    with tarfile.open(root / "shard-000001.tar") as tar:
        members = tar.getmembers()
        assert [member.name for member in members[:3]] == [
            "000002_000.jpg",
            "000002_000.cls",
            "000002_001.jpg",
        ]
        assert {(m.mtime, m.uid, m.gid, m.mode, m.uname) for m in members} == {(0, 0, 0, 0o644, "")}
        assert tar.extractfile(members[1]).read() == b"2"  # type: ignore[union-attr]
    assert (root / "shard-000001.tar").stat().st_size % 10_240 == 0


def test_a_tar_cut_between_members_is_not_a_shorter_tar(tmp_path: Path) -> None:
    root = tmp_path / "d"
    write_dataset(root, {}, Plan.of(1, 3), make_batches(3), encoder=ENCODER)
    with tarfile.open(root / "shard-000000.tar") as tar:
        boundary = tar.getmembers()[4].offset
    whole = (root / "shard-000000.tar").read_bytes()
    stranger = tmp_path / "cut.tar"
    for size, message in ((boundary, "cut"), (boundary + 700, "cut"), (boundary + 100, "cut")):
        stranger.write_bytes(whole[:size])
        with pytest.raises(DatasetError, match=message):
            len(open_dataset(stranger))
    damaged = bytearray(whole)
    damaged[3] ^= 1
    stranger.write_bytes(damaged)
    with pytest.raises(DatasetError, match="checksum"):
        len(open_dataset(stranger))


def test_foreign_tar_with_folders_and_other_members(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in (
            ("x/1.json", b"{}"),
            ("x/1.cls", b"3\n"),
            ("x/1.JPEG", ENCODER.encode(picture(0, 0))),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    dataset = open_dataset(tmp_path / "a.tar")
    assert dataset.record(0)[1] == 3
    assert dataset.image(0).shape == (112, 112, 3)


def test_parquet_has_hugging_face_features(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    root = tmp_path / "d"
    write_dataset(root, {}, PLAN, make_batches(3), format="parquet", encoder=ENCODER)
    files = sorted(path.name for path in (root / "data").iterdir())
    assert files == [f"train-{number:05d}-of-00004.parquet" for number in range(4)]
    table = pq.read_table(root / "data" / files[0])
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features == {"image": {"_type": "Image"}, "label": {"dtype": "int64", "_type": "Value"}}
    assert table.column("image")[4].as_py() == {
        "bytes": ENCODER.encode(picture(1, 1)),
        "path": "000001_001.jpg",
    }


def test_parquet_without_pyarrow_names_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "v2f_engine.data.formats.parquet.format", raising=False)
    with pytest.raises(MissingDependency, match=re.escape(install("parquet"))):
        get_format("parquet")


def test_unknown_format_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'webdataset'"):
        get_format("webdatset")


def test_null_writes_nothing(tmp_path: Path) -> None:
    report = write_dataset(tmp_path / "d", {}, PLAN, make_batches(3), format="null")
    assert (report.images_written, report.complete, report.manifest) == (21, True, None)
    assert report.image_bytes > 10_000
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "does not exist"),
        (lambda root: root.mkdir(), "no dataset found"),
        (lambda root: root.write_bytes(b"hello"), "no dataset found"),
        (lambda root: (root / ".v2f").mkdir(parents=True), "not finished"),
    ],
)
def test_nothing_to_open(tmp_path: Path, make: object, message: str) -> None:
    make(tmp_path / "x")  # type: ignore[operator]
    with pytest.raises(DatasetError, match=message):
        open_dataset(tmp_path / "x")


def test_a_manifest_that_is_given_for_its_set_is_known(tmp_path: Path) -> None:
    """It was read as a list of pictures and refused by its second entry; a list that bears its name is still one."""
    root = tmp_path / "set"
    write_dataset(root, {"seed": 1}, Plan.of(2, 2, 2), make_batches(2), format="imagefolder")
    with pytest.raises(DatasetError, match=r"manifest of a set.*: give .*set\."):
        open_dataset(root / MANIFEST)
    (tmp_path / "theirs").mkdir()
    for number, path in enumerate(sorted(root.glob("images/*/*.jpg"))):
        (tmp_path / "theirs" / f"{number}.jpg").write_bytes(path.read_bytes())
    (tmp_path / "theirs" / MANIFEST).write_text('{"0.jpg": 0, "1.jpg": 0, "2.jpg": 1, "3.jpg": 1}')
    assert sorted(open_dataset(tmp_path / "theirs" / MANIFEST).labels) == [0, 0, 1, 1]
