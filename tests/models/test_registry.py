"""Models by name: embedded and checked against its card, published and never fetched unasked, or a path."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from v2f_engine.errors import CheckpointError, MissingDependency, ModelNotFound, V2FWarning
from v2f_engine.models import registry
from v2f_engine.models.iresnet import IResNet, IResNetConfig
from v2f_engine.models.pose import PoseModel
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig
from v2f_engine.models.weights import load_generator, load_recogniser, save_weights
from v2f_engine.train.embed import embed_pose

SMALL = IResNetConfig((1, 1, 1, 1), (8, 8, 8, 8), stem_stride=2, feature_dim=16)
TINY = Vec2FaceConfig(
    width=16,
    encoder_blocks=1,
    encoder_heads=2,
    decoder_blocks=1,
    decoder_heads=2,
    z_channels=8,
    base_channels=8,
    norm_groups=4,
)


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "mini"
    folder.mkdir()
    torch.manual_seed(0)
    models = {
        "generator": (Vec2Face(TINY), {"kind": "vec2face", "config": TINY.to_json()}),
        "recogniser": (IResNet(SMALL), {"kind": "iresnet", "config": SMALL.to_json()}),
    }
    for name, (model, head) in models.items():
        save_weights(folder / f"{name}.safetensors", {"model": model}, head, precision="fp16")
    registry.write_card(folder, "CC0-1.0", {"steps": 5})
    monkeypatch.setattr(registry, "MINI", folder)
    return folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setattr(Path, "home", lambda: folder)
    return folder


def test_mini_is_embedded(mini: Path) -> None:
    generator, recogniser = load_generator("mini"), load_recogniser("mini")
    assert (generator.name, generator.licence) == ("mini", "CC0-1.0")
    assert generator.config == TINY
    assert generator.statistics == mini / "statistics.safetensors"
    assert generator.sha256 == hashlib.sha256((mini / "generator.safetensors").read_bytes()).hexdigest()
    assert recogniser.config == SMALL
    assert recogniser.model(torch.zeros(1, 3, 112, 112)).shape == (1, 16)


def test_the_pose_model_is_embedded_beside_its_generator(mini: Path, tmp_path: Path) -> None:
    lora = dataclasses.replace(TINY, lora_rank=2, lora_alpha=4.0)
    head = {"kind": "vec2face", "config": lora.to_json(), "training": {"steps": 3}}
    models = {"model": Vec2Face(lora), "pose": PoseModel(lora.width)}
    save_weights(tmp_path / "pose.safetensors", models, head)
    embed_pose(mini, tmp_path / "pose.safetensors", {"people": 2})
    found = load_generator("mini-pose")
    assert (found.name, found.licence, found.config) == ("mini-pose", "CC0-1.0", lora)
    assert found.pose is not None
    assert found.statistics == mini / "statistics.safetensors"
    card = json.loads((mini / registry.CARD).read_text())
    assert (card["steps"], card["pose_model"]) == (5, {"people": 2, "training": {"steps": 3}})
    assert load_generator("mini").pose is None


def test_an_embedded_file_must_be_the_one_on_its_card(mini: Path) -> None:
    content = bytearray((mini / "generator.safetensors").read_bytes())
    content[-1] ^= 1
    (mini / "generator.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"its card says .*Reinstall"):
        load_generator("mini")


@pytest.mark.parametrize("card", ["{", '{"files": {}}', "[]"])
def test_damaged_card(mini: Path, card: str) -> None:
    (mini / registry.CARD).write_text(card)
    with pytest.raises(CheckpointError, match=r"card\.json: is damaged"):
        load_generator("mini")


def test_installation_without_mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "MINI", tmp_path / "absent")
    with pytest.raises(ModelNotFound, match="embedded generator is not in this installation"):
        load_generator("mini")


@pytest.mark.parametrize(
    ("name", "repository", "file"),
    [
        ("vec2face", "BooBooWu/Vec2Face", "weights/vec2face_generator.pth"),
        ("vec2face-plus", "BooBooWu/Vec2Face_plus", "vec2face_plus/main_model.pth"),
        ("vec2face-plus-pose", "BooBooWu/Vec2Face_plus", "vec2face_plus/pose_model.pth"),
    ],
)
def test_published_weights_that_are_not_here(name: str, repository: str, file: str, home: Path) -> None:
    with pytest.raises(ModelNotFound) as caught:
        load_generator(name)
    message = str(caught.value)
    place = home / ".cache" / "v2f_engine" / Path(file).name
    assert f"https://huggingface.co/{repository}" in message
    assert f"Download {file}" in message
    assert f"place it at {place}" in message
    assert "fetch=True" in message


def test_published_weights_are_found_where_the_message_says(home: Path) -> None:
    folder = home / ".cache" / "v2f_engine"
    folder.mkdir(parents=True)
    config = IResNetConfig((1, 1, 1, 1), (8, 8, 8, 8), feature_dim=8)
    torch.save(IResNet(config).state_dict(), folder / "arcface-r100-glint360k.pth")
    loaded = load_recogniser("arcface-r100-glint360k")
    assert (loaded.name, loaded.licence, loaded.config) == ("arcface-r100-glint360k", "MIT", config)


def test_fetching_is_asked_of_huggingface_hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repo_id: str, filename: str, local_dir: Path) -> str:
        asked.append((repo_id, filename))
        path = Path(local_dir) / filename
        path.parent.mkdir(parents=True)
        torch.save(IResNet(IResNetConfig((1,) * 4, (8,) * 4, feature_dim=8)).state_dict(), path)
        return str(path)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=download))
    with pytest.raises(ModelNotFound):
        load_recogniser("arcface-r100-glint360k")
    assert asked == []
    load_recogniser("arcface-r100-glint360k", fetch=True)
    assert asked == [("BooBooWu/Vec2Face", "weights/arcface-r100-glint360k.pth")]
    load_recogniser("arcface-r100-glint360k")  # now it is here
    assert len(asked) == 1


def test_fetching_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(**_: object) -> str:
        raise ConnectionError("Name or service not known\nlong traceback text")

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=download))
    with pytest.raises(ModelNotFound, match=r"ConnectionError: Name or service not known\). Download it"):
        load_generator("vec2face", fetch=True)


def test_fetching_without_huggingface_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependency, match=r"pip install .*\[hub\]"):
        load_generator("vec2face", fetch=True)


@pytest.mark.parametrize(
    ("name", "hint"), [("minni", "'mini'"), ("vec2fase", "'vec2face'"), ("nowhere/model.pth", "Known: mini")]
)
def test_unknown_names(name: str, hint: str) -> None:
    with pytest.raises(ModelNotFound, match=hint):
        load_generator(name)


def test_statistics_beside_a_file_count_if_a_card_says_that_they_belong_to_it(tmp_path: Path) -> None:
    head = {"kind": "vec2face", "config": TINY.to_json()}
    weights, beside = tmp_path / "generator.safetensors", tmp_path / "statistics.safetensors"
    save_weights(weights, {"model": Vec2Face(TINY)}, head)
    assert load_generator(weights).statistics == "gaussian"
    beside.write_bytes(b"somebody's")
    with pytest.warns(V2FWarning, match=r"lies beside generator.safetensors, but no card.json"):
        assert load_generator(str(weights)).statistics == "gaussian"
    registry.write_card(tmp_path, "CC0-1.0", {})
    loaded = load_generator(weights)
    assert (loaded.statistics, loaded.name, loaded.licence) == (beside, "generator", "unknown")
    beside.write_bytes(b"another's!")
    with pytest.warns(V2FWarning, match="lies beside"):
        assert load_generator(weights).statistics == "gaussian"


def test_a_copy_of_the_embedded_weights_has_their_statistics(mini: Path, tmp_path: Path) -> None:
    (mini / "statistics.safetensors").write_bytes(b"embedded")
    registry.write_card(mini, "CC0-1.0", {})
    copy = tmp_path / "elsewhere.safetensors"
    copy.write_bytes((mini / "generator.safetensors").read_bytes())
    assert load_generator(copy).statistics == mini / "statistics.safetensors"
