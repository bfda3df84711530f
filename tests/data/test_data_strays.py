"""`v2f verify` names what lies in a set's folder and is not the set's."""

from __future__ import annotations

from pathlib import Path

import pytest
from stub_people import make_batches
from typer.testing import CliRunner

from v2f_engine.cli.main import app
from v2f_engine.data import Plan, verify_dataset, write_dataset
from v2f_engine.errors import DatasetError

FORMATS = ("imagefolder", "webdataset", "lmdb", "recordio", "parquet")
STRAYS = {
    "imagefolder": ("images/zzz/", "images/000000.jpg"),
    "webdataset": ("shard-000099.tar", "train.tar"),
    "parquet": ("data/train-00001-of-00002.parquet",),
    "lmdb": (),
    "recordio": (),
}
"""What a loader of the format would read with the set."""


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_not_the_set_s_is_named(name: str, tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_dataset(root, {"seed": 1}, Plan.of(5, 3, 6), make_batches(3), format=name)
    assert verify_dataset(root).strays == ()
    (root / ".DS_Store").touch()
    (root / ".v2f").mkdir(exist_ok=True)
    (root / "train.lmdb-lock").touch()
    (root / "notes").mkdir()
    (root / "notes/of_mine.txt").touch()
    (root / "LICENSE").touch()
    (root / "attributes/shard-000099.npy").touch()
    plain = ("LICENSE", "attributes/shard-000099.npy", "notes/")
    report = verify_dataset(root)
    assert report.ok
    assert (report.strays, report.misleading) == (plain, ())
    done = CliRunner().invoke(app, ["verify", str(root)])
    assert done.exit_code == 0
    assert "LICENSE: none of the set's files" in done.output
    for stray in STRAYS[name]:
        (root / stray).mkdir() if stray.endswith("/") else (root / stray).touch()
    report = verify_dataset(root, "fast")
    assert report.ok
    assert report.misleading == tuple(sorted(STRAYS[name]))
    assert set(report.strays) == {*plain, *STRAYS[name]}
    done = CliRunner().invoke(app, ["verify", str(root)])
    if STRAYS[name]:
        assert isinstance(done.exception, DatasetError)
        assert STRAYS[name][0] in str(done.exception)
    else:
        assert done.exit_code == 0
