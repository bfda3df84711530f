"""GroupNorm+SiLU in one launch, under the interpreter: odd sizes, gradients, given statistics, faults."""

from __future__ import annotations

import importlib.util
from importlib import import_module
from pathlib import Path

import pytest
import torch
from v2f_kernels._judge import judge
from v2f_kernels.group_norm_silu import OP as NORM

pytestmark = pytest.mark.interpreter

EPS = 1e-6
DTYPES = (torch.float32, torch.float16)  # the interpreter computes bfloat16 wrongly: it is compiled, not run


def noise(*shape: int, seed: int, dtype: torch.dtype, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale + shift
    drawn = drawn.to(dtype)
    return drawn.contiguous(memory_format=torch.channels_last) if drawn.ndim == 4 else drawn


def check(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Output and gradients against the reference in fp64."""
    batch, channels, height, width, groups = shape
    whole = batch, channels, height, width
    x = noise(*whole, seed=0, dtype=dtype, scale=2, shift=5)
    named = {
        "x": x,
        "weight": noise(channels, seed=1, dtype=dtype),
        "bias": noise(channels, seed=2, dtype=dtype),
    }
    upstream = noise(*whole, seed=3, dtype=dtype)
    found = []
    for backend, wide in (("triton_resident", False), ("reference", True), ("torch", False)):
        leaves = [(t.double() if wide else t).detach().clone().requires_grad_() for t in named.values()]
        y = NORM.backend(backend)(*leaves, groups, EPS)
        found.append(
            {"y": y, **dict(zip(named, torch.autograd.grad(y, leaves, upstream.to(y.dtype)), strict=True))}
        )
    mine, oracle, native = found
    failed = []
    for name in oracle:
        factor = 4.0 if dtype == torch.float32 else 2.0
        verdict = judge(mine[name], oracle[name], native[name], factor=factor)
        failed += [] if verdict.passed else [f"{name}: {verdict}"]
    assert not failed, "; ".join(failed)


def small(monkeypatch: pytest.MonkeyPatch, **blocks: int) -> None:
    """Tiles so small that both loops go round, the last time partly filled."""
    gpu = import_module("v2f_kernels.group_norm_silu.triton_resident_op")
    config = gpu.launch_config("group_norm_silu", "resident", torch.device("cpu"))
    changed = type(config)(config.num_warps, config.num_stages, {**config.blocks, **blocks}, "test")
    monkeypatch.setattr(gpu, "launch_config", lambda *_: changed)


SHAPES = [(1, 32, 3, 5, 8), (3, 48, 9, 4, 8), (1, 128, 7, 11, 32), (2, 64, 2, 3, 1), (1, 80, 5, 5, 16)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tiles", [{}, {"CHANNELS": 16, "TILE": 64, "DEPTH": 2}], ids=["committed", "small"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_norm(
    shape: tuple[int, ...],
    tiles: dict[str, int],
    dtype: torch.dtype,
    poisoned: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small(monkeypatch, **tiles)
    check(shape, dtype)


def test_statistics_given_and_made() -> None:
    op = import_module("v2f_kernels.group_norm_silu.triton_resident_op").resident_op
    x, weight, bias = (
        noise(2, 48, 7, 9, seed=0, dtype=torch.float32, shift=30),
        torch.ones(48),
        torch.zeros(48),
    )
    y, statistics = op(x, weight, bias, 8, EPS)
    exact = import_module("v2f_kernels.group_norm_silu.reference").group_statistics(x.double(), 8)
    assert torch.allclose(statistics.double(), exact, rtol=1e-5)
    given = NORM.backend("triton_resident")(x, weight, bias, 8, EPS, statistics)
    assert torch.allclose(given, y, rtol=1e-5, atol=1e-5)


def test_an_image_does_not_depend_on_its_batch_and_opcheck_passes() -> None:
    op = import_module("v2f_kernels.group_norm_silu.triton_resident_op").resident_op
    x, weight, bias = noise(3, 32, 6, 7, seed=0, dtype=torch.float32), torch.ones(32), torch.zeros(32)
    for a, b, c in zip(*(op(t, weight, bias, 8, EPS) for t in (x, x, x[1:2])), strict=True):
        assert torch.equal(a, b), "a second run differs"
        assert torch.equal(a[1:2], c), "image 1 differs alone"
    torch.library.opcheck(op, (x[:1].requires_grad_(), weight, bias, 8, EPS))


FAULTS = {
    "means of channels are not merged": ("within + away * away * HW", "within"),
    "a group's channels are counted whole": ("/ (HW * CPG)", "/ (HW * BLOCK_G)"),
    "scale missing": ("scale = (rstd * weight)", "scale = (rstd)"),
    "sums around zero": ("tl.sum(tl.reshape(shift, sum1.shape), 0) / BLOCK_P", "0.0"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_injected_fault_is_seen(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one line of the kernel wrong the same check must fail."""
    right, wrong = FAULTS[fault]
    original = import_module("v2f_kernels.group_norm_silu.triton_resident")
    launcher = import_module("v2f_kernels.group_norm_silu.triton_resident_op")
    assert original.__file__ is not None
    source = Path(original.__file__).read_text()
    assert source.count(right) == 1
    path = tmp_path / "broken.py"
    path.write_text(source.replace(right, wrong))
    spec = importlib.util.spec_from_file_location("broken_resident", path)
    assert spec is not None
    assert spec.loader is not None
    broken = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(broken)
    monkeypatch.setattr(launcher, "resident_kernel", broken.resident_kernel)
    shape = 2, 48, 7, 5, 8
    with pytest.raises(AssertionError):
        check(shape, torch.float32)
    monkeypatch.setattr(launcher, "resident_kernel", original.resident_kernel)
    check(shape, torch.float32)
