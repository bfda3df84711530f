"""The 8-bit convolution: its specification by hand, its kernels under the interpreter, its instruction in the PTX."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from v2f_kernels.group_norm_silu.reference import normalise

from bench.candidates.conv3x3_fp8 import OP, quantise_weight
from bench.candidates.conv3x3_fp8.quantise import LARGEST, to_e4m3

EPS = 1e-6


def noise(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def case(channels: int, out: int, side: int, dtype: torch.dtype, batch: int = 2) -> tuple:
    x = noise(batch, channels, side, side + 1).to(dtype)
    exact = noise(out, channels, 3, 3, seed=1, scale=(9 * channels) ** -0.5)
    norm = (1 + noise(channels, seed=2, scale=0.2), noise(channels, seed=3, scale=0.2), 4, EPS)
    residual = noise(batch, out, side, side + 1, seed=4).to(dtype)
    return x.contiguous(memory_format=torch.channels_last), exact, norm, residual


def test_values_that_e4m3_holds_pass_unharmed() -> None:
    held = torch.tensor([0.0, 1.0, -1.125, 2.0**-9, 448.0, -0.0625])
    assert torch.equal(to_e4m3(held).float(), held)
    assert to_e4m3(torch.tensor([1e9, -1e9])).float().tolist() == [LARGEST, -LARGEST]
    weight = torch.tensor([448.0, 1.0, -0.5, 0.0]).reshape(1, 4, 1, 1).expand(1, 4, 3, 3)
    packed, scale = quantise_weight(weight * 0.25)
    assert scale.tolist() == [0.25]
    assert torch.equal(packed.float() * scale, weight * 0.25)
    assert quantise_weight(torch.zeros(2, 4, 3, 3))[1].tolist() == [1.0, 1.0]


def test_the_specification_is_the_exact_convolution_of_rounded_values() -> None:
    """By hand: SiLU(GroupNorm(x)) and the weight are each off by at most 2^-4 of themselves, or 2^-14."""
    x, exact, norm, residual = case(32, 48, 6, torch.float32)
    packed, scale = quantise_weight(exact)
    y = OP.backend("reference")(x, packed, scale, norm, residual)
    z = normalise(x, *norm)
    wanted = F.conv2d(z, exact, padding=1) + residual
    slack = F.conv2d(z.abs() * 2**-4 + 2**-14, exact.abs() * (1 + 2**-4), padding=1)
    slack = slack + F.conv2d(z.abs(), exact.abs() * 2**-4 + scale[:, None, None, None] * 2**-10, padding=1)
    off = (y - wanted).abs()
    assert (off <= slack).all()
    assert off.mean() > 1e-3  # it does round
    assert off.square().mean().sqrt() < 0.05 * (wanted - residual).square().mean().sqrt()


def test_refusals() -> None:
    x, exact, norm, residual = case(32, 48, 4, torch.float32)
    packed, scale = quantise_weight(exact)
    form = OP.backend("reference")
    with pytest.raises(ValueError, match="float8_e4m3fn from quantise_weight"):
        form(x, exact, scale, norm)
    with pytest.raises(ValueError, match=r"scale: expected float32 \[48\]"):
        form(x, packed, scale[:3], norm)
    with pytest.raises(ValueError, match="residual"):
        form(x, packed, scale, norm, residual[:1])


@pytest.fixture
def rounding_as_hardware(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton 3.6 interprets fp32 -> e4m3 wrongly: 31.1 becomes 16 (the carry into the exponent is lost) and
    subnormals are cut off. PTX's cvt.rn.satfinite rounds to nearest even, as torch does below 448."""
    from triton.runtime import interpreter

    convert = interpreter._convert_float

    def converted(data: Any, given: Any, wanted: Any, rounding: Any) -> Any:
        if str(wanted) == "fp8e4nv" and str(given) == "fp32":
            rounded = torch.from_numpy(np.ascontiguousarray(data)).to(torch.float8_e4m3fn)
            return rounded.view(torch.uint8).numpy()
        return convert(data, given, wanted, rounding)

    monkeypatch.setattr(interpreter, "_convert_float", converted)


@pytest.mark.interpreter
@pytest.mark.usefixtures("poisoned", "rounding_as_hardware")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("channels", "out", "side"), [(32, 32, 5), (96, 48, 4), (64, 20, 3)])
def test_kernels_agree_with_the_specification(channels: int, out: int, side: int, dtype: torch.dtype) -> None:
    """A value on the edge between two e4m3 neighbours may fall either way: few, so the error stays far below what
    rounding itself costs."""
    x, exact, norm, residual = case(channels, out, side, dtype)
    packed, scale = quantise_weight(exact)
    for added in (residual, None):
        found = OP.backend("triton")(x, packed, scale, norm, added)
        wanted = OP.backend("reference")(x, packed, scale, norm, added).float()
        plain = F.conv2d(normalise(x.float(), *norm), exact, padding=1)
        plain = plain + (0.0 if added is None else added.float())
        assert found.dtype == dtype
        assert found.is_contiguous(memory_format=torch.channels_last)
        off, rounding = ((y - wanted).square().mean().sqrt() for y in (found.float(), plain))
        assert off < 0.1 * rounding + 2 * torch.finfo(dtype).eps * wanted.square().mean().sqrt()


FAULTS = {
    "the last column's mask": ("column + right < W)", "column + right <= W)", "conv3x3_fp8_kernel"),
    "the weights' scale": ("accumulator * factor[None, :]", "accumulator * (1.0 / SCALE)", "conv3x3_fp8_kernel"),
    "no saturation": ("tl.minimum(tl.maximum(y, -448.0), 448.0)", "tl.minimum(y, 40.0)", "quantise_kernel"),
}  # fmt: skip


@pytest.mark.interpreter
@pytest.mark.usefixtures("rounding_as_hardware")
@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_an_injected_fault_turns_the_comparison_red(
    fault: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.candidates.conv3x3_fp8 import triton_implicit_gemm_fp8, triton_op

    if fault is not None:
        right, wrong, kernel = FAULTS[fault]
        source = Path(triton_implicit_gemm_fp8.__file__).read_text()
        assert source.count(right) == 1
        path = tmp_path / "broken.py"
        path.write_text(source.replace(right, wrong))
        spec = importlib.util.spec_from_file_location("broken_fp8", path)
        assert spec is not None
        assert spec.loader is not None
        broken = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(broken)
        monkeypatch.setattr(triton_op, kernel, getattr(broken, kernel))
    x, exact, norm, _ = case(32, 32, 5, torch.float32)
    packed, scale = quantise_weight(exact)
    found = OP.backend("triton")(x, packed, scale, norm)
    wanted = OP.backend("reference")(x, packed, scale, norm)
    off = (found - wanted).square().mean().sqrt() / wanted.square().mean().sqrt()
    assert (off < 1e-3) == (fault is None), f"{off:.1e}"


@pytest.mark.aot
@pytest.mark.parametrize(("target", "instruction"), [(90, "wgmma.mma_async.e4m3"), (120, "mma.sync.e4m3")])
def test_the_product_is_an_8_bit_instruction(target: int, instruction: str) -> None:
    from v2f_kernels._triton.aot import compile_cases, ops_under_gate

    name = "128->128@112 float16"
    rows, unfit = compile_cases("conv3x3_fp8", {name: ops_under_gate()["conv3x3_fp8"][name]}, (target,))
    assert unfit == []
    assert {row.kernel: row.tensor_core for row in rows}["conv3x3_fp8_kernel"] == instruction
