"""Exported files that are not what they say: each is refused by name before a library reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from v2f_engine.errors import ArtefactError, ModelNotFound
from v2f_engine.export.verify import verify
from v2f_engine.pipeline import Engine
from v2f_engine.runtime.artefact import open_artefact, sha256_of, sidecar_path


def rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    told = json.loads(sidecar_path(path).read_text())
    change(told)
    sidecar_path(path).write_text(json.dumps(told))


def rehashed(path: Path) -> None:
    """A forger's work: the sidecar says what the changed file is."""
    rewritten(path, lambda told: told["files"].update({path.name: sha256_of(path)}))


def refused(path: Path, words: str) -> None:
    for opened in (open_artefact, Engine.load, verify):
        with pytest.raises(ArtefactError, match=words):
            opened(path)


def test_one_flipped_bit(exported: Path) -> None:
    content = bytearray(exported.read_bytes())
    content[len(content) // 2] ^= 1
    exported.write_bytes(content)
    refused(exported, "sha256")


def test_truncated(exported: Path) -> None:
    exported.write_bytes(exported.read_bytes()[:-100])
    refused(exported, "truncated")


def test_truncated_and_rehashed(exported: Path) -> None:
    exported.write_bytes(exported.read_bytes()[:-100])
    rehashed(exported)
    for opened in (Engine.load, verify):
        with pytest.raises(ArtefactError, match="truncated"):
            opened(exported)


def test_not_onnx_at_all(exported: Path) -> None:
    exported.write_bytes(b"<html>not found</html>")
    rehashed(exported)
    with pytest.raises(ArtefactError, match=r"truncated or not ONNX|no graph"):
        Engine.load(exported)


def test_without_sidecar(exported: Path) -> None:
    sidecar_path(exported).unlink()
    refused(exported, "no sidecar")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda told: told.update(format=2), "format 2"),
        (lambda told: told.update(kind="tensorrt"), "not kept in"),
        (lambda told: told.update(part="encoder"), "damaged"),
        (lambda told: told.update(n_dropped=50), "damaged"),
        (lambda told: told.update(model={}), "which model"),
        (lambda told: told.update(files={"other.onnx": "0" * 64}), "Rename"),
        (lambda told: told.update(profiles=[[3, 2, 1]]), "not in order"),
        (lambda told: told.update(profiles="1,2,3"), "triples"),
        (lambda told: told.pop("accuracy"), "missing or unknown"),
        (lambda told: told["files"].update({"../../etc/passwd": "0" * 64}), "outside its folder"),
        (lambda told: told["files"].update({"gone.data": "0" * 64}), "missing"),
    ],
)
def test_sidecars_that_lie(exported: Path, change: Callable[[dict[str, Any]], None], words: str) -> None:
    rewritten(exported, change)
    refused(exported, words)


def test_a_sidecar_that_is_no_json(exported: Path) -> None:
    sidecar_path(exported).write_text("{")
    refused(exported, "is damaged")


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname", "elsewhere.bin"])
def test_external_data_outside_the_folder_or_unnamed(exported: Path, location: str) -> None:
    model = onnx.load(exported)
    tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    exported.write_bytes(model.SerializeToString())
    rehashed(exported)
    for opened in (Engine.load, verify):
        with pytest.raises(ArtefactError, match="Refused"):
            opened(exported)


def test_external_data_through_a_link_out_of_the_folder(exported: Path, tmp_path: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-secret.bin"
    outside.write_bytes(b"secret")
    (tmp_path / "weights.data").symlink_to(outside)
    rewritten(exported, lambda told: told["files"].update({"weights.data": sha256_of(outside)}))
    refused(exported, "outside its folder")


def test_operators_of_a_foreign_domain(exported: Path) -> None:
    model = onnx.load(exported)
    model.graph.node[0].domain = "com.example"
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    exported.write_bytes(model.SerializeToString())
    rehashed(exported)
    with pytest.raises(ArtefactError, match=r"com\.example"):
        Engine.load(exported)


def test_weights_that_the_graph_does_not_name(exported: Path) -> None:
    rewritten(exported, lambda told: told["model"].update(sha256="0" * 64))
    with pytest.raises(ArtefactError, match="disagree"):
        verify(exported)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no such file"):
        Engine.load(tmp_path / "model.onnx")
