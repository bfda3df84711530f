"""The 8-bit convolution on a card: its specification, repeated bits, and the faces of mini through the gate."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def needs_hopper() -> None:
    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("needs compute capability 9.0: rows by its tensor memory accelerator")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("channels", "out", "side"),
    [(128, 128, 112), (256, 128, 56), (256, 256, 28), (512, 512, 7), (96, 48, 40), (16, 16, 112)],
)
def test_kernels_agree_with_the_specification(channels: int, out: int, side: int, dtype: torch.dtype) -> None:
    from v2f_kernels.group_norm_silu.reference import group_statistics

    from bench.candidates.conv3x3_fp8 import OP, quantise_weight

    draw = torch.Generator("cuda").manual_seed(0)

    def noise(*shape: int, scale: float = 1.0) -> torch.Tensor:
        x = torch.randn(*shape, generator=draw, device="cuda") * scale
        return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x

    x, residual = noise(4, channels, side, side).to(dtype), noise(4, out, side, side).to(dtype)
    packed, scale = quantise_weight(noise(out, channels, 3, 3, scale=(9 * channels) ** -0.5))
    norm = (1 + noise(channels, scale=0.2), noise(channels, scale=0.2), 8, 1e-6)
    bias = noise(out).to(dtype)

    def form(backend: str) -> tuple[torch.Tensor, torch.Tensor]:
        return OP.backend(backend)(x, packed, scale, norm, bias, residual, out_groups=8)

    (found, statistics), (wanted, _), again = form("triton"), form("reference"), form("triton")
    off = (found.float() - wanted.float()).square().mean().sqrt() / wanted.float().square().mean().sqrt()
    # Values on an edge between two e4m3 neighbours, the output's own rounding, and 14 bits within the tensor cores.
    assert off < 0.005 + torch.finfo(dtype).eps
    assert torch.equal(found, again[0])
    assert torch.equal(statistics, again[1])
    assert torch.allclose(statistics, group_statistics(found, 8), rtol=1e-4, atol=1e-4)


def test_what_is_no_number_stays_so_and_borders_hold_nothing() -> None:
    from bench.candidates.conv3x3_fp8 import OP, quantise_weight

    x = torch.randn(2, 16, 9, 9, device="cuda", dtype=torch.float16)
    x = x.contiguous(memory_format=torch.channels_last)
    x[1, 0, 4, 4] = float("nan")
    packed, scale = quantise_weight(torch.randn(32, 16, 3, 3, device="cuda"))
    norm = (torch.ones(16, device="cuda"), torch.zeros(16, device="cuda"), 4, 1e-6)
    spoilt = torch.full((1 << 28,), 0xFF, dtype=torch.uint8, device="cuda")  # NaN as e4m3 and as fp16
    del spoilt  # the buffer of rows, filled up from 16 to 32 channels, comes from what it leaves
    y = OP.backend("triton")(x, packed, scale, norm)
    assert torch.isfinite(y[0]).all()
    assert torch.isnan(y[1]).any()


def test_faces_stay_who_they_are() -> None:
    from bench.generation import fp8

    for name, passed, words in fp8.judged("mini", "mini", "cuda:0", 64):
        assert passed, f"{name}: {words}"
