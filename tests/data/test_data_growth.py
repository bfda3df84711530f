"""A finished set with more people: old bytes stay, every format reads old and new, a kill loses nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stub_people import make_batches, picture, tree

from v2f_engine.data import Encoder, Plan, open_dataset, verify_dataset, write_dataset
from v2f_engine.data.gate.decode import decode
from v2f_engine.data.records import grown as grown_records
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.writing import contact_sheet, grow
from v2f_engine.data.writing.write import manifest_for, write_planned
from v2f_engine.errors import ConfigError, DatasetError, DiskFull, OutputFolderError

ROOT = Path(__file__).parents[2]
FORMATS = ("imagefolder", "webdataset", "lmdb", "recordio", "parquet")
ONE_FILE = {"lmdb": "train.lmdb", "recordio": "train.rec"}
OF_A_SET = {"manifest.json", "croissant.json", "README.md"}
"""What describes a set, and has its manifest's hash."""
ENCODER = Encoder(quality=80)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(contact_sheet, "ROWS", 2)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1764300000")


def write(root, format, identities, per_shard=2, images=3, seed=3):
    plan = Plan(identities, images, min(identities, per_shard))
    beside = {"identities.safetensors": lambda: b"%d people" % identities}
    return write_dataset(
        root, {"seed": seed, "people": {"count": identities}}, plan, make_batches(images), format=format,
        encoder=ENCODER, threads=1, attachments=beside,
    )  # fmt: skip


def asked(format, identities, images=3, seed=3, encoder=ENCODER):
    told = {"seed": seed, "people": {"count": identities}}
    return manifest_for(format, Plan.of(identities, images), encoder.describe(), told)


def extend(root, format, identities, **options):
    old = Manifest.load(root / "manifest.json")
    manifest = grow.grown(old, asked(format, identities), may_differ=lambda name: "people" in name, **options)
    beside = {"identities.safetensors": lambda: b"%d people" % identities}
    return write_planned(root, manifest, make_batches(3), ENCODER, threads=1, attachments=beside)


@pytest.mark.parametrize("format", FORMATS)
def test_as_if_asked_at_once(tmp_path, format):
    """Old shards full: every file of the set made at once, and those that were there as they were."""
    write(tmp_path / "set", format, 4)
    old, before = Manifest.load(tmp_path / "set/manifest.json"), tree(tmp_path / "set")
    report = extend(tmp_path / "set", format, 7)
    write(tmp_path / "whole", format, 7)
    grown, whole = (Manifest.load(tmp_path / name / "manifest.json") for name in ("set", "whole"))
    assert (report.shards_kept, report.shards_written, report.images) == (2, 2, 21)
    assert grown.shards[:2] == old.shards
    found, expected = tree(tmp_path / "set"), tree(tmp_path / "whole")
    assert (found.keys() == expected.keys()) == (format != "parquet")
    same = {name for name in found if found[name] == expected.get(name)}
    if format == "parquet":  # names of shards say how many there were: those of the old part keep theirs
        of = {name for name in found if name.endswith(".parquet")}
        assert of == {f"data/train-0000{n}-of-0000{2 if n < 2 else 4}.parquet" for n in range(4)}
        assert sorted(found[name] for name in of) == sorted(v for n, v in expected.items() if ".parquet" in n)
        assert found.keys() - same - of == OF_A_SET
    else:
        assert found.keys() - same == OF_A_SET
        assert replace(grown, grown=()) == whole
    kept = {name for name in before if name in found and found[name] == before[name]}
    lists = {
        "train.idx",
        "property",
        "datasets_webdataset.json",
        "identities.safetensors",
        ONE_FILE.get(format),
    }
    assert before.keys() - kept - lists - OF_A_SET == set()


@pytest.mark.parametrize("format", FORMATS)
def test_a_last_shard_that_was_not_full_stays_as_it_is(tmp_path, format):
    """Grown twice, each time from a shard that is not full; readers, verify and attributes see everybody."""
    root = tmp_path / "set"
    write(root, format, 3)
    first = Manifest.load(root / "manifest.json").shards
    extend(root, format, 6)
    second = Manifest.load(root / "manifest.json").shards
    extend(root, format, 8, per_shard=1)
    manifest = Manifest.load(root / "manifest.json")
    assert manifest.shards[: len(first)] == first
    assert manifest.shards[: len(second)] == second
    assert [shard.identities for shard in manifest.shards] == [2, 1, 2, 1, 1, 1]
    assert [shard.first_identity for shard in manifest.shards] == [0, 2, 3, 5, 6, 7]
    report = verify_dataset(root)
    assert report.ok
    assert report.strays == ()
    data = open_dataset(root)
    assert data.labels.tolist() == np.repeat(range(8), 3).tolist()
    for row in range(24):
        image = decode(ENCODER.encode(picture(row // 3, row % 3)), "here")
        assert np.array_equal(data.image(row), image), row
    assert data.attributes()["yaw"].tolist() == [0.0, 10.0, 20.0] * 8
    assert [(one.identities, one.images, one.shards) for one in manifest.grown] == [(3, 9, 2), (6, 18, 4)]
    assert {one.at for one in manifest.grown} == {"2025-11-28T03:20:00Z"}
    assert Manifest.from_bytes(manifest.to_bytes(), "again") == manifest
    assert not (root / ".v2f/grown_from.json").exists()


def test_regions_of_one_file_stay_where_they_were(tmp_path):
    """What "byte-equal" means of lmdb and recordio: the bytes of each old shard at its offset."""
    for format, name in ONE_FILE.items():
        root = tmp_path / format
        write(root, format, 3)
        old, data = Manifest.load(root / "manifest.json"), (root / name).read_bytes()
        extend(root, format, 9)
        grown = (root / name).read_bytes()
        for shard in old.shards:
            piece = shard.pieces[0]
            assert piece.kind == "region"
            place = slice(piece.offset, piece.offset + piece.bytes)
            assert grown[place] == data[place]


@pytest.mark.parametrize("format", FORMATS)
def test_nobody_who_is_there_is_made_again(tmp_path, format):
    """Twice grown: each time the new people alone are made, and the manifest tells of both times."""
    root, made, make = tmp_path / "set", [], make_batches(3)

    def batches(some):
        made.extend(some)
        return make(some)

    write(root, format, 4)
    for identities in (6, 8):
        old = Manifest.load(root / "manifest.json")
        manifest = grow.grown(old, asked(format, identities), may_differ=lambda name: "people" in name)
        write_planned(root, manifest, batches, ENCODER, threads=1)
    assert made == [4, 5, 6, 7]
    assert [(one.identities, one.images) for one in Manifest.load(root / "manifest.json").grown] == [
        (4, 12),
        (6, 18),
    ]


def test_grown_once_more_is_a_finished_set(tmp_path):
    """The same request again verifies and mends; a broken old shard is made again with its bytes."""
    root = tmp_path / "set"
    write(root, "webdataset", 3)
    extend(root, "webdataset", 6)
    whole = tree(root)
    manifest = Manifest.load(root / "manifest.json")
    (root / "shard-000001.tar").write_bytes(b"broken")
    again = replace(asked("webdataset", 6), plan=manifest.plan, grown=manifest.grown)
    beside = {"identities.safetensors": lambda: b"6 people"}
    report = write_planned(root, again, make_batches(3), ENCODER, attachments=beside)
    assert report.shards_repaired == 1
    assert tree(root) == whole


def others(identities):
    """Images of another machine or version: a grey level brighter."""
    for batch in make_batches(3)(identities):
        yield replace(batch, images=batch.images + 1)


@pytest.mark.parametrize("format", FORMATS)
def test_a_broken_old_shard_is_mended_first(tmp_path, format):
    """Or what another machine makes would silently stand for what was there; nothing is begun."""
    write(tmp_path, format, 4)
    piece = Manifest.load(tmp_path / "manifest.json").shards[0].pieces[0]
    path = tmp_path / piece.name
    path = path if path.is_file() else sorted(path.rglob("*.jpg"))[0]
    data = bytearray(path.read_bytes())
    data[piece.offset + 40 if piece.kind == "region" else 40] ^= 1
    path.write_bytes(bytes(data))
    before = tree(tmp_path)
    with pytest.raises(DatasetError, match=r"1 of its 2 shards are broken \(shard 0\).*`v2f repair"):
        extend(tmp_path, format, 6)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("format", ["imagefolder", "lmdb", "parquet"])
def test_broken_while_it_grows_is_made_again_as_it_was_or_not_at_all(tmp_path, format):
    def stopped(identities):
        raise KeyboardInterrupt

    write(tmp_path / "set", format, 4)
    shutil.copytree(tmp_path / "set", tmp_path / "whole")
    extend(tmp_path / "whole", format, 6)
    old = Manifest.load(tmp_path / "set/manifest.json")
    manifest = grow.grown(old, asked(format, 6), may_differ=lambda name: "people" in name)
    beside = {"identities.safetensors": lambda: b"6 people"}

    def go_on(make):
        write_planned(tmp_path / "set", manifest, make, ENCODER, threads=1, attachments=beside)

    with pytest.raises(KeyboardInterrupt):
        go_on(stopped)
    (tmp_path / "set/attributes/shard-000001.npy").unlink()
    with pytest.raises(DatasetError, match="shard 1 was broken while the set is being extended"):
        go_on(others)
    assert not (tmp_path / "set/manifest.json").exists()
    go_on(make_batches(3))
    assert tree(tmp_path / "set") == tree(tmp_path / "whole")


def test_a_card_that_people_wrote_in_is_kept(tmp_path):
    root = tmp_path / "set"
    write(root, "imagefolder", 2)
    card = (root / "README.md").read_text()
    (root / "README.md").write_text(card + "\nMine.\n")
    extend(root, "imagefolder", 4)
    assert (root / "__about__/README-of-2.md").read_text() == card + "\nMine.\n"
    assert "4 identities, 12 aligned faces" in (root / "README.md").read_text()
    extend(root, "imagefolder", 6)
    assert not (root / "__about__/README-of-4.md").exists()
    assert verify_dataset(root).strays == ()


def change(**options):
    return lambda old: asked("webdataset", 6, **options)


REFUSED = {
    "another seed": (change(seed=4), OutputFolderError, r"settings.seed is 3 there, 4 now \(--seed\)"),
    "another quality": (
        change(encoder=Encoder(quality=90)), OutputFolderError, r"encoder.quality is 80 there, 90 now",
    ),
    "other images": (change(images=4), OutputFolderError, r"plan.images_per_id is 3 there, 4 now \(--images\)"),
    "another format": (
        lambda old: asked("imagefolder", 6), OutputFolderError, r'format is "webdataset" there, "imagefolder" now',
    ),
    "another setting": (
        lambda old: replace(asked("webdataset", 6), settings={"seed": 3, "model": {"name": "b"}, "people": {}}),
        OutputFolderError, r'settings.model.name is absent there, "b" now \(--model\)',
    ),
    "as many": (lambda old: asked("webdataset", 4), ConfigError, "grows to more, found 4"),
    "fewer": (lambda old: asked("webdataset", 3), ConfigError, "grows to more, found 3"),
    "another digit": (
        lambda old: asked("webdataset", 1_000_001), ConfigError, "names of 7 digits, those that are there have 6",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(tmp_path, case):
    make, error, words = REFUSED[case]
    write(tmp_path, "webdataset", 4)
    old, before = Manifest.load(tmp_path / "manifest.json"), tree(tmp_path)
    with pytest.raises(error, match=words):
        grow.grown(old, make(old), may_differ=lambda name: "people" in name)
    assert tree(tmp_path) == before


def test_without_being_asked_to_a_set_does_not_grow(tmp_path):
    write(tmp_path, "webdataset", 4)
    before = tree(tmp_path)
    with pytest.raises(
        OutputFolderError, match=r"plan.identities is 4 there, 6 now.* With --extend a finished set grows"
    ):
        write(tmp_path, "webdataset", 6)
    assert tree(tmp_path) == before


def test_a_disk_without_room_is_said_before_anything_changes(tmp_path, monkeypatch):
    write(tmp_path, "lmdb", 4)
    before = tree(tmp_path)
    monkeypatch.setattr(grow.disk, "free_bytes", lambda folder: 1000)
    with pytest.raises(
        DiskFull, match=r"6 more images need about .* being written anew; 1.0 kB are free.*nothing was"
    ):
        extend(tmp_path, "lmdb", 6)
    assert tree(tmp_path) == before


def test_room_for_the_images_alone_is_not_enough(tmp_path, monkeypatch):
    """Index, table and contact sheet are written anew beside the old ones; without them it stopped half-way."""
    write(tmp_path, "webdataset", 4)
    old, before = Manifest.load(tmp_path / "manifest.json"), tree(tmp_path)
    held = sum(piece.bytes for shard in old.shards for piece in shard.pieces)
    monkeypatch.setattr(grow.disk, "free_bytes", lambda folder: int(held / 12 * 6))
    with pytest.raises(DiskFull, match="nothing was changed"):
        extend(tmp_path, "webdataset", 6)
    assert tree(tmp_path) == before


def test_recordio_says_where_its_keys_would_change():
    from v2f_engine.data.formats import get_format

    small, large = Plan(1000, 10_000, 1000), Plan(2000, 10_000, 1000)
    with pytest.raises(
        ConfigError, match="each of the 10,000,000 images that are there would get another key"
    ):
        get_format("recordio").refuse_growth(small, large)
    get_format("recordio").refuse_growth(Plan(10, 10, 2), Plan(20, 10, 2))


@given(
    sizes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 9)), min_size=1, max_size=5),
    remembered=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_shards_of_a_grown_plan_are_those_that_were_planned(sizes, remembered):
    """Numbers without gaps, everybody once and in order; no shard of an earlier size ever changes."""
    plan = Plan(sizes[0][0], 2, sizes[0][1])
    for more, per_shard in sizes[1:]:
        earlier = plan
        plan = earlier.extended(earlier.identities + more, per_shard, remembered=remembered)
        old = [earlier.shard(number) for number in range(earlier.shards)]
        assert [plan.shard(number) for number in range(earlier.shards)] == old
        assert remembered is False or plan.shards_with(earlier.shards - 1) == earlier.shards
    people = [one for number in range(plan.shards) for one in plan.shard(number).identities]
    assert people == list(range(plan.identities))
    assert all(plan.shard(number).number == number for number in range(plan.shards))
    with pytest.raises(ConfigError, match="does not exist"):
        plan.shard(plan.shards)
    loaded = Manifest("null", {}, plan, {}, {}).to_bytes()
    assert Manifest.from_bytes(loaded, "here").plan == plan


def test_a_plan_of_full_shards_is_the_plan_made_at_once():
    assert Plan(10, 3, 5).extended(23) == Plan(23, 3, 5)
    assert Plan(10, 3, 5).extended(23, remembered=True).before == ((10, 5),)
    assert Plan(11, 3, 5).extended(23).before == ((11, 5),)
    assert Plan(10, 3, 5).extended(20).extended(30, 6).before == ((20, 5),)


def test_a_small_set_grows_in_shards_of_a_usual_size():
    """Its one shard was as small as the set; two thousand more people are not two thousand shards."""
    old = replace(asked("webdataset", 2), plan=Plan(2, 3, 2))
    plan = grow.grown(old, asked("webdataset", 2000), may_differ=lambda name: "people" in name).plan
    assert plan.identities_per_shard == Plan.of(2000, 3).identities_per_shard
    assert plan.before == ((2, 2),)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ('"grown": [{"at":1}]', "grown"),
        ('"before":[[3]]', "pairs of whole numbers"),
        ('"before":[[9,1]]', "rise to 4"),
    ],
)
def test_hostile_records_are_refused(tmp_path, where, words):
    write(tmp_path, "webdataset", 4)
    text = (tmp_path / "manifest.json").read_text()
    if "before" in where:
        text = text.replace('"identities":4,', f'{where},"identities":4,', 1)
    else:
        text = text.replace('"files": [', f'{where},\n"files": [', 1)
    with pytest.raises(DatasetError, match=words):
        Manifest.from_bytes(text.encode(), "here")
    value = grown_records.Grown(1, 1, 1, "no", "then").to_json()
    with pytest.raises(DatasetError, match="64 hexadecimal"):
        grown_records.Grown.from_json(value, "here")


def harness(format, steps, moments, seed):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "OMP_NUM_THREADS": "1"}
    script = str(Path(__file__).with_name("growth_harness.py"))
    command = [sys.executable, script, format, str(steps), str(moments), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["unequal"] == 0, (outcome, done.stderr)
    assert outcome["torn"] == 0, outcome
    return outcome


def test_killed_growth_resumes_to_the_same_bytes():
    outcome = harness("lmdb", steps=10, moments=0, seed=1)
    assert outcome["kills"] == 10
    assert min(outcome["old"], outcome["unfinished"]) > 0, outcome


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_growth_killed_at_every_operation(format):
    outcome = harness(format, steps=0, moments=40, seed=1)
    assert outcome["points"] == outcome["operations"]
    assert min(outcome["old"], outcome["unfinished"], outcome["new"]) > 0
