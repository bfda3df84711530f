"""Bias, residual and statistics in one pass, and the convolutions that end in it, under the interpreter.

Kernel modules are imported inside the tests: see conftest.
"""

from __future__ import annotations

import importlib.util
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from v2f_kernels._judge import judge
from v2f_kernels._op import Op
from v2f_kernels.add_statistics import OP as ADD
from v2f_kernels.conv3x3 import OP as CONV
from v2f_kernels.upsample_conv3x3 import FOLDED
from v2f_kernels.upsample_conv3x3.fold import fold_weights

pytestmark = pytest.mark.interpreter

DTYPES = (torch.float32, torch.float16)  # the interpreter computes bfloat16 wrongly: it is compiled, not run
Named = dict[str, torch.Tensor]


def noise(
    *shape: int, seed: int, dtype: torch.dtype = torch.float32, scale: float = 1.0, shift: float = 0.0
) -> torch.Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale + shift
    drawn = drawn.to(dtype)
    return drawn.contiguous(memory_format=torch.channels_last) if drawn.ndim == 4 else drawn


def judged(op: Op, backend: str, named: Named, fixed: dict[str, Any], upstream: torch.Tensor | None) -> None:
    """Outputs, statistics and, for an upstream gradient, every gradient by name, against the reference in fp64."""
    wide = {name: t.double() for name, t in named.items()}
    mine, oracle, native = (
        results(op.backend(name), tensors, fixed, upstream)
        for name, tensors in ((backend, named), ("reference", wide), ("torch", named))
    )
    assert mine.keys() == oracle.keys()
    failed = []
    for name in oracle:
        factor = 4.0 if mine[name].dtype == torch.float32 else 2.0
        verdict = judge(mine[name], oracle[name], native[name], factor=factor)
        failed += [] if verdict.passed else [f"{name}: {verdict}"]
    assert not failed, "; ".join(failed)


def results(function: Any, named: Named, fixed: dict[str, Any], upstream: torch.Tensor | None) -> Named:
    leaves = {name: t.detach().clone().requires_grad_(upstream is not None) for name, t in named.items()}
    made = function(**leaves, **fixed)
    y, statistics = made if isinstance(made, tuple) else (made, None)
    found = {"y": y.detach()} | ({} if statistics is None else {"statistics": statistics})
    if upstream is not None:
        gradients = torch.autograd.grad(y, list(leaves.values()), upstream.to(y.dtype))
        found |= {f"gradient of {name}": g for name, g in zip(leaves, gradients, strict=True)}
    return found


def small_chunks(monkeypatch: pytest.MonkeyPatch, **blocks: int) -> None:
    """Chunks and tiles so small that several are merged and the last is partly filled."""
    gpu = import_module("v2f_kernels.add_statistics.triton_op")
    config = gpu.launch_config("add_statistics", "add", torch.device("cpu"))
    small = type(config)(config.num_warps, config.num_stages, {**config.blocks, **blocks}, "test")
    monkeypatch.setattr(gpu, "launch_config", lambda *_: small)


SHAPES = [(1, 32, 3, 5, 8), (3, 48, 9, 4, 8), (2, 128, 7, 11, 32), (2, 64, 2, 2, 1), (1, 16, 1, 3, 4)]
BOTH = {"bias", "residual"}


def add_case(
    shape: tuple[int, ...], dtype: torch.dtype, given: set[str], gradients: bool = True, groups: bool = True
) -> None:
    batch, channels, height, width, divisor = shape
    whole = batch, channels, height, width
    named = {
        "x": noise(*whole, seed=0, dtype=dtype, scale=2, shift=5),
        "bias": noise(channels, seed=1, dtype=dtype),
        "residual": noise(*whole, seed=2, dtype=dtype, shift=-1),
    }
    named = {name: t for name, t in named.items() if name == "x" or name in given}
    fixed = {"out_groups": divisor} if groups else {}
    judged(ADD, "triton", named, fixed, noise(*whole, seed=3, dtype=dtype) if gradients else None)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("given", [{"bias"}, {"residual"}, BOTH], ids=lambda given: "+".join(sorted(given)))
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_what_is_added_and_its_moments(
    shape: tuple[int, ...],
    given: set[str],
    dtype: torch.dtype,
    poisoned: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small_chunks(monkeypatch, TILE=128, CHUNK=1024, DEPTH=2)
    add_case(shape, dtype, given)
    add_case(shape, dtype, given, groups=False)


def test_launched_as_committed(poisoned: None) -> None:
    add_case((1, 64, 33, 37, 8), torch.float16, BOTH, gradients=False)


def test_nothing_to_add_is_the_norms_own_pass() -> None:
    x = noise(2, 32, 5, 3, seed=0)
    assert ADD.backend("triton")(x) is x
    y, statistics = ADD.backend("triton")(x, out_groups=8)
    assert y is x
    assert torch.allclose(statistics, ADD.backend("reference")(x, out_groups=8)[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize(
    "rest", [{"bias"}, {"residual"}, BOTH, set()], ids=lambda r: "+".join(sorted(r)) or "bare"
)
def test_convolution(rest: set[str], norm: bool, dtype: torch.dtype, poisoned: None) -> None:
    batch, channels, out, height, width, groups = 2, 32, 48, 5, 7, 4
    named = {
        "x": noise(batch, channels, height, width, seed=0, dtype=dtype, shift=1),
        "weight": noise(out, channels, 3, 3, seed=1, dtype=dtype, scale=(9 * channels) ** -0.5),
        "bias": noise(out, seed=2, dtype=dtype),
        "residual": noise(batch, out, height, width, seed=3, dtype=dtype),
    }
    named = {name: t for name, t in named.items() if name in {"x", "weight"} | rest}
    fixed: dict[str, Any] = {"out_groups": groups}
    if norm:
        fixed["norm"] = (
            noise(channels, seed=4, dtype=dtype),
            noise(channels, seed=5, dtype=dtype),
            groups,
            1e-6,
        )
    upstream = noise(batch, out, height, width, seed=6, dtype=dtype)
    judged(CONV, "torch_joined", named, fixed, upstream)
    judged(CONV, "torch_joined", named, {}, upstream)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("biased", [False, True])
def test_upsampling(biased: bool, dtype: torch.dtype, poisoned: None) -> None:
    weight = noise(48, 32, 3, 3, seed=1, dtype=dtype, scale=1 / 17)
    named = {"x": noise(2, 32, 5, 7, seed=0, dtype=dtype, shift=1), "folded": fold_weights(weight)}
    named |= {"bias": noise(48, seed=2, dtype=dtype)} if biased else {}
    judged(FOLDED, "torch_joined", named, {"out_groups": 4}, None)
    judged(FOLDED, "torch_joined", named, {}, None)


def test_an_image_does_not_depend_on_its_batch() -> None:
    x, residual = (noise(3, 32, 6, 7, seed=seed, dtype=torch.float16) for seed in (0, 1))
    add, bias = ADD.backend("triton"), noise(32, seed=2)
    whole, again = (add(x, bias, residual, 8) for _ in range(2))
    for a, b, c in zip(whole, again, add(x[1:2], bias, residual[1:2], 8), strict=True):
        assert torch.equal(a, b), "a second run differs"
        assert torch.equal(a[1:2], c), "image 1 differs alone"


def test_the_registered_op_passes_opcheck() -> None:
    op = import_module("v2f_kernels.add_statistics.triton_op").add_op
    x, bias = noise(1, 16, 2, 3, seed=0).requires_grad_(), noise(16, seed=1).requires_grad_()
    for arguments in ((x, bias, x.detach(), 4), (x, None, x.detach(), 0), (x, bias, None, 0)):
        torch.library.opcheck(op, arguments)


def test_refusals() -> None:
    x = noise(2, 16, 3, 3, seed=0)
    add = ADD.backend("triton")
    with pytest.raises(ValueError, match="residual: expected channels-last memory"):
        add(x, None, x.contiguous())
    with pytest.raises(ValueError, match=r"bias: expected \[16\]"):
        add(x, torch.ones(8))
    with pytest.raises(ValueError, match="out_groups: expected a divisor of the 16 output channels, found 5"):
        add(x, out_groups=5)


FAULTS = {
    "bias missing": ("add_kernel", "    total += bias\n", ""),
    "residual missing": ("add_kernel", "        total += more.to(tl.float32)\n", ""),
    "moments of another y": (
        "add_kernel",
        "add_deviations(y.to(tl.float32)",
        "add_deviations(1.001 * y.to(tl.float32)",
    ),
    "the last chunk is counted whole": ("add_kernel", "(end - first).to(tl.float32)", "CHUNK * 1.0"),
    "a chunk reads into the next": ("add_kernel", "end = tl.minimum(first + CHUNK, HW)", "end = HW"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_injected_fault_is_seen(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one line of the kernel wrong the same checks must fail."""
    kernel, right, wrong = FAULTS[fault]
    original = import_module("v2f_kernels.add_statistics.triton_add")
    launcher = import_module("v2f_kernels.add_statistics.triton_op")
    assert original.__file__ is not None
    source = Path(original.__file__).read_text()
    assert source.count(right) == 1
    path = tmp_path / "broken.py"
    path.write_text(source.replace(right, wrong))
    spec = importlib.util.spec_from_file_location("broken_add", path)
    assert spec is not None
    assert spec.loader is not None
    broken = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(broken)
    # 33 pixels a chunk and 16 a tile: a tile reaches over the end of its chunk.
    small_chunks(monkeypatch, TILE=512, CHUNK=33 * 32, DEPTH=2)
    monkeypatch.setattr(launcher, kernel, getattr(broken, kernel))

    def check() -> None:
        add_case((2, 32, 7, 11, 8), torch.float32, BOTH, gradients=False)

    with pytest.raises(AssertionError):
        check()
    monkeypatch.setattr(launcher, kernel, getattr(original, kernel))
    check()
