"""The 8-bit convolution: its specification by hand, its kernels under the interpreter, its instruction in the PTX."""

from __future__ import annotations

import importlib.util
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from v2f_kernels.group_norm_silu.reference import group_statistics, normalise

from bench.candidates.conv3x3_fp8 import OP, accumulation, quantise_weight
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
    y = OP.backend("reference")(x, packed, scale, norm, residual=residual)
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
        form(x, packed, scale, norm, residual=residual[:1])


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


OPTIONS = [set(), {"bias"}, {"residual"}, {"statistics"}, {"bias", "residual", "statistics"}]
SIZES = [(32, 32, 5), (96, 48, 4), (64, 20, 3), (16, 16, 6), (128, 136, 11)]
"""Channels, output channels, side: whole and cut blocks, fewer channels than an instruction reads, several tiles."""


@pytest.mark.interpreter
@pytest.mark.usefixtures("poisoned", "rounding_as_hardware")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    ("size", "given", "groups"),
    [
        *((size, OPTIONS[-1], 4) for size in SIZES),
        *((SIZES[0], given, groups) for given in OPTIONS for groups in (None, 8)),
    ],
)
def test_every_option_obeys_the_specification(
    size: tuple[int, int, int], given: set[str], groups: int | None, dtype: torch.dtype
) -> None:
    """A value on the edge between two e4m3 neighbours may fall either way: few, so the error stays far below what
    rounding itself costs."""
    channels, out, side = size
    x, exact, norm, residual = case(channels, out, side, dtype)
    packed, scale = quantise_weight(exact)
    options = {
        "bias": noise(out, seed=5).to(dtype),
        "residual": residual,
        "statistics": torch.stack((torch.full((2, 4), 0.1), torch.full((2, 4), 1.5)), 2),
    }
    options = {name: options[name] for name in given}
    found, wanted = (
        OP.backend(name)(x, packed, scale, norm, out_groups=groups, **options)
        for name in ("triton", "reference")
    )
    if groups is not None:
        # Of its own y: the statistics describe what was written.
        statistics = group_statistics(found[0], groups)
        assert torch.allclose(found[1], statistics, rtol=1e-5, atol=1e-5)
        found, wanted = found[0], wanted[0]
    plain = F.conv2d(normalise(x.float(), *norm, options.get("statistics")), exact, padding=1)
    for name in given - {"statistics"}:
        plain = plain + (
            options[name].float() if name == "residual" else options[name].float()[:, None, None]
        )
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
    off, rounding = ((y - wanted.float()).square().mean().sqrt() for y in (found.float(), plain))
    assert off < 0.1 * rounding + 2 * torch.finfo(dtype).eps * wanted.float().square().mean().sqrt()


@pytest.mark.interpreter
@pytest.mark.usefixtures("poisoned", "rounding_as_hardware")
def test_repeated_bits_the_batch_and_what_is_no_number() -> None:
    x, exact, norm, residual = case(32, 32, 5, torch.float16, batch=3)
    packed, scale = quantise_weight(exact)

    def call(rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        return OP.backend("triton")(x[rows], packed, scale, norm, None, residual[rows], out_groups=4)

    whole, again, alone = call(slice(None)), call(slice(None)), call(slice(1, 2))
    for a, b, c in zip(whole, again, alone, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a[1:2], c)


def rows_laid_flat(x: torch.Tensor, norm: Any) -> torch.Tensor:
    """e4m3 [B, H+1, W+1, C or more] of SiLU(GroupNorm(x)): what the product reads."""
    launch = import_module("bench.candidates.conv3x3_flat.launch")
    statistics = group_statistics(x, norm[2]).float().repeat_interleave(x.shape[1] // norm[2], 1)
    scale = norm[0] * torch.rsqrt(statistics[:, :, 1] + norm[3])
    terms = torch.stack((scale, norm[1] - statistics[:, :, 0] * scale), 1).contiguous()
    flat = launch.laid_flat("conv3x3_fp8", x, terms, 16, 32)
    return flat.view(x.shape[0], x.shape[2] + 1, x.shape[3] + 1, -1)


@pytest.mark.interpreter
@pytest.mark.usefixtures("poisoned", "rounding_as_hardware")
def test_rows_hold_what_torch_rounds_to_and_what_is_no_number_stays_so() -> None:
    """The interpreter's product of 8-bit floats knows no NaN, so it is looked for before the product."""
    x, _, norm, _ = case(16, 16, 5, torch.float32, batch=3)
    x[0, 0, 0, 0] = 1e4  # a spike: its neighbours vanish, it saturates
    x[2, 0, 0, 0] = float("nan")
    rows = rows_laid_flat(x, (norm[0] * 40, *norm[1:])).float()
    wanted = to_e4m3(normalise(x, norm[0] * 40, *norm[1:]) * 16).float().permute(0, 2, 3, 1)
    assert rows.shape == (3, 6, 7, 32)
    assert rows[:, 5].eq(0).all()
    assert rows[:, :, 6].eq(0).all()
    assert rows[..., 16:].eq(0).all()
    inner = rows[:, :5, :6, :16]
    assert torch.equal(inner.isnan(), wanted.isnan())
    assert inner[2].isnan().any()
    assert inner[:2].max() == LARGEST
    # Sums in another order put a value on an edge on its other side.
    assert (inner[:2] != wanted[:2]).float().mean() < 0.005


@pytest.mark.interpreter
@pytest.mark.usefixtures("rounding_as_hardware")
def test_it_passes_opcheck() -> None:
    from bench.candidates.conv3x3_fp8.triton_op import fp8_op

    x, exact, norm, residual = case(16, 16, 2, torch.float32)
    packed, scale = quantise_weight(exact)
    statistics = group_statistics(x, 4)
    for rest in ((norm[0][:16], residual, 4), (None, None, 0)):
        arguments = (x, packed, scale, norm[0], norm[1], statistics, EPS, *rest)
        # Its test of the schema multiplies arguments, which torch has not for 8-bit floats.
        torch.library.opcheck(fp8_op, arguments, test_utils=("test_autograd_registration", "test_faketensor"))


def test_sums_in_the_tensor_cores_cost_far_less_than_rounding() -> None:
    for channels in (128, 256):
        rounding, summing = accumulation.errors(channels, promote=0, rows=24, out=16)
        assert summing < rounding / 20
        assert accumulation.errors(channels, promote=128, rows=24, out=16)[1] < summing / 3
    a, b = torch.full((1, 64), 2.0), torch.ones(1, 64)
    a[0, 0] = 2.0**16  # the others are cut off beside it: 2^16 / 2^13 > 2
    assert accumulation.summed(a, b).item() == 2.0**16
    assert accumulation.summed(a, b, promote=32).item() == 2.0**16 + 64


MOVED = "(tap // 3 - 1) * (W + 1) + tap % 3 - 1"
WRITTEN = "(position < (H + 1) * (W + 1))[:, None] & (c < WIDTH)[None, :]"
BIAS = "    if HAS_BIAS:\n        product +="
FAULTS = {
    "rows without a border": ("triton_flat", MOVED, "(tap // 3 - 1) * W + tap % 3 - 1"),
    "the weights' scale": ("triton_flat", "other=0.0)[None, :] / X_SCALE", "other=0.0)[None, :] * 0 + 0.001"),
    "the activations' scale": ("triton_flat", "[None, :] / X_SCALE", "[None, :] / (2 * X_SCALE)"),
    "another scale": ("triton_flat", BIAS, BIAS.replace("product +=", "product *= 1.5; product +=")),
    "no saturation": ("triton_border", "-448.0, 448.0,", "-40.0, 40.0,"),
    "borders before SiLU": ("triton_border", "tl.where(seen, z / (1.0 + tl.exp(-z)), 0.0)", "z / (1.0 + tl.exp(-z))"),
    "the pass leaves borders as they were": ("triton_border", WRITTEN, "seen"),
    "moments over borders": ("triton_flat", "inside, moments_ptr", "m < H * (W + 1), moments_ptr"),
}  # fmt: skip
KERNELS = {"triton_border": "border_kernel", "triton_flat": "conv3x3_flat_kernel"}


@pytest.mark.interpreter
@pytest.mark.usefixtures("poisoned", "rounding_as_hardware")
@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_an_injected_fault_turns_the_comparison_red(
    fault: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault is not None:
        home = "bench.candidates.conv3x3_flat"
        file, right, wrong = FAULTS[fault]
        source = Path(f"{import_module(f'{home}.{file}').__file__}").read_text()
        assert source.count(right) == 1
        path = tmp_path / f"{file}.py"
        path.write_text(source.replace(right, wrong))
        spec = importlib.util.spec_from_file_location(f"broken_fp8_{file}", path)
        assert spec is not None
        assert spec.loader is not None
        broken = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(broken)
        monkeypatch.setattr(import_module(f"{home}.launch"), KERNELS[file], getattr(broken, KERNELS[file]))
    x, exact, norm, _ = case(16, 16, 5, torch.float32, batch=3)
    packed, scale = quantise_weight(exact)
    bias = noise(16, seed=6)
    found, wanted = (
        OP.backend(name)(x, packed, scale, norm, bias, out_groups=4) for name in ("triton", "reference")
    )
    off = (found[0] - wanted[0]).square().mean().sqrt() / wanted[0].square().mean().sqrt()
    apart = (found[1] - wanted[1]).abs().max()
    assert bool(off < 1e-3 and apart < 1e-3) == (fault is None), f"{off:.1e}, {apart:.1e}"


@pytest.mark.aot
@pytest.mark.parametrize("case", ["128->128@112 float16", "256->128@56 float16", "16->16@112 float16"])
def test_operands_go_from_the_accelerator_to_8_bit_products(case: str) -> None:
    """TMA loads, QGMMA with both operands in shared memory, sums never taken out meanwhile; two programs of 8 warps
    share a multiprocessor."""
    from v2f_kernels._triton.aot import compiling, ops_under_gate
    from v2f_kernels._triton.inspection import SHARED_LIMIT, cuobjdump, inspect

    with compiling(90) as record:
        ops_under_gate()["conv3x3_fp8"][case]()
    product = next(c for c in record if c.name == "conv3x3_flat_kernel")
    row, wrong = inspect("conv3x3_fp8", case, 90, product)
    assert wrong == []
    assert row.tensor_core == "wgmma.mma_async.e4m3"
    code = cuobjdump("--dump-sass", product.binary.asm["cubin"])
    assert "UTMALDG.2D" in code
    products = re.findall(r"QGMMA\.64x\d+x32\.F32\.E4M3\.E4M3 R\d+, (\S+)", code)
    assert products
    assert all(operand.startswith("gdesc") for operand in products), products
    assert 2 * row.num_warps * 32 * (-(-row.registers // 8) * 8) <= 65_536
    assert 2 * (row.shared + 1024) <= SHARED_LIMIT[90] + 1024
