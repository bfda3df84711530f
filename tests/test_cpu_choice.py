"""What a CPU runs by shape class: where it was measured, only there, told only of networks that have them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from v2f_kernels._cpu_shapes import MEASURED
from v2f_kernels._shapes import parse_shape

from v2f_engine.backends import Choice, choose
from v2f_engine.machine import Machine
from v2f_engine.models import bind_ops
from v2f_engine.models.ops import reached
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig
from v2f_engine.runtime.eager import EagerRunner

ZEN4 = Machine(cuda_devices=0, cpu_flags=frozenset({"avx512f", "avx512_bf16"}), has_triton=False)


def unbuilt(config: Vec2FaceConfig) -> Vec2Face:
    with torch.device("meta"):
        return Vec2Face(config)


def told(config: Vec2FaceConfig, choice: Choice) -> dict[str, object]:
    return EagerRunner(unbuilt(config), choice, n_dropped=5, batch_size=2).describe()


def test_every_shape_of_the_published_decoder_is_listed_and_no_other() -> None:
    listed = {(op, shape) for op, rows in MEASURED.items() for shape in rows}
    has = {pair for pair in reached(unbuilt(Vec2FaceConfig.base())) if pair[0] in MEASURED}
    assert has - listed == {("conv3x3", "C=128 O=3 HW=112")}
    assert listed <= has
    for op, shape in listed:
        sizes = parse_shape(op, shape)
        assert sizes["C"] % 32 == sizes.get("O", sizes["C"]) % 64 == 0


def test_it_is_chosen_where_it_was_measured() -> None:
    choice = choose("cpu", "bf16", machine=ZEN4)
    assert choice.backend_of("conv3x3", "C=128 O=128 HW=112") == "winograd"
    assert choice.backend_of("upsample_conv3x3_folded", "C=512 HW=7") == "winograd"
    assert choice.backend_of("conv3x3", "C=128 O=128 HW=7") == "torch"
    assert choice.shapes["conv3x3"]["C=512 O=512 HW=7"].why == "0.71 ms an image, torch 1.0"
    assert "_cpu_shapes.py" in choice.reasons["table"]


@pytest.mark.parametrize(
    ("precision", "gradients", "machine"),
    [
        ("fp32", False, ZEN4),
        ("bf16", True, ZEN4),
        ("bf16", False, replace(ZEN4, cpu_flags=frozenset({"avx2"}))),
        ("bf16", False, replace(ZEN4, cpu_flags=ZEN4.cpu_flags | {"amx_bf16"})),
        ("bf16", False, replace(ZEN4, no_extension="missing")),
    ],
    ids=["fp32", "gradients", "old", "amx", "no extension"],
)
def test_it_is_not_chosen_elsewhere(precision: str, gradients: bool, machine: Machine) -> None:
    choice = choose("cpu", precision, gradients=gradients, machine=machine)
    assert choice.shapes == {}
    assert choice.reasons["table"] == "none: a CPU runs torch's own operators"


def test_a_manifest_tells_only_what_its_network_has() -> None:
    """So a dataset of `mini` begun before goes on, and one of base size, whose bytes differ, does not."""
    choice = choose("cpu", "bf16", machine=ZEN4)
    assert "shapes" not in told(Vec2FaceConfig.mini(), choice)
    assert told(Vec2FaceConfig.base(), choice)["shapes"] == {
        op: dict.fromkeys(sorted(rows), "winograd") for op, rows in MEASURED.items()
    }


def test_mini_is_bound_to_torch_as_ever() -> None:
    model = unbuilt(Vec2FaceConfig.mini())
    bind_ops(model, choose("cpu", "bf16", machine=ZEN4))
    bound = {f.__module__ for m in model.modules() for f in getattr(m, "ops", ())}
    assert not any("winograd" in module for module in bound)
