"""Any flipped bit is found, and repair puts back exactly the bytes that were there."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from stub_people import make_batches, tree

from v2f_engine.batch import ImageBatch
from v2f_engine.data import Encoder, Plan, repair_dataset, verify_dataset, write_dataset
from v2f_engine.data.layout import CARD, CROISSANT, MANIFEST
from v2f_engine.errors import ConfigError, DatasetError

FORMATS = ("imagefolder", "webdataset", "lmdb", "recordio", "parquet")
ENCODER = Encoder(quality=60)


@pytest.fixture(scope="module", params=FORMATS)
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("verify") / request.param
    write_dataset(root, {"seed": 1}, Plan.of(5, 3, 6), make_batches(3), format=request.param, encoder=ENCODER)
    return root


def flip(path: Path, dice: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.write_bytes(data)


def files(root: Path) -> list[Path]:
    """All files but the card: it is for people, who may edit it; no reader looks at it."""
    return sorted(path for path in root.rglob("*") if path.is_file() and path.name not in (CARD, CROISSANT))


def largest(root: Path) -> Path:
    """The largest file that holds images."""
    candidates = (path for path in files(root) if path.suffix != ".png" and path.name != MANIFEST)
    return max(candidates, key=lambda path: path.stat().st_size)


def test_an_intact_dataset(dataset: Path) -> None:
    report = verify_dataset(dataset)
    assert report.ok
    assert (report.shards, report.broken, report.faults) == (3, (), ())
    sizes = [path.stat().st_size for path in files(dataset) if path.name != MANIFEST]
    assert report.bytes == sum(sizes), "every byte but the manifest's own belongs to a piece"
    assert report.files == len(sizes), "as many as somebody counts who looks into the folder"


def test_every_flipped_bit_is_found(dataset: Path, tmp_path: Path) -> None:
    dice = random.Random(1)
    root = tmp_path / "d"
    shutil.copytree(dataset, root)
    paths = [path for path in files(root) if path.stat().st_size]
    found = 0
    for trial in range(60):
        path = paths[trial % len(paths)]
        whole = path.read_bytes()
        flip(path, dice)
        try:
            found += not verify_dataset(root).ok
        except DatasetError:
            found += path.name == MANIFEST
        path.write_bytes(whole)
    assert found == 60


def test_fast_finds_sizes_and_missing_files(dataset: Path, tmp_path: Path) -> None:
    for change in ("cut", "longer", "missing"):
        root = tmp_path / change
        shutil.copytree(dataset, root)
        for path in files(root):
            if path.name == MANIFEST:
                continue
            whole = path.read_bytes()
            if change == "missing":
                path.unlink()
            else:
                path.write_bytes(whole[:-1] if change == "cut" else whole + b"\0")
            report = verify_dataset(root, "fast")
            assert not report.ok, path
            path.write_bytes(whole)
        assert verify_dataset(root, "full").ok


def noting(asked: list[range]) -> object:
    def make(identities: range) -> Iterator[ImageBatch]:
        asked.append(identities)
        return make_batches(3)(identities)

    return make


def test_repair_of_each_file(dataset: Path, tmp_path: Path) -> None:
    """Files of one shard: only that shard is made again. Others (indices, contact sheet): none or one is."""
    dice = random.Random(2)
    root = tmp_path / "d"
    shutil.copytree(dataset, root)
    before = tree(root)
    for path in files(root):
        if path.name == MANIFEST or not path.stat().st_size:
            continue
        flip(path, dice)
        report = verify_dataset(root)
        assert not report.ok
        asked: list[range] = []
        repaired = repair_dataset(root, noting(asked), ENCODER)  # type: ignore[arg-type]
        assert repaired == report.broken
        assert asked == [(range(2), range(2, 4), range(4, 5))[number] for number in repaired]
        assert len(repaired) <= 1
        assert tree(root) == before, path


def test_repair_of_a_deleted_file(dataset: Path, tmp_path: Path) -> None:
    root = tmp_path / "d"
    shutil.copytree(dataset, root)
    before = tree(root)
    largest(root).unlink()
    assert repair_dataset(root, make_batches(3), ENCODER)
    assert tree(root) == before
    assert repair_dataset(root, make_batches(3), ENCODER) == ()


def test_repair_refuses_other_bytes(dataset: Path, tmp_path: Path) -> None:
    root = tmp_path / "d"
    shutil.copytree(dataset, root)
    path = largest(root)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    before = tree(root)

    def other(identities: range) -> Iterator[ImageBatch]:
        for batch in make_batches(3)(identities):
            yield ImageBatch(batch.images ^ 255, batch.identity, batch.image, batch.attributes)

    with pytest.raises(DatasetError, match="gives other bytes"):
        repair_dataset(root, other, ENCODER)
    with pytest.raises(DatasetError, match=r"encoder was .*60.*, is .*95"):
        repair_dataset(root, make_batches(3), Encoder(quality=95))
    assert tree(root) == before


def test_what_cannot_be_verified(tmp_path: Path, dataset: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds no manifest\.json"):
        verify_dataset(tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'full'"):
        verify_dataset(dataset, "ful")
    (tmp_path / ".v2f").mkdir()
    with pytest.raises(DatasetError, match="interrupted or still lasts"):
        verify_dataset(tmp_path)
