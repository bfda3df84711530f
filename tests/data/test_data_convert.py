"""Conversion between all formats: bytes pass through, labels become contiguous, attributes come along."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import lmdb
import msgpack
import numpy as np
import pytest
from stub_people import make_batches, picture, tree

from v2f_engine import disk
from v2f_engine.data import Encoder, Plan, convert_dataset, open_dataset, verify_dataset, write_dataset
from v2f_engine.data.layout import CARD, CROISSANT, MANIFEST
from v2f_engine.data.writing import convert
from v2f_engine.errors import ConfigError, DatasetError

FORMATS = ("imagefolder", "webdataset", "lmdb", "recordio", "parquet")
SAY_HOW = (MANIFEST, CARD, CROISSANT)
"""Files that tell how a dataset was made."""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("convert")
    for name in FORMATS:
        write_dataset(base / name, {"seed": 1}, Plan.of(5, 3, 6), make_batches(3), format=name)
    return {name: base / name for name in FORMATS}


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("source", FORMATS)
def test_any_format_to_any_other(sources: dict[str, Path], source: str, target: str, tmp_path: Path) -> None:
    report = convert_dataset(sources[source], tmp_path / "d", target, images_per_shard=6)
    assert (report.images, report.images_written, report.identities) == (15, 15, 5)
    before, after = open_dataset(sources[source]), open_dataset(tmp_path / "d")
    assert after.format == target
    assert list(after) == list(before)
    assert np.array_equal(after.attributes(), before.attributes())  # type: ignore[arg-type]
    assert verify_dataset(tmp_path / "d").ok
    assert after.manifest is not None
    assert before.manifest is not None
    kept = after.manifest.settings["converted_from"]
    assert kept["settings"] == {"seed": 1}
    direct, converted = tree(sources[target]), tree(tmp_path / "d")
    assert {name: direct[name] for name in direct if name not in SAY_HOW} == {
        name: converted[name] for name in converted if name not in SAY_HOW
    }, "a conversion is the dataset that would have been written directly"


def shuffled_stranger(path: Path) -> list[tuple[bytes, int]]:
    """An LMDB in random order, labels with gaps, identities of different sizes."""
    records = [
        (Encoder().encode(picture(label, image)), label)
        for label, count in ((3, 2), (7, 5), (90, 1))
        for image in range(count)
    ]
    random.Random(0).shuffle(records)
    environment = lmdb.open(str(path), subdir=False, lock=False, map_size=1 << 22)
    with environment, environment.begin(write=True) as transaction:
        for index, record in enumerate(records):
            transaction.put(b"%d" % index, msgpack.dumps(record))
        transaction.put(b"__len__", msgpack.dumps(len(records)))
    return records


@pytest.mark.parametrize("target", FORMATS)
def test_strangers_labels_become_contiguous(tmp_path: Path, target: str) -> None:
    records = shuffled_stranger(tmp_path / "x.lmdb")
    report = convert_dataset(tmp_path / "x.lmdb", tmp_path / "d", target, images_per_shard=4)
    dataset = open_dataset(tmp_path / "d")
    assert (report.images, report.identities) == (8, 3)
    assert dataset.labels.tolist() == [0, 0, 1, 1, 1, 1, 1, 2]
    expected = [record[0] for record in sorted(records, key=lambda record: record[1])]
    assert [data for data, _ in dataset] == expected
    assert json.loads((tmp_path / "d/manifest.json").read_text())["settings"]["converted_from"]["labels"] == [
        3,
        7,
        90,
    ]
    assert not json.loads((tmp_path / "d/manifest.json").read_text())["plan"]["uniform"]
    assert verify_dataset(tmp_path / "d").ok


def test_class_names_of_a_folder_are_kept(tmp_path: Path) -> None:
    for name in ("n000002", "n000010"):
        (tmp_path / "src" / name).mkdir(parents=True)
        (tmp_path / "src" / name / "a.jpg").write_bytes(Encoder().encode(picture(1, 1)))
    convert_dataset(tmp_path / "src", tmp_path / "d", "recordio")
    record = json.loads((tmp_path / "d/manifest.json").read_text())["settings"]["converted_from"]
    assert record["class_names"] == ["n000002", "n000010"]
    assert "labels" not in record


def test_mixed_codecs_need_an_encoder(tmp_path: Path) -> None:
    for number, encoder in enumerate((Encoder(), Encoder("png"))):
        (tmp_path / f"src/{number}").mkdir(parents=True)
        (tmp_path / f"src/{number}/0.{encoder.extension}").write_bytes(encoder.encode(picture(number, 0)))
    with pytest.raises(DatasetError, match=r"1/0\.png: png, the first image is jpeg\. Give an encoder"):
        convert_dataset(tmp_path / "src", tmp_path / "a", "webdataset")
    convert_dataset(tmp_path / "src", tmp_path / "b", "webdataset", encoder=Encoder("png"))
    assert np.array_equal(open_dataset(tmp_path / "b").image(1), picture(1, 0))


def test_resumes_and_repeats(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str, progress: Callable[[int, int], None] | None = None) -> convert.ConvertReport:
        return convert_dataset(
            sources["lmdb"], tmp_path / name, "recordio", images_per_shard=6, progress=progress
        )

    run("whole")
    steps = 0

    def before(operation: str, path: str) -> None:
        nonlocal steps
        steps += 1
        if steps == 30:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(disk, "before", before)
        with pytest.raises(KeyboardInterrupt):
            run("killed")
    calls: list[tuple[int, int]] = []
    report = run("killed", lambda done, total: calls.append((done, total)))
    assert 0 < report.images_written < 15
    assert calls[-1] == (15, 15)
    assert tree(tmp_path / "whole") == tree(tmp_path / "killed")
    (tmp_path / "whole/train.rec").write_bytes(b"broken")
    assert run("whole").images_written == 0
    assert tree(tmp_path / "whole") == tree(tmp_path / "killed")


def test_what_cannot_be_converted(sources: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="stores nothing"):
        convert_dataset(sources["lmdb"], tmp_path / "d", "null")
    with pytest.raises(ConfigError, match="did you mean 'recordio'"):
        convert_dataset(sources["lmdb"], tmp_path / "d", "recordi")
    (tmp_path / "src/0").mkdir(parents=True)
    (tmp_path / "src/0/0.jpg").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"0/0\.jpg: expected a JPEG or PNG"):
        convert_dataset(tmp_path / "src", tmp_path / "d", "lmdb")
    assert not (tmp_path / "d").exists()
