"""`v2f generate --make 6 --keep 3`: what is kept are images of a run of six, whatever the shards."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from small_networks import SMALL, generator
from stub_judges import Cells, features_of, tree

from v2f_engine.batch import ImageBatch
from v2f_engine.data import open_dataset
from v2f_engine.data.layout import MANIFEST
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.errors import ConfigError, DatasetError, VectorError
from v2f_engine.models.registry import locate
from v2f_engine.models.weights import save_weights
from v2f_engine.pipeline import Engine, generate, repair
from v2f_engine.pipeline.replay import options_of
from v2f_engine.pipeline.selected import ChoiceOptions, Choosing
from v2f_engine.pipeline.shard_source import open_images
from v2f_engine.selection.judges import Judges
from v2f_engine.selection.rule import Rule
from v2f_engine.vectors.sampling import sample_identities

IDS, MAKE, KEEP = 3, 6, 3
HOW = {"source": "gaussian", "device": "cpu", "compute_batch": 4, "precision": "fp32", "seed": 5}
CHOICE = ChoiceOptions(MAKE, ("centre", "quality"), duplicate_cosine=0.9999)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    save_weights(
        path, {"model": generator()}, {"kind": "vec2face", "config": SMALL.to_json()}, precision="fp32"
    )
    return path


@pytest.fixture(scope="module")
def plain(small: Path) -> Path:
    generate(IDS, MAKE, small.with_name("plain"), model=small, **HOW)  # type: ignore[arg-type]
    return small.with_name("plain")


@pytest.fixture(scope="module")
def chosen(small: Path) -> Path:
    out = small.with_name("chosen")
    generate(IDS, KEEP, out, model=small, choice=CHOICE, images_per_shard=3, **HOW)  # type: ignore[arg-type]
    return out


def bytes_by_number(root: Path) -> dict[tuple[int, int], bytes]:
    """(identity, number among those made) -> encoded image."""
    data, table = open_dataset(root), open_dataset(root).attributes()
    assert table is not None
    numbers = table["source_image"] if "source_image" in (table.dtype.names or ()) else table["image"]
    rows = zip(data.labels.tolist(), numbers.astype(int).tolist(), strict=True)
    return {key: data.record(row)[0] for row, key in enumerate(rows)}


def test_the_kept_images_are_those_of_the_whole_run(plain: Path, chosen: Path) -> None:
    made, kept = bytes_by_number(plain), bytes_by_number(chosen)
    assert len(made) == IDS * MAKE
    assert len(kept) == IDS * KEEP
    assert all(made[key] == data for key, data in kept.items())
    table, whole = open_dataset(chosen).attributes(), open_dataset(plain).attributes()
    assert table is not None
    assert whole is not None
    rows = table["identity"].astype(int) * MAKE + table["source_image"].astype(int)
    for name in ("sigma", "cosine_to_centre", "n_masked", "failed"):
        assert np.array_equal(table[name], whole[name][rows]), name
    assert {"score_centre", "score_quality"} <= set(table.dtype.names or ())
    told, before = Manifest.load(chosen / MANIFEST), Manifest.load(plain / MANIFEST)
    assert told.settings["selection"]["make"] == MAKE
    assert told.settings["selection"]["recogniser"]["name"] == "mini"
    assert len(told.settings["selection"]["recogniser"]["sha256"]) == 64
    assert told.plan.images_per_id == KEEP
    assert "selection" not in before.settings, "a run that chooses nothing says nothing new"
    others = {name: value for name, value in told.settings.items() if name != "selection"}
    assert others == before.settings


def test_other_shards_a_kill_and_a_repair_give_the_same_bytes(
    small: Path, chosen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = tmp_path / "one"
    generate(IDS, KEEP, one, model=small, choice=CHOICE, images_per_shard=9, **HOW)  # type: ignore[arg-type]
    assert bytes_by_number(one) == bytes_by_number(chosen)

    class Killed(BaseException):
        pass

    real, seen = os.rename, [0]

    def rename(a: object, b: object, **how: object) -> None:
        seen[0] += "000001.jpg" in str(b) or "000001" in str(b)
        if seen[0] == 1:
            raise Killed
        real(a, b, **how)  # type: ignore[arg-type]

    again = tmp_path / "again"
    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, rename)
    with pytest.raises(Killed):
        generate(IDS, KEEP, again, model=small, choice=CHOICE, images_per_shard=3, **HOW)  # type: ignore[arg-type]
    monkeypatch.undo()
    assert not (again / MANIFEST).exists()
    report = generate(IDS, KEEP, again, model=small, choice=CHOICE, images_per_shard=3, **HOW)  # type: ignore[arg-type]
    assert report.written < IDS * KEEP
    assert tree(again) == tree(chosen)
    file = sorted(again.rglob("*.jpg"))[4]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    assert repair(again, model=str(small)) == (1,)
    assert tree(again) == tree(chosen)


def test_workers_make_the_same_images(small: Path, chosen: Path) -> None:
    """What a worker opens, from the manifest alone, any part of the people."""
    make = open_images(Manifest.load(chosen / MANIFEST), chosen, model=str(small))
    batches = list(make(range(1, 3)))
    assert np.concatenate([batch.identity for batch in batches]).tolist() == [1] * KEEP + [2] * KEEP
    assert np.concatenate([batch.image for batch in batches]).tolist() == [0, 1, 2] * 2
    table = open_dataset(chosen).attributes()
    assert table is not None
    for batch in batches:
        rows = table[np.isin(table["identity"], batch.identity)]
        assert batch.attributes["source_image"].tolist() == rows["source_image"].tolist()
        assert batch.attributes["score_centre"].tolist() == rows["score_centre"].tolist()


def test_the_manifest_is_replayed(small: Path, chosen: Path) -> None:
    options = options_of(Manifest.load(chosen / MANIFEST), chosen, ("model",))
    assert options["images"] == KEEP
    assert {name: options[name] for name in options if name == "make" or name.startswith("select")} == {
        "make": MAKE,
        "select": ["centre", "quality"],
        "select-duplicate-cosine": 0.9999,
        "select-recogniser": "mini",
        "select-quality-model": "quality",
    }


def test_what_is_kept_for_want_of_others_is_said(small: Path, tmp_path: Path) -> None:
    """A limit that nobody meets takes nothing away, so it must be heard of."""
    asked = ChoiceOptions(3, min_cosine=1.0)
    report = generate(2, 2, tmp_path / "set", model=small, choice=asked, **HOW)  # type: ignore[arg-type]
    assert report.chosen is not None
    assert (report.chosen.images, report.chosen.below, report.chosen.below_kept) == (6, 6, 4)
    assert "4 of them kept for want of others" in report.chosen.lines()[0]


def batches(ids: int, make: int, sizes: int) -> list[ImageBatch]:
    """Pictures of noise in batches that cut across people."""
    rng = np.random.default_rng(0)
    pictures = np.kron(rng.integers(0, 256, (ids * make, 4, 4, 3)), np.ones((28, 28, 1))).astype(np.uint8)
    identity, image = np.divmod(np.arange(ids * make), make)
    whole = ImageBatch(pictures, identity, image, {"failed": (image == 1).astype(np.float32)})
    return [whole[start : start + sizes] for start in range(0, ids * make, sizes)]


@pytest.mark.parametrize("make", [3, 7, 64, 70])
def test_people_are_chosen_from_whole_however_batches_cut_them(make: int) -> None:
    """Against a choice person by person; people of more images than a call, and of fewer."""
    asked, rule = ChoiceOptions(make), Rule(2)
    table = sample_identities(3, source="gaussian")
    found = {}
    for size in (1, 5, 64, 1000):
        made = batches(3, make, size)
        choosing = Choosing(asked, rule, Judges(Cells()))
        whole = list(choosing.chosen(made, table))
        assert np.concatenate([one.identity for one in whole]).tolist() == [0, 0, 1, 1, 2, 2]
        assert np.concatenate([one.image for one in whole]).tolist() == [0, 1] * 3
        done = [min(3 * make, 64 * call) // make for call in range(-(-3 * make // 64) + 1)]
        completed = [after - before for before, after in pairwise(done) if after > before]
        assert [len(one) for one in whole] == [2 * people for people in completed], (
            "a batch is a call's people"
        )
        kept = [one[first : first + 2] for one in whole for first in range(0, len(one), 2)]
        found[size] = [(one.attributes["source_image"].tolist(), one.images.tobytes()) for one in kept]
        tally = choosing.tally
        assert tally is not None
        assert (tally.people, tally.images, tally.kept, tally.failed) == (3, 3 * make, 6, 3)
    assert all(one == found[1] for one in found.values())
    pictures = batches(3, make, 1000)[0]
    for identity, (numbers, _) in enumerate(found[1]):
        mine = pictures.images[pictures.identity == identity]
        person = rule.person("she", np.arange(make), features=features_of(mine), failed=np.arange(make) == 1)
        choice = rule.choose(person)
        assert numbers == choice["image"][choice["kept"]].tolist()
        assert 1 not in numbers


def test_refusals(small: Path, chosen: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"7 images of each person are kept .* of 6 that are made"):
        generate(IDS, 7, tmp_path / "a", model=small, choice=CHOICE, **HOW)  # type: ignore[arg-type]
    assert not (tmp_path / "a").exists()
    with pytest.raises(ConfigError, match="by 'middle' is not known"):
        ChoiceOptions(6, ("middle",))
    with pytest.raises(ConfigError, match="make"):
        ChoiceOptions(0)
    other = tmp_path / "other.safetensors"
    other.write_bytes(locate("mini", "recogniser").path.read_bytes())
    mini, own = Engine.load("mini", device="cpu").loaded, ChoiceOptions(6, ("vector",), recogniser=other)
    with pytest.raises(ConfigError, match="features of 'mini'"):
        own.open(3, mini, "cpu")
    with pytest.raises(DatasetError, match=r"selection\.recogniser"):
        open_images(Manifest.load(chosen / MANIFEST), chosen, model=str(small), recogniser=str(other))
    manifest = Manifest.load(chosen / MANIFEST)
    for judge, option in (("recogniser", "--select-recogniser"), ("quality", "--select-quality-model")):
        told = manifest.settings["selection"]
        own_file = {**told, judge: {**told[judge], "name": "mine"}}
        named = replace(manifest, settings={**manifest.settings, "selection": own_file})
        with pytest.raises(DatasetError, match=f"chosen by 'mine', a file.*{option} FILE"):
            open_images(named, chosen, model=str(small))
    dead = Choosing(ChoiceOptions(6), Rule(2), Judges(Cells(answer=lambda f: f * 0 + 1)))
    with pytest.raises(VectorError, match="identity 0 and on.*one direction"):
        list(dead.chosen(batches(2, 6, 4), sample_identities(2, source="gaussian")))


def test_what_a_manifest_tells_of_a_choice_is_that_choice() -> None:
    for least, alike in ((0.3, 0.9), (None, 0.9), (0.3, None)):
        asked = ChoiceOptions(6, ("centre", "diversity"), least, alike, "cells")
        told = Choosing(asked, asked.rule(2), Judges(Cells())).describe()
        assert ChoiceOptions.from_manifest(told, recogniser="cells") == asked
