"""The 8-bit convolution on a card: its specification, repeated bits, and the faces of mini through the gate."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def needs_e4m3() -> None:
    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("needs compute capability 8.9: e4m3 tensor cores")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("channels", "out", "side"), [(128, 128, 112), (256, 128, 56), (512, 512, 7), (96, 48, 40)]
)
def test_kernels_agree_with_the_specification(channels: int, out: int, side: int, dtype: torch.dtype) -> None:
    from bench.candidates.conv3x3_fp8 import OP, quantise_weight

    draw = torch.Generator("cuda").manual_seed(0)

    def noise(*shape: int, scale: float = 1.0) -> torch.Tensor:
        x = torch.randn(*shape, generator=draw, device="cuda") * scale
        return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x

    x, residual = noise(4, channels, side, side).to(dtype), noise(4, out, side, side).to(dtype)
    packed, scale = quantise_weight(noise(out, channels, 3, 3, scale=(9 * channels) ** -0.5))
    norm = (1 + noise(channels, scale=0.2), noise(channels, scale=0.2), 8, 1e-6)
    found = OP.backend("triton")(x, packed, scale, norm, residual)
    wanted = OP.backend("reference")(x, packed, scale, norm, residual).float()
    off = (found.float() - wanted).square().mean().sqrt() / wanted.square().mean().sqrt()
    # Values on an edge between two e4m3 neighbours, the output's own rounding, and 14 bits within an instruction group.
    assert off < 0.005 + torch.finfo(dtype).eps
    assert torch.equal(found, OP.backend("triton")(x, packed, scale, norm, residual))


def test_faces_stay_who_they_are() -> None:
    from bench.generation import fp8

    for name, passed, words in fp8.judged("mini", "mini", "cuda:0", 64):
        assert passed, f"{name}: {words}"
