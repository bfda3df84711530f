"""ONNX export and its runner on a small network: everything but size."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch

from v2f_engine.data.formats import open_dataset
from v2f_engine.errors import AccuracyLoss, ArtefactError, BackendUnavailable, ConfigError
from v2f_engine.export.graph import image_bytes
from v2f_engine.export.onnx import export_onnx
from v2f_engine.export.parity import Judge
from v2f_engine.export.verify import verify
from v2f_engine.models import registry
from v2f_engine.models.features import extract_features
from v2f_engine.models.mask_schedule import MASK_SCHEDULES
from v2f_engine.models.weights import load_generator, load_recogniser
from v2f_engine.pipeline import Engine, generate
from v2f_engine.runtime.artefact import open_artefact, read_sidecar, served_model, sidecar_path
from v2f_engine.runtime.onnx import OnnxSession
from v2f_engine.vectors.sampling import sample_identities
from v2f_engine.vectors.statistics import fit_statistics, save_statistics


def opsets(model: onnx.ModelProto) -> set[int]:
    """Versions of ONNX's own operators that a model asks for."""
    return {entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")}


def test_the_file_says_what_it_is_and_verifies(small_export: Path) -> None:
    model = onnx.load(small_export)
    assert opsets(model) == {20}
    told = {entry.key: entry.value for entry in model.metadata_props}
    sidecar = read_sidecar(small_export)
    assert told["v2f.sha256"] == sidecar.model["sha256"]
    assert told["v2f.licence"] == "unknown"
    assert sidecar.built_with["opset"] == "20"
    assert json.loads(told["v2f.config"])["width"] == 48
    assert [tensor.type.tensor_type.elem_type for tensor in model.graph.output] == [onnx.TensorProto.UINT8]
    assert all(tensor.type.tensor_type.shape.dim[0].dim_param for tensor in model.graph.input)
    assert sidecar.accuracy["max_grey"] <= 1
    assert sidecar.accuracy["spread"] > 5.0
    found = verify(small_export)
    assert not found.left
    assert any("onnxruntime" in words for words in found.passed)


def test_images_are_the_eager_runners_within_one_grey_level(small_weights: Path, small_export: Path) -> None:
    table = sample_identities(3, seed=5, source="gaussian")
    options = {"device": "cpu", "precision": "fp32", "compute_batch": 4}
    eager = next(iter(Engine.load(small_weights, runner="eager", **options).images(table, 5, batch_size=15)))
    served = next(iter(Engine.load(small_export, **options).images(table, 5, batch_size=15)))
    assert np.abs(eager.images.astype(int) - served.images).max() <= 1
    assert eager.images.std() > 5.0
    np.testing.assert_array_equal(eager.attributes["sigma"], served.attributes["sigma"])


def test_bytes_do_not_depend_on_the_batch_asked_for(small_export: Path) -> None:
    engine = Engine.load(small_export, compute_batch=4)
    table = sample_identities(3, seed=5, source="gaussian")
    made = [
        np.concatenate([b.images for b in engine.images(table, 5, batch_size=size)]) for size in (1, 7, 64)
    ]
    for images in made[1:]:
        np.testing.assert_array_equal(images, made[0])


def test_generate_with_runner_onnx_exports_once_and_gives_eagers_dataset(
    small_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from v2f_engine.export import onnx as exporter

    monkeypatch.setattr(registry, "models_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(exporter, "models_folder", lambda: tmp_path / "cache")
    options = {"model": small_weights, "source": "gaussian", "precision": "fp32", "compute_batch": 4}
    generate(2, 3, tmp_path / "eager", runner="eager", **options)
    generate(2, 3, tmp_path / "onnx", runner="onnx", **options)
    (kept,) = (tmp_path / "cache" / "exported").glob("*.onnx")
    stamp = kept.stat().st_mtime_ns
    again = generate(2, 3, tmp_path / "onnx", runner="onnx", **options)
    assert again.written == 0
    assert kept.stat().st_mtime_ns == stamp
    pictures = [
        np.concatenate([batch.images for batch in open_dataset(tmp_path / name).batches(6)])
        for name in ("eager", "onnx")
    ]
    # One grey level before the JPEG (tested above); quality 95 rounds coefficients to steps of 2 to 10.
    off = np.abs(pictures[0].astype(int) - pictures[1])
    assert np.mean(off <= 1) > 0.99
    assert off.mean() < 0.05
    manifest = json.loads((tmp_path / "onnx" / "manifest.json").read_text())
    assert "onnxruntime" in json.dumps(manifest)


def test_opset_21_keeps_group_normalization_and_the_decoder_alone_is_refused_for_generation(
    small_weights: Path, tmp_path: Path
) -> None:
    made = export_onnx(small_weights, tmp_path / "decoder.onnx", part="decoder", opset=21, check_images=4)
    model = onnx.load(made.path)
    assert opsets(model) == {21}
    assert made.sidecar.built_with["opset"] == read_sidecar(made.path).built_with["opset"] == "21"
    kinds = {node.op_type for node in model.graph.node}
    assert "GroupNormalization" in kinds
    assert "InstanceNormalization" not in kinds
    assert made.parity is not None
    assert made.parity.max_grey <= 1
    with pytest.raises(ConfigError, match="decoder alone"):
        Engine.load(made.path)


def test_the_tail_of_a_half_precision_graph_is_fp32(small_weights: Path, tmp_path: Path) -> None:
    """From the last convolution on: (x + 1) * 127.5 has steps of an eighth of a grey level in fp16."""
    made = export_onnx(
        small_weights, tmp_path / "h.onnx", part="decoder", precision="fp16", check_images=4, force=True
    )
    inferred = onnx.shape_inference.infer_shapes(onnx.load(made.path), strict_mode=True).graph
    types = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    tail = [node for node in inferred.node if node.op_type in ("Round", "Clip", "Where", "IsInf")]
    assert {node.op_type for node in tail} >= {"Round", "Clip"}
    for node in tail:
        assert types[node.output[0]] in (onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL), node
    (round_node,) = (node for node in tail if node.op_type == "Round")
    before = {output: node for node in inferred.node for output in node.output}
    chain, name = [], round_node.input[0]
    while name in before and before[name].op_type != "Conv":
        chain.append(before[name].op_type)
        name = next(i for i in before[name].input if i in before)
    assert before[name].op_type == "Conv"
    assert chain[-1] == "Cast"  # straight behind the convolution, before its bias


def test_the_tail_is_exact_for_every_half_number() -> None:
    """A decoder that passes numbers on: three channels of the multiples of 2^-11 in [-1.25, 1.25], and a bias."""
    numbers = torch.arange(-2560, 2560).double() / 2048
    x = torch.stack([numbers, -numbers, numbers.flip(0)]).view(1, 3, 64, 80).half()
    delta = torch.zeros(3, 3, 3, 3)
    delta[range(3), range(3), 1, 1] = 1.0
    bias = torch.tensor([0.25, -0.125, 0.0625])
    decoder = SimpleNamespace(
        ops=(lambda x, *rest: x,), trunk=lambda x: x, groups=1,
        norm_out=SimpleNamespace(weight=None, bias=None),
        conv_out=SimpleNamespace(weight=delta.half(), bias=bias.half()),
    )  # fmt: skip
    found = image_bytes(decoder, x)  # type: ignore[arg-type]
    levels = ((x.double() + bias.double()[:, None, None]).clamp(-1, 1) + 1) * 127.5
    assert torch.equal(found, levels.round().permute(0, 2, 3, 1).to(torch.uint8))
    broken = x.clone()
    broken[0, 0, 0, 0], broken[0, 1, 0, 1] = float("nan"), float("inf")
    assert image_bytes(decoder, broken)[0, 0, [0, 1], [0, 1]].tolist() == [0, 0]  # type: ignore[arg-type]


def test_bf16_is_typed_measured_in_torch_and_refused_by_the_cpu_runner(
    small_weights: Path, tmp_path: Path
) -> None:
    made = export_onnx(
        small_weights, tmp_path / "b.onnx", part="decoder", precision="bf16", check_images=4, force=True
    )
    weights = {t.data_type for t in onnx.load(made.path).graph.initializer if len(t.dims) == 4}
    assert weights == {onnx.TensorProto.BFLOAT16}
    assert made.parity is not None
    assert "not the graph itself" in made.parity.measured_with
    with pytest.raises(BackendUnavailable, match="bf16"):
        OnnxSession(made.path)


def test_an_export_that_changes_the_people_is_refused_unless_forced(
    small_weights: Path, tmp_path: Path
) -> None:
    loaded = load_generator(small_weights)
    judge = Judge.of(loaded, load_recogniser("mini"), MASK_SCHEDULES["generate"], images=4)
    images = judge.images.copy()
    images[:, 40:72] = 255 - images[:, 40:72]
    features = extract_features(judge.recogniser.model, images)
    other = Judge(judge.inputs, judge.grids, images, features, judge.recogniser)
    with pytest.raises(AccuracyLoss, match="mean identity cosine"):
        export_onnx(loaded, tmp_path / "x.onnx", part="decoder", judge=other)
    assert list(tmp_path.iterdir()) == []
    lost = other.compare(judge.images, "by hand")
    assert lost.mean_cosine < 0.995
    lost.require("x", force=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"part": "encoder"}, "generator"),
        ({"precision": "int4"}, "fp32"),
        ({"opset": 17}, "opset 17"),
        ({"masks": "generat"}, "generate"),
        ({"out": "model.bin"}, ".onnx"),
    ],
)
def test_bad_options_are_named(
    small_weights: Path, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    options: dict[str, object] = {"out": tmp_path / "m.onnx", **change}
    with pytest.raises(ConfigError, match=words):
        export_onnx(small_weights, **options)  # type: ignore[arg-type]


def test_other_masks_than_the_files_are_refused(small_export: Path) -> None:
    with pytest.raises(ConfigError, match="drop 5 rows"):
        Engine.load(small_export, masks="plus-generate")
    with pytest.raises(ConfigError, match="exported in fp32"):
        Engine.load(small_export, precision="bf16")
    with pytest.raises(ConfigError, match="runner 'onnx'"):
        Engine.load(small_export, runner="eager")


def test_statistics_are_bound_by_the_sidecar_and_no_file_beside_decides(
    small_weights: Path, exported: Path, tmp_path: Path
) -> None:
    """An export says what its people are drawn from; a `statistics.safetensors` in its folder changes nobody."""
    rows = np.random.default_rng(0).normal(size=(600, 512)).astype(np.float32)
    foreign, own = fit_statistics([(0, rows * np.float32(1.1))]), fit_statistics([(0, rows)])
    save_statistics(exported.with_name("statistics.safetensors"), foreign)
    served = served_model(exported, open_artefact(exported))
    assert served.statistics == "gaussian"
    save_statistics(tmp_path / "own.safetensors", own)
    loaded = replace(load_generator(small_weights), statistics=tmp_path / "own.safetensors")
    (tmp_path / "bound").mkdir()
    export_onnx(loaded, tmp_path / "bound" / "m.onnx", check_images=0)
    save_statistics(tmp_path / "bound" / "statistics.safetensors", foreign)
    place = tmp_path / "bound" / "m.onnx.statistics.safetensors"
    engine = Engine.load(tmp_path / "bound" / "m.onnx")
    assert (engine.people.source.name, engine.people.source.sha256) == ("own.safetensors", own.sha256)
    assert engine.sample_identities(2).provenance["source_sha256"] == own.sha256
    save_statistics(place, foreign)
    with pytest.raises(ArtefactError, match=r"statistics\.safetensors: has sha256 .* Refused"):
        open_artefact(tmp_path / "bound" / "m.onnx")
    place.unlink()
    with pytest.raises(ArtefactError, match=r"which belongs to it, is missing"):
        open_artefact(tmp_path / "bound" / "m.onnx")


def test_an_export_of_before_says_that_nothing_is_bound(exported: Path, tmp_path: Path) -> None:
    record = json.loads(sidecar_path(exported).read_text())
    del record["model"]["statistics"]
    sidecar_path(exported).write_text(json.dumps(record))
    assert served_model(exported, open_artefact(exported)).statistics is None
    with pytest.raises(ArtefactError, match=r"Export it again, or name a source: --source gaussian"):
        generate(2, 1, tmp_path / "out", model=exported)
    assert generate(2, 1, tmp_path / "out", model=exported, source="gaussian").people.startswith(
        "gaussian, sha256"
    )
