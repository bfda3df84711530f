"""The published and the embedded size: exported, checked, held against the fp32 eager runner, and built by the
real TensorRT-RTX builder, which needs no GPU. One test a size, so that nothing is exported twice."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from v2f_engine.errors import BackendUnavailable
from v2f_engine.export.onnx import export_onnx
from v2f_engine.export.parity import Judge, draw_inputs
from v2f_engine.export.quantise import quantise
from v2f_engine.export.tensorrt import BuildSettings, build_engine, export_engine
from v2f_engine.export.verify import verify
from v2f_engine.models.mask_schedule import MASK_SCHEDULES
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig
from v2f_engine.models.weights import LoadedModel, load_generator, load_recogniser
from v2f_engine.runtime import Inputs
from v2f_engine.runtime.tensorrt import FLAVOURS

NAMES = ("vectors", "noise", "n_masked")
MASKS = MASK_SCHEDULES["generate"]


@pytest.fixture
def base() -> Iterator[LoadedModel]:
    """The published size; its layers cost the same whatever they hold, so the weights are random."""
    with torch.no_grad():
        network = Vec2Face(Vec2FaceConfig.base()).eval()
        network.initialise(torch.Generator().manual_seed(0))
    yield LoadedModel(
        network, network.config, "base", Path("base"), "0" * 64, "none", "gaussian", None, {}, 0.3
    )
    del network
    gc.collect()


def run_exactly(path: Path, rows: Inputs) -> tuple[np.ndarray, np.ndarray]:
    """(images uint8, the same floats `[B, 3, 112, 112]` just before clipping and rounding) of one session: the
    file's own graph with one more output."""
    import onnxruntime

    model = onnx.load(path)
    (clip,) = (node for node in model.graph.node if node.op_type == "Clip")
    model.graph.output.append(onnx.helper.make_tensor_value_info(clip.input[0], onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    images, values = session.run(["images", clip.input[0]], dict(zip(NAMES, rows, strict=True)))
    return images, values


def held_against_the_network(path: Path, loaded: LoadedModel, rows: Inputs) -> None:
    """Against the trained (not folded) network in fp32: relative to its norm, and in grey levels."""
    with torch.inference_mode():
        exact = loaded.model(*(torch.from_numpy(part) for part in rows), MASKS.n_dropped).images.numpy()
    images, values = run_exactly(path, rows)
    assert np.linalg.norm(values - exact) < 1e-4 * np.linalg.norm(exact)
    grey = np.round((exact.clip(-1, 1) + 1) * 127.5).transpose(0, 2, 3, 1)
    assert np.abs(images - grey).max() <= 1
    assert grey.std() > 20


def rtx(source: Path, out: Path, **settings: Any) -> None:
    made = export_engine("tensorrt-rtx", source, out, settings=BuildSettings(**settings))
    assert made.sidecar.profiles == ((1, 64, 256),)
    assert made.bytes > 1e5
    found = verify(out)
    assert any("built by this tensorrt_rtx" in words for words in found.passed)


def test_mini_generator(tmp_path: Path) -> None:
    loaded = load_generator("mini")
    judge = Judge.of(loaded, load_recogniser("mini"), MASKS, images=16)
    exact = export_onnx(loaded, tmp_path / "g32.onnx", judge=judge)
    assert exact.parity is not None
    assert exact.parity.spread > 30
    assert exact.parity.max_grey <= 1
    held_against_the_network(exact.path, loaded, tuple(part[:2] for part in judge.inputs))  # type: ignore[arg-type]
    half = export_onnx(loaded, tmp_path / "g16.onnx", precision="fp16", judge=judge)
    assert half.parity is not None
    assert half.parity.within_one >= 0.999
    assert half.parity.mean_cosine > 0.9995
    assert half.bytes < 0.55 * exact.bytes
    rtx(half.path, tmp_path / "g16.plan", targets=("sm86", "sm120"))


@pytest.mark.slow
def test_mini_generator_in_bf16(tmp_path: Path) -> None:
    """onnxruntime has no bf16 kernels for a CPU; the builder has, and types decide what it takes."""
    made = export_onnx(load_generator("mini"), tmp_path / "b16.onnx", precision="bf16", check_images=0)
    kinds = {onnx.TensorProto.DataType.Name(w.data_type) for w in onnx.load(made.path).graph.initializer}
    assert "BFLOAT16" in kinds
    assert not kinds & {"FLOAT16", "DOUBLE"}
    rtx(made.path, tmp_path / "b16.plan", targets=("sm86", "sm120"))


def test_mini_decoder_in_fp16_int8_and_fp8(tmp_path: Path) -> None:
    """All three keep the people, and are typed as the builder wants them: Ada and Blackwell for fp8."""
    loaded = load_generator("mini")
    judge = Judge.of(loaded, load_recogniser("mini"), MASKS, images=16)
    half = export_onnx(loaded, tmp_path / "f16.onnx", part="decoder", precision="fp16", opset=21, judge=judge)
    assert half.parity is not None
    assert half.parity.within_one >= 0.999
    rtx(half.path, tmp_path / "f16.plan", targets=("sm89",))

    made = export_onnx(loaded, tmp_path / "i8.onnx", part="decoder", precision="int8", opset=21, judge=judge)
    assert made.parity is not None
    assert 0.995 < made.parity.mean_cosine < 0.999999  # within the limit, and not secretly fp16
    kinds = [node.op_type for node in onnx.load(made.path).graph.node]
    assert kinds.count("DequantizeLinear") == 2 * 14
    assert made.sidecar.precision == "int8"
    rtx(made.path, tmp_path / "i8.plan", targets=("sm86",))

    eighth = tmp_path / "f8.onnx"
    shutil.copy(half.path, eighth)
    assert quantise(eighth, "fp8", (judge.grids,)) == 14
    assert eighth.stat().st_size < 0.75 * half.path.stat().st_size
    import onnxruntime

    session = onnxruntime.InferenceSession(eighth, providers=["CPUExecutionProvider"])
    told = judge.measure(lambda grid: session.run(None, {"grid": grid})[0], "decoder", "onnxruntime")
    assert 0.995 < told.mean_cosine < 0.999999
    flavour = FLAVOURS["tensorrt-rtx"]
    settings = BuildSettings(targets=("sm120",))
    assert build_engine(flavour.library(), flavour, eighth, settings, print).layers > 100
    with pytest.raises(BackendUnavailable, match="sm86"):
        build_engine(flavour.library(), flavour, eighth, BuildSettings(targets=("sm86",)), print)


@pytest.mark.slow
def test_base_decoder(base: LoadedModel, tmp_path: Path) -> None:
    judge = Judge.of(base, load_recogniser("mini"), MASKS, images=2)
    made = export_onnx(base, tmp_path / "d.onnx", part="decoder", precision="fp16", opset=21, judge=judge)
    assert made.parity is not None
    assert made.parity.within_one >= 0.999
    rtx(made.path, tmp_path / "d.plan", targets=("sm89",))


@pytest.mark.slow
def test_base_generator(base: LoadedModel, tmp_path: Path) -> None:
    made = export_onnx(base, tmp_path / "g.onnx", check_images=0)
    assert made.bytes > 4 * 170e6
    assert made.sidecar.accuracy == {}  # said to be unmeasured
    held_against_the_network(made.path, base, draw_inputs(base, MASKS, images=2, seed=0))
    made.path.unlink()
    half = export_onnx(base, tmp_path / "g16.onnx", precision="fp16", check_images=0)
    assert half.bytes < 0.55 * made.bytes
    rtx(half.path, tmp_path / "g16.plan", targets=("sm89",))
