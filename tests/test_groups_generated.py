"""A set of a mix of groups says whose image is of which group, and its manifest tells the mix again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_networks import SMALL, generator

from v2f_engine.cli.show.files import file
from v2f_engine.data import open_dataset
from v2f_engine.data.layout import IDENTITIES
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.errors import ConfigError
from v2f_engine.models.weights import save_weights
from v2f_engine.pipeline import Engine, generate
from v2f_engine.pipeline.replay import options_of
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.labelled import fit_groups, save_labelled
from v2f_engine.vectors.people import People
from v2f_engine.vectors.sources import find_source

GIVEN: Mapping[str, Any] = {"device": "cpu", "compute_batch": 4, "images_per_shard": 4}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("groups")
    weights, source = root / "small.safetensors", root / "grouped.safetensors"
    save_weights(
        weights, {"model": generator()}, {"kind": "vec2face", "config": SMALL.to_json()}, precision="fp32"
    )
    rows = np.random.default_rng(0).standard_normal((60, 512)).astype(np.float32)
    save_labelled(
        source,
        fit_groups([(0, rows)], ["old", "young"] * 30, column="age", covariance="pooled", components=32),
    )
    generate(5, 2, root / "set", model=weights, source=source, mix="young:3,old:2", **GIVEN)
    return {"weights": weights, "source": source, "set": root / "set", "root": root}


def test_each_image_and_each_person_says_its_group(places: dict[str, Path]) -> None:
    table = Identities.load(places["set"] / IDENTITIES)
    assert table.groups == ["young", "old", "young", "old", "young"]
    told = open_dataset(places["set"]).attributes()
    assert told is not None
    assert told["group"].tolist() == table.group[told["identity"]].tolist()  # type: ignore[index]
    asked = Manifest.load(places["set"] / "manifest.json").settings["identities"]
    assert asked["mix"] == {"column": "age", "groups": ["old", "young"], "parts": [2, 3]}
    assert asked["groups"] == {"old": 2, "young": 3}
    card = (places["set"] / "README.md").read_text()
    assert "| 0 | old | 2 | 4 |" in card
    assert "| 1 | young | 3 | 6 |" in card


def test_the_table_alone_gives_the_same_images(places: dict[str, Path]) -> None:
    """As `--config manifest.json` does where the source's file is not named again."""
    table = Identities.load(places["set"] / IDENTITIES)
    generate(None, 2, places["root"] / "again", model=places["weights"], identities=table, **GIVEN)
    one, other = open_dataset(places["set"]), open_dataset(places["root"] / "again")
    assert np.array_equal(one.images(range(10)), other.images(range(10)))
    assert Manifest.load(places["root"] / "again/manifest.json").settings == one.manifest.settings  # type: ignore[union-attr]


def test_a_manifest_tells_its_mix(places: dict[str, Path]) -> None:
    manifest = Manifest.load(places["set"] / "manifest.json")
    found = options_of(manifest, places["set"], {"model"})
    assert found["vectors"] == str(places["set"] / IDENTITIES)
    assert "mix" not in found
    named = options_of(manifest, places["set"], {"model", "source"})
    assert "vectors" not in named
    assert (named["mix"], named["ids"]) == ("old:2,young:3", 5)


def test_a_set_without_groups_has_no_word_of_them(places: dict[str, Path]) -> None:
    out = places["root"] / "plain"
    generate(2, 1, out, model=places["weights"], source="gaussian", **GIVEN)
    told = open_dataset(out).attributes()
    assert "group" not in (told.dtype.names or ())  # type: ignore[union-attr]
    assert not {"mix", "groups"} & set(Manifest.load(out / "manifest.json").settings["identities"])
    assert "## Groups" not in (out / "README.md").read_text()


def test_a_mix_beside_vectors_is_refused(places: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="mix .* and given identities .* exclude each other"):
        generate(None, 1, places["root"] / "no", identities=np.ones((1, 512), np.float32), mix="old:1")
    with pytest.raises(ConfigError, match="has no groups"):
        generate(2, 1, places["root"] / "no", model=places["weights"], source="gaussian", mix="old:1")


def test_files_with_groups_say_so(places: dict[str, Path]) -> None:
    shown = dict(file(places["source"]).lines)
    assert shown["groups"] == "old 30, young 30"
    assert dict(file(places["set"] / IDENTITIES).lines)["groups"] == "old 2, young 3"


def test_the_engine_samples_in_the_mix_that_it_is_given(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine.load(places["weights"], device="cpu", compute_batch=4)
    monkeypatch.setattr(Engine, "people", People("small", find_source(places["source"]), True, 0.9))
    for mix, groups in (("old:1,young:3", ["old", *["young"] * 3]), ("old:1", ["old"] * 4)):
        table = engine.sample_identities(4, mix=mix)
        assert table.groups is not None
        assert sorted(table.groups) == groups
