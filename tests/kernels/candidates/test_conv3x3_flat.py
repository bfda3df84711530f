"""The convolution over rows with shared zero borders: judged under the interpreter, with faults, its machine code."""

from __future__ import annotations

import importlib.util
import itertools
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from v2f_kernels._contract import NORM, STATISTICS, joined
from v2f_kernels._judge import judge
from v2f_kernels.conv3x3 import OP

EPS = 1e-6
HOME = "bench.candidates.conv3x3_flat"
NAME = "triton_flat"
Tensors = dict[str, torch.Tensor]


def noise(
    *shape: int, seed: int = 0, scale: float = 1.0, shift: float = 0.0, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    x = (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale + shift).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def inputs(dtype: torch.dtype, size: tuple[int, int, int, int, int], given: set[str]) -> Tensors:
    """`size`: batch, channels, output channels, height, width; `given`: which of bias, residual and norm."""
    batch, channels, out, height, width = size
    made = {
        "x": noise(batch, channels, height, width, shift=1, dtype=dtype),
        "weight": noise(out, channels, 3, 3, seed=1, scale=(9 * channels) ** -0.5, dtype=dtype),
        "bias": noise(out, seed=2, dtype=dtype),
        "residual": noise(batch, out, height, width, seed=3, dtype=dtype),
        "scale": noise(channels, seed=4, dtype=dtype),
        "shift": noise(channels, seed=5, shift=1, dtype=dtype),
    }
    wanted = {"x", "weight"} | (given - {"norm"}) | ({"scale", "shift"} if "norm" in given else set())
    return {name: t for name, t in made.items() if name in wanted}


def results(backend: str, named: Tensors, groups: int | None, gradients: bool = True) -> Tensors:
    """y, the statistics of y, and every gradient by name."""
    leaves = {k: t.detach().clone().requires_grad_(gradients) for k, t in named.items()}
    options: dict[str, Any] = {k: leaves[k] for k in ("bias", "residual") if k in leaves}
    if "scale" in leaves:
        options["norm"] = (leaves["scale"], leaves["shift"], 8, EPS)
    made = OP.backend(backend)(leaves["x"], leaves["weight"], out_groups=groups, **options)
    y, statistics = made if isinstance(made, tuple) else (made, None)
    found = {"y": y.detach()} | ({} if statistics is None else {"statistics": statistics})
    if not gradients:
        return found
    upstream = noise(*y.shape, seed=6).half().to(y.dtype)
    given = torch.autograd.grad(y, list(leaves.values()), upstream)
    return found | {f"gradient of {k}": g for k, g in zip(leaves, given, strict=True)}


def assert_judged(named: dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> None:
    """(mine, in fp64, plain torch) by name: half precision within twice plain torch's error, fp32 within four times,
    since orders of summation alone differ by that much on a handful of elements."""
    verdicts = {k: judge(*t, factor=4.0 if t[0].dtype == torch.float32 else 2.0) for k, t in named.items()}
    failed = [f"{name}: {verdict}" for name, verdict in verdicts.items() if not verdict.passed]
    assert not failed, "; ".join(failed)


OPTIONS = [set(), {"bias"}, {"residual"}, {"norm"}, {"bias", "residual", "norm"}]
SIZES = [(1, 64, 64, 5, 7), (3, 128, 64, 5, 7), (3, 64, 128, 13, 13), (1, 128, 128, 13, 13), (2, 48, 3, 1, 1)]


@pytest.mark.interpreter
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("size", "given", "groups"), [
    *((size, OPTIONS[-1], 1 if size[2] == 3 else 8) for size in SIZES),
    *((SIZES[0], given, groups) for given, groups in itertools.product(OPTIONS, (None, 4))),
])  # fmt: skip
def test_every_option_obeys_the_reference(
    size: tuple[int, int, int, int, int],
    given: set[str],
    groups: int | None,
    dtype: torch.dtype,
    poisoned: None,
) -> None:
    named = inputs(dtype, size, given)
    mine = results(NAME, named, groups)
    oracle = results("reference", {k: t.double() for k, t in named.items()}, groups)
    native = results("torch", named, groups)
    assert mine["y"].dtype == dtype
    assert mine["y"].is_contiguous(memory_format=torch.channels_last)
    assert_judged({k: (mine[k], oracle[k], native[k]) for k in oracle})


@pytest.mark.interpreter
@pytest.mark.parametrize("tile", [16, 64])
def test_tiles_that_end_on_borders_and_images_of_one_row(
    tile: int, poisoned: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiles of 16 positions over rows of 8 or 17: some hold two borders, some begin or end with one."""
    gpu = import_module(f"{HOME}.launch")
    blocks = gpu.blocks_for
    monkeypatch.setattr(gpu, "blocks_for", lambda *a: {**blocks(*a), "BLOCK_M": tile})
    for height, width in ((5, 7), (2, 16), (1, 15), (16, 1)):
        named = inputs(torch.float32, (2, 16, 16, height, width), {"bias", "norm"})
        mine = results(NAME, named, 4, gradients=False)
        oracle = results("reference", {k: t.double() for k, t in named.items()}, 4, gradients=False)
        native = results("torch", named, 4, gradients=False)
        assert_judged({f"{height}x{width} {k}": (mine[k], oracle[k], native[k]) for k in oracle})


@pytest.mark.interpreter
def test_given_statistics_and_no_dependence_on_the_batch() -> None:
    named = inputs(torch.float16, (3, 64, 64, 5, 7), {"bias", "residual", "norm"})
    statistics = torch.stack((torch.zeros(3, 8), torch.full((3, 8), 2.0)), 2)
    norm = named["scale"], named["shift"], 8, EPS

    def call(rows: slice, backend: str = NAME) -> Any:
        x, residual = named["x"][rows], named["residual"][rows]
        return OP.backend(backend)(
            x, named["weight"], named["bias"], residual, norm, statistics[rows], out_groups=4
        )

    whole, again, alone, wanted = (
        call(slice(None)), call(slice(None)), call(slice(1, 2)), call(slice(None), "reference"),
    )  # fmt: skip
    for a, b, c in zip(whole, again, alone, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a[1:2], c)
    assert (whole[0].float() - wanted[0].float()).abs().max() < 0.01


@pytest.mark.interpreter
def test_it_says_what_it_joins_and_passes_opcheck() -> None:
    assert joined(OP.backend(NAME)) == {NORM, STATISTICS}
    x, weight = noise(1, 16, 2, 3).requires_grad_(), noise(16, 16, 3, 3).requires_grad_()
    scale, shift = noise(16, seed=1).requires_grad_(), noise(16, seed=2).requires_grad_()
    flat = import_module(f"{HOME}.triton_op").flat_op
    statistics = torch.stack((torch.zeros(1, 4), torch.ones(1, 4)), 2)
    torch.library.opcheck(flat, (x, weight, scale, x.detach(), scale, shift, statistics, EPS, 4))
    torch.library.opcheck(flat, (x, weight, None, None, None, None, None, 0.0, 0))


def test_older_and_newer_cards_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    gpu = import_module(f"{HOME}.launch")
    for found in ((8, 0), (12, 0)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=found: found)
        with pytest.raises(gpu.BackendUnavailable, match=rf"9\.0 .*found {found[0]}\.0"):
            gpu.require_accelerator("conv3x3/triton_flat", "", torch.device("cuda:0"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    gpu.require_accelerator("conv3x3/triton_flat", "", torch.device("cuda:0"))


KERNELS = {
    "triton_border": "border_kernel",
    "triton_flat": "conv3x3_flat_kernel",
    "triton_merge": "merge_flat_kernel",
}
MOVED = "(tap // 3 - 1) * (W + 1) + tap % 3 - 1"
WRITTEN = "(position < (H + 1) * (W + 1))[:, None] & (c < WIDTH)[None, :]"
# What breaks: (file, right, wrong).
FAULTS = {
    "the pass leaves borders as they were": ("triton_border", WRITTEN, "seen"),
    "borders before SiLU": ("triton_border", "tl.where(seen, z / (1.0 + tl.exp(-z)), 0.0)", "z / (1.0 + tl.exp(-z))"),
    "rows without a border": ("triton_flat", MOVED, "(tap // 3 - 1) * W + tap % 3 - 1"),
    "taps column by column": ("triton_flat", MOVED, "(tap % 3 - 1) * (W + 1) + tap // 3 - 1"),
    "the next image's place": ("triton_flat", "image * ((H + 1) * (W + 1))", "image * (H * (W + 1))"),
    "halves swapped": ("triton_flat", "left, right =", "right, left ="),
    "borders are counted": ("triton_merge", "position - position // PITCH", "position + 0 * PITCH"),
    "moments over borders": ("triton_flat", "inside, moments_ptr", "m < H * (W + 1), moments_ptr"),
}  # fmt: skip


@pytest.mark.interpreter
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_an_injected_fault_turns_the_comparison_red(
    fault: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault is not None:
        file, right, wrong = FAULTS[fault]
        source = Path(f"{import_module(f'{HOME}.{file}').__file__}").read_text()
        assert source.count(right) == 1
        path = tmp_path / f"{file}.py"
        path.write_text(source.replace(right, wrong))
        spec = importlib.util.spec_from_file_location(f"broken_{file}", path)
        assert spec is not None
        assert spec.loader is not None
        broken = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(broken)
        monkeypatch.setattr(import_module(f"{HOME}.launch"), KERNELS[file], getattr(broken, KERNELS[file]))
    named = inputs(torch.float32, (2, 32, 32, 5, 7), {"norm", "bias"})
    mine, wanted = (results(name, named, 4, gradients=False) for name in (NAME, "reference"))
    right_ones = all(torch.allclose(mine[k], wanted[k], rtol=1e-4, atol=1e-4) for k in wanted)
    assert right_ones == (fault is None)


@pytest.mark.aot
@pytest.mark.parametrize("case", ["128->128@112 float16", "128->128@112 bfloat16", "256->256@28 float16"])
def test_operands_go_from_the_accelerator_to_the_products_through_shared_memory(case: str) -> None:
    """TMA loads (UTMALDG), and wgmma with both operands by descriptor (gdesc, no R operand): nothing of a tile passes
    through registers. Two programs of 8 warps share a multiprocessor's 65,536 registers and 227 KiB."""
    from v2f_kernels._triton.aot import compiling, ops_under_gate
    from v2f_kernels._triton.inspection import SHARED_LIMIT, cuobjdump, inspect

    with compiling(90) as record:
        ops_under_gate()["conv3x3_flat"][case]()
    product = next(c for c in record if c.name == "conv3x3_flat_kernel")
    code, ptx = cuobjdump("--dump-sass", product.binary.asm["cubin"]), product.binary.asm["ptx"]
    assert "cp.async.bulk.tensor.2d" in ptx
    assert "tensormap.replace" not in ptx
    assert "UTMALDG.2D" in code
    products = re.findall(r"HGMMA\.64x\d+x16\.F32\S* R\d+, (\S+)", code)
    assert products
    assert all(operand.startswith("gdesc") for operand in products), products
    row, wrong = inspect("conv3x3_flat", case, 90, product)
    assert wrong == []
    assert 2 * row.num_warps * 32 * (-(-row.registers // 8) * 8) <= 65_536
    assert 2 * (row.shared + 1024) <= SHARED_LIMIT[90] + 1024
