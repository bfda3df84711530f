"""A small network, exported once a process, for everything that does not depend on its size."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

import pytest
import torch

from v2f_engine.export.onnx import export_onnx
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig
from v2f_engine.models.weights import save_weights

SMALL = Vec2FaceConfig(
    width=48, encoder_blocks=1, encoder_heads=1, decoder_blocks=1, decoder_heads=1, z_channels=8,
    base_channels=8, multipliers=(1, 1, 1, 1, 1), residual_blocks=1, norm_groups=4, dropout=0.0,
)  # fmt: skip


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # convolutions draw their start from it
        network = Vec2Face(SMALL)
    network.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():  # a decoder that starts at random gives one grey; this one has contrast
        network.im_decoder.conv_out.weight.mul_(40.0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_weights(path, {"model": network}, {"kind": "vec2face", "config": SMALL.to_json()}, precision="fp32")
    return path


@pytest.fixture(scope="session")
def small_export(
    small_weights: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Path:
    """`small.onnx`, fp32, with its sidecar; not to be changed. Made once, whichever of xdist's workers is first."""
    shared = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):
        shared = shared.parent
    path = shared / "exported" / "small.onnx"
    path.parent.mkdir(exist_ok=True)
    with (shared / "exported.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.is_file():
            export_onnx(small_weights, path, check_images=4)
    return path


@pytest.fixture
def exported(small_export: Path, tmp_path: Path) -> Path:
    """A copy of `small.onnx` and its sidecar, to be changed."""
    for file in small_export.parent.iterdir():
        shutil.copy(file, tmp_path / file.name)
    return tmp_path / small_export.name
