"""Manifests, ledger lines and plans are read strictly; settings are kept exactly."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2f_engine.data import Manifest, Plan
from v2f_engine.data.records import ledger
from v2f_engine.data.records.manifest import differences
from v2f_engine.data.records.pieces import Piece
from v2f_engine.data.records.shard_record import ShardRecord
from v2f_engine.errors import ConfigError, DatasetError

HASH = "0123456789abcdef" * 4
PIECE = Piece("file", "shard-000000.tar", 7, HASH)
REGION = Piece("region", "train.rec", 7, HASH, 48)
FOLDERS = Piece("folders", "images", 7, HASH, folders=("000000", "000001"))
PLAN = Plan(5, 2, 2)


def record(number: int, *pieces: Piece) -> ShardRecord:
    identities = PLAN.shard(number).identities
    return ShardRecord(number, identities.start, len(identities), 2 * len(identities), 99, HASH, pieces)


def manifest(**settings: object) -> Manifest:
    return Manifest("webdataset", {"revision": "1"}, PLAN, {"codec": "jpeg"}, settings, {"numpy": "2"})


FULL = replace(
    manifest(seed=1), shards=(record(0, PIECE), record(1, REGION), record(2, FOLDERS)), files=(PIECE,)
)


def test_round_trip() -> None:
    for one in (manifest(), FULL, manifest(name="é\n", nested={"a": [1, 2.5, None, True]})):
        assert Manifest.from_bytes(one.to_bytes(), "m") == one
    value = json.loads(FULL.to_bytes())
    assert value["complete"] is True
    assert value["images"] == 10


def test_settings_become_plain_json() -> None:
    kept = manifest(a=np.int64(3), b=np.float32(0.5), c=(1, 2), d=Path("x/y"), e=np.True_).settings
    assert kept == {"a": 3, "b": 0.5, "c": [1, 2], "d": "x/y", "e": True}
    for bad in (float("nan"), np.zeros(3), {1: 2}, object(), float("inf")):
        with pytest.raises(ConfigError, match=r"settings\.x"):
            manifest(x=bad)


def test_every_flipped_bit_is_found() -> None:
    text = FULL.to_bytes()
    for at in range(len(text)):
        for bit in range(8):
            damaged = bytearray(text)
            damaged[at] ^= 1 << bit
            if bit != at % 8 and at % 16:  # all bits of every 16th byte, one bit of the others
                continue
            with pytest.raises(DatasetError):
                Manifest.from_bytes(bytes(damaged), "m")


def rewrite(change: dict[str, object], remove: str = "") -> bytes:
    value = json.loads(FULL.to_bytes())
    value.update(change)
    value.pop(remove, None)
    return json.dumps(value).encode()


PIECE_JSON = PIECE.to_json()
SHARD_JSON = record(0, PIECE).to_json()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "expected JSON"),
        (b"[]", "expected schema"),
        (b'{"a": NaN}', "not a number that JSON knows"),
        (b'{"a": 1, "a": 2}', "occurs twice"),
        (b"[" * 100_000, "expected JSON"),
        (b"\xff", "expected JSON"),
        (rewrite({"schema": "v2f-dataset/9"}), "expected schema 'v2f-dataset/1', found 'v2f-dataset/9'"),
        (rewrite({}, "plan"), r"missing \['plan'\]"),
        (rewrite({"extra": 1}), r"unknown \['extra'\]"),
        (rewrite({"images": "10"}), "images: expected a whole number, found '10'"),
        (rewrite({"images": True}), "images: expected a whole number, found True"),
        (rewrite({"plan": {**json.loads(FULL.to_bytes())["plan"], "identities": 0}}), "at least 1"),
        (rewrite({"versions": {"numpy": 2}}), "versions.numpy: expected a string"),
        (rewrite({"shards": [SHARD_JSON] * 2}), r"shards\[1\]: expected \(number, first_identity"),
        (rewrite({"shards": [{**SHARD_JSON, "count": 3}]}), "expected 4 images, found 3"),
        (rewrite({"shards": [{**SHARD_JSON, "count": -1}]}), "expected 0 or more"),
        (rewrite({"files": [{**PIECE_JSON, "kind": "link"}]}), "kind: expected one of"),
        (rewrite({"files": [{**PIECE_JSON, "sha256": "zz"}]}), "64 hexadecimal digits"),
        (rewrite({"files": [{**PIECE_JSON, "name": "../x"}]}), "inside the dataset"),
        (rewrite({"files": [{**PIECE_JSON, "name": "/etc/passwd"}]}), "inside the dataset"),
        (rewrite({"files": [{**PIECE_JSON, "name": "a//b"}]}), "inside the dataset"),
        (rewrite({"files": [{**FOLDERS.to_json(), "folders": ["../../x"]}]}), "folder names"),
        (rewrite({"files": [{**PIECE_JSON, "offset": 3}]}), r"unknown \['offset'\]"),
        (rewrite({}), "changed after it was written"),
    ],
)
def test_strict_reading(text: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        Manifest.from_bytes(text, "manifest.json")


def test_differences_name_each_setting_with_both_values_what_people_type_first() -> None:
    other = Manifest(
        "lmdb", {"revision": "1"}, PLAN, {"codec": "jpeg"}, {"seed": 2, "model": {"sha": "a"}}, {}
    )
    assert differences(manifest(seed=1, model={"sha": "b"}), other) == [
        "settings.seed is 1 there, 2 now (--seed)",
        'format is "webdataset" there, "lmdb" now (--format)',
        'settings.model.sha is "b" there, "a" now',
    ]
    assert differences(manifest(seed=1), replace(manifest(seed=1), versions={"numpy": "3"})) == []


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_ledger_lines_never_raise(text: bytes) -> None:
    assert ledger.record_of(text, PLAN, "ledger") is None


def test_ledger_lines() -> None:
    line = ledger.line_of(FULL.shards[1])
    assert ledger.record_of(line, PLAN, "ledger") == FULL.shards[1]
    for size in range(len(line)):
        assert ledger.record_of(line[:size], PLAN, "ledger") is None
    for at in range(len(line)):
        damaged = bytearray(line)
        damaged[at] ^= 4
        assert ledger.record_of(bytes(damaged), PLAN, "ledger") is None
    assert ledger.record_of(line, Plan(5, 3, 2), "ledger") is None, "a record of another plan"


def test_a_torn_line_costs_its_own_shard_only(tmp_path: Path) -> None:
    lines = [ledger.line_of(shard) for shard in FULL.shards]
    (tmp_path / "main.jsonl").write_bytes(lines[0] + lines[1][:50])
    assert set(ledger.read(tmp_path, PLAN)) == {0}
    (tmp_path / "main.jsonl").write_bytes(lines[0] + lines[1].replace(b"99", b"98") + lines[2])
    found = ledger.read(tmp_path, PLAN)
    assert set(found) == {0, 2}
    kept = ledger.Ledger(tmp_path, "main", [found[0], found[2]])
    kept.append(FULL.shards[1])
    kept.close()
    assert (tmp_path / "main.jsonl").read_bytes() == lines[0] + lines[2] + lines[1]


def test_plan() -> None:
    plan = Plan.of(1000, 50)
    assert (plan.shards, plan.identities_per_shard, plan.images) == (17, 62, 50_000)
    assert [plan.shard(16).identities, plan.shard(0).identities] == [range(992, 1000), range(62)]
    assert Plan.of(300_000, 50).identities_per_shard == 200
    assert Plan.of(3, 5).shards == 1
    assert Plan.of(3, 5000, 10).shards == 3
    for bad in ((0, 5), (5, 0), (-1, 5)):
        with pytest.raises(ConfigError, match="at least 1"):
            Plan.of(*bad)
    with pytest.raises(ConfigError, match="whole number"):
        Plan(2.0, 1, 1)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="shards 0..16"):
        plan.shard(17)
