"""Vec2Face.from_pretrained, save_pretrained and push_to_hub: a local folder, and a Hub that stands on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_hub import FakeHub
from safetensors import safe_open

import v2f_engine as v2f
from v2f_engine.errors import ConfigError, ModelNotFound, OutputFolderError


def test_a_folder_goes_round(tmp_path: Path) -> None:
    network = v2f.Vec2Face.from_pretrained("mini")
    network.save_pretrained(tmp_path / "mine")
    again = v2f.Vec2Face.from_pretrained(tmp_path / "mine")
    assert not again.training
    assert again.config == network.config
    for name, value in network.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    with safe_open(tmp_path / "mine/model.safetensors", "pt") as file:
        assert "decoder_pos_embed_learned" in set(file.keys())  # the published names
    assert json.loads((tmp_path / "mine/config.json").read_text()) == network.config.to_json()
    card = (tmp_path / "mine/README.md").read_text()
    assert "license: cc0-1.0" in card
    assert again.origin["source_sha256"] == network.origin["source_sha256"]
    assert network.origin["source_sha256"] in card
    with pytest.raises(OutputFolderError, match="nothing is replaced"):
        again.save_pretrained(tmp_path / "mine")


def test_the_engine_makes_the_same_faces_of_it(tmp_path: Path) -> None:
    v2f.Vec2Face.from_pretrained("mini").save_pretrained(tmp_path / "mine")
    ours = v2f.Engine.load("mini", compute_batch=2)
    theirs = v2f.Engine.load(tmp_path / "mine", compute_batch=2)
    people = theirs.sample_identities(2, seed=1)
    assert np.array_equal(next(ours.images(people, 1)).images, next(theirs.images(people, 1)).images)


def test_up_and_down_and_never_unasked(hub: FakeHub) -> None:
    network = v2f.Vec2Face.from_pretrained("mini")
    network.push_to_hub("ada/faces")
    with pytest.raises(ModelNotFound, match="fetch=True"):
        v2f.Vec2Face.from_pretrained("ada/faces")
    again = v2f.Vec2Face.from_pretrained("ada/faces", fetch=True)
    assert torch.equal(
        again.token_emb.position_embeddings.weight, network.token_emb.position_embeddings.weight
    )
    with pytest.raises(ModelNotFound):
        v2f.Vec2Face.from_pretrained("ada/nothing", fetch=True)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ConfigError, match="revision"):
        v2f.Vec2Face.from_pretrained("mini", revision="main")
    with pytest.raises(ConfigError, match="model"):
        v2f.Vec2Face.from_pretrained(3)  # type: ignore[arg-type]
