"""croissant.json: every hash is a file's, and what it says of files and labels finds every image with its identity.

mlcroissant itself reads sets in `tests/strangers/clients_check.py`; here its rules are followed by hand: patterns of
`includes` over names (`fnmatch`), then the first group of a `regex` from the start of the path or the file's name.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
from stub_people import make_batches

from v2f_engine.data.layout import CROISSANT, MANIFEST
from v2f_engine.data.records.croissant import CONTEXT, croissant, write_croissant
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.records.plan import Plan
from v2f_engine.data.records.verify import verify_dataset
from v2f_engine.data.writing.write import write_dataset

FORMATS = ("imagefolder", "webdataset", "lmdb", "recordio", "parquet")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("sets")
    for format in FORMATS:
        write_dataset(root / format, {"seed": 1}, Plan.of(5, 3, 6), make_batches(3), format=format)
    return {format: root / format for format in FORMATS}


def described(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / CROISSANT).read_text())
    return found


@pytest.mark.parametrize("format", FORMATS)
def test_every_hash_and_size_is_that_of_the_file(format: str, sets: dict[str, Path]) -> None:
    root, found = sets[format], described(sets[format])
    files = [one for one in found["distribution"] if one["@type"] == "cr:FileObject"]
    assert files[0]["@id"] == MANIFEST
    for one in files:
        content = (root / one["contentUrl"]).read_bytes()
        assert one["sha256"] == hashlib.sha256(content).hexdigest()
        assert one["contentSize"] == f"{len(content)} B"
    whole = {"webdataset": "shard-*.tar", "parquet": "data/*.parquet"}
    named = {one["contentUrl"] for one in files} - {MANIFEST}
    assert named == {path.relative_to(root).as_posix() for path in root.glob(whole.get(format, "none"))}
    assert verify_dataset(root).strays == (), "it is no stray"


def _paths(root: Path, files: dict[str, Any]) -> list[str]:
    """Names that `includes` finds in the folder, or in the tars it is contained in."""
    if "containedIn" in files:
        names = []
        for tar in files["containedIn"]:
            with tarfile.open(root / tar["@id"]) as opened:
                names += opened.getnames()
    else:
        names = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    return [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in files["includes"])]


@pytest.mark.parametrize("format", ["imagefolder", "webdataset"])
def test_its_rules_find_every_image_with_its_identity(format: str, sets: dict[str, Path]) -> None:
    root, found = sets[format], described(sets[format])
    files = next(one for one in found["distribution"] if one["@type"] == "cr:FileSet")
    (records,) = found["recordSet"]
    label = next(one for one in records["field"] if one["@id"] == "faces/label")["source"]
    rule = re.compile(label["transform"]["regex"])
    names = _paths(root, files)
    assert len(names) == 15
    whole = label["extract"]["fileProperty"] == "filepath"
    labels = []
    for name in names:
        matched = rule.match(f"/any/where/{name}" if whole else Path(name).name)
        assert matched is not None
        labels.append(int(matched[1]))
    assert sorted(labels) == sorted([*range(5)] * 3)
    expected = "image/jpeg"
    assert files["encodingFormat"] == expected


def test_the_columns_of_a_table_are_those_it_has(sets: dict[str, Path]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    found = described(sets["parquet"])
    files = next(one for one in found["distribution"] if one["@type"] == "cr:FileSet")
    tables = [parquet.read_table(sets["parquet"] / name) for name in _paths(sets["parquet"], files)]
    assert sum(len(table) for table in tables) == 15
    fields = {one["@id"]: one["source"] for one in found["recordSet"][0]["field"]}
    columns = {source["extract"]["column"] for source in fields.values()}
    assert columns == set(tables[0].column_names)
    first = tables[0][fields["faces/image"]["extract"]["column"]][0].as_py()
    assert first[fields["faces/image"]["transform"]["jsonPath"]].startswith(b"\xff\xd8")


def test_no_record_is_promised_of_what_no_reader_reads(sets: dict[str, Path]) -> None:
    for format in ("lmdb", "recordio"):
        assert "recordSet" not in described(sets[format])
    null = Manifest("null", {}, Plan.of(1, 1), {}, {})
    assert croissant(null) is None


def test_every_term_that_it_uses_is_in_its_context(sets: dict[str, Path]) -> None:
    """A term that no context explains is dropped by a reader without a word."""
    schema = {"name", "description", "license", "keywords", "version", "distribution", "contentUrl", "contentSize",
              "encodingFormat", "sha256", "containedIn"}  # fmt: skip

    def terms(value: object) -> set[str]:
        if isinstance(value, dict):
            return set(value).union(*(terms(one) for key, one in value.items() if key != "@context"))
        return set().union(*map(terms, value)) if isinstance(value, list) else set()

    for root in sets.values():
        used = {term for term in terms(described(root)) if not term.startswith(("@", "rai:"))}
        assert used <= {*CONTEXT, *schema}, used - {*CONTEXT, *schema}


def test_it_says_how_the_data_came_to_be() -> None:
    made = croissant(Manifest("lmdb", {}, Plan.of(1, 1), {}, {"model": {"name": "mini", "sha256": "0"}}))
    given = croissant(Manifest("lmdb", {}, Plan.of(1, 1), {}, {"converted_from": {"format": "lmdb"}}))
    assert made is not None
    assert given is not None
    assert made["rai:dataCollectionType"] == ["Synthetic"]
    assert made["license"].startswith("https://creativecommons.org/publicdomain/zero")
    assert "no photograph of anybody" in made["rai:dataCollection"]
    assert "synthetic" in made["keywords"]
    assert given["rai:dataCollectionType"] == ["Secondary Data Analysis"]
    assert given["license"].startswith("as-the-source-images")
    assert "synthetic" not in given["keywords"]
    assert "citeAs" not in given


def test_one_of_somebody_s_own_stays(sets: dict[str, Path], tmp_path: Path) -> None:
    manifest = Manifest.load(sets["lmdb"] / MANIFEST)
    (tmp_path / CROISSANT).write_text('{"name": "mine"}')
    assert write_croissant(tmp_path, manifest) is None
    assert (tmp_path / CROISSANT).read_text() == '{"name": "mine"}'
    (tmp_path / CROISSANT).unlink()
    assert write_croissant(tmp_path, manifest) == tmp_path / CROISSANT
    assert (tmp_path / CROISSANT).read_bytes() == (sets["lmdb"] / CROISSANT).read_bytes()
