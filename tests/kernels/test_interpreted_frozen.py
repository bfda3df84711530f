"""What stands between a frozen recogniser's convolutions, and its perceptual distance, under Triton's interpreter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from v2f_kernels._op import Op
from v2f_kernels.bias_prelu import OP as PRELU
from v2f_kernels.bias_residual import OP as RESIDUAL
from v2f_kernels.unit_distance import OP as DISTANCE

triton = pytest.importorskip("triton")
import triton.language as tl  # noqa: E402

pytestmark = [pytest.mark.interpreter, pytest.mark.usefixtures("poisoned")]

DTYPES = [torch.float32, torch.float16]
SHAPES = [(2, 64, 7, 7), (3, 20, 5, 9), (1, 3, 1, 4), (2, 8, 1, 1), (1, 130, 2, 3)]
Tensors = dict[str, torch.Tensor]
Check = Callable[..., None]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def run(function: Callable[..., torch.Tensor], moving: Tensors, constants: Tensors) -> Tensors:
    """The output, and the gradient of every moving tensor, for a seeded gradient of the output."""
    leaves = {name: t.detach().clone().requires_grad_() for name, t in moving.items()}
    y = function(**leaves, **constants)
    upstream = draw(*y.shape, seed=9, dtype=torch.float16).to(y.dtype)
    made = torch.autograd.grad(y, list(leaves.values()), upstream)
    return {"output": y.detach(), **{f"gradient of {n}": g for n, g in zip(leaves, made, strict=True)}}


@pytest.fixture
def check(assert_judged: Callable[..., None]) -> Check:
    """`triton` against the reference in fp64, allowed what `torch` errs; and twice the same bits."""

    def checked(op: Op, moving: Tensors, **constants: torch.Tensor) -> None:
        wide = [{name: t.double() for name, t in given.items()} for given in (moving, constants)]
        mine, again = (run(op.backend("triton"), moving, constants) for _ in range(2))
        oracle, native = run(op.backend("reference"), *wide), run(op.backend("torch"), moving, constants)
        assert_judged({name: (mine[name], oracle[name], native[name]) for name in oracle})
        for name, value in mine.items():
            assert torch.equal(value, again[name]), name
            assert value.ndim < 4 or value.is_contiguous(memory_format=torch.channels_last), name

    return checked


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("edges", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bias_and_prelu(shape: tuple[int, ...], edges: bool, dtype: torch.dtype, check: Check) -> None:
    """Slopes of both signs: y's sign says nothing then."""
    bias = draw(*((4, 4) if edges else ()), shape[1], seed=1)
    check(PRELU, {"x": draw(*shape, dtype=dtype)}, bias=bias, slope=draw(shape[1], seed=2))


def test_prelu_at_zero_and_beyond_numbers() -> None:
    x = torch.tensor([0.0, -0.0, 1.0, float("nan"), float("inf"), -1.0]).view(1, 6, 1, 1).requires_grad_()
    y = PRELU.backend("triton")(x, torch.zeros(6), torch.full((6,), 0.25))
    y.sum().backward()
    wanted = x.detach().clone().requires_grad_()
    theirs = torch.nn.functional.prelu(wanted, torch.full((6,), 0.25))
    theirs.sum().backward()
    torch.testing.assert_close(y, theirs, equal_nan=True, rtol=0, atol=0)
    assert torch.equal(x.grad, wanted.grad)


def test_signs_are_kept_for_a_gradient_alone() -> None:
    from v2f_kernels.bias_prelu.triton_op import forward_op

    x, constant = draw(2, 12, 3, 3), draw(12, seed=1)
    assert [forward_op(x, constant, constant, keep)[1].shape for keep in (False, True)] == [(0, 2), (18, 2)]
    with pytest.raises(RuntimeError, match="keep=True"):
        forward_op(x.requires_grad_(), constant, constant, False)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bias_and_residual(shape: tuple[int, ...], dtype: torch.dtype, check: Check) -> None:
    moving = {"x": draw(*shape, dtype=dtype), "shortcut": draw(*shape, seed=1, dtype=dtype)}
    check(RESIDUAL, moving, bias=draw(shape[1], seed=2))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "shape",
    [(8, 64, 7, 7), (9, 20, 5, 9), (12, 3, 1, 4), (12, 8, 1, 1), (9, 130, 2, 3), (3, 48, 30, 31)],
    ids=str,
)
def test_distance(shape: tuple[int, ...], weighted: bool, dtype: torch.dtype, check: Check) -> None:
    """Many images, since the judge looks at one number of each; the last shape is several tiles and chunks."""
    weight = {"weight": draw(shape[1], seed=2).abs()} if weighted else {}
    check(DISTANCE, {"left": draw(*shape, dtype=dtype), "right": draw(*shape, seed=1, dtype=dtype)}, **weight)


def test_distance_of_short_vectors(check: Check) -> None:
    """Below the floor a length is a constant, at it it is not; a vector of zeros has a finite gradient."""
    left, right = draw(1, 4, 2, 2), draw(1, 4, 2, 2, seed=1)
    left[0, :, 0, 0] = 0
    left[0, :, 0, 1] *= 1e-5
    left[0, :, 1, 0] = torch.tensor([1e-4, 0, 0, 0])
    check(DISTANCE, {"left": left, "right": right})
    free = left.clone().requires_grad_()
    DISTANCE.backend("triton")(free, right).backward()
    u = torch.tensor([1.0, 0, 0, 0])
    assert free.grad is not None
    assert torch.isfinite(free.grad).all()
    assert abs(float(free.grad[0, :, 1, 0] @ u)) < 1e-3 < float(free.grad[0, :, 1, 0].norm())  # across alone
    assert float(free.grad[0, :, 0, 1] @ (left[0, :, 0, 1] / left[0, :, 0, 1].norm())) != 0


def test_distance_of_near_maps_is_not_lost(check: Check) -> None:
    """A relative difference of 1e-4: 1e-8 of 2, which 2 - 2 u.v would lose in fp32."""
    left = draw(2, 64, 6, 6)
    check(DISTANCE, {"left": left, "right": left + 1e-4 * draw(2, 64, 6, 6, seed=1)})


def test_only_what_is_asked_is_computed() -> None:
    left, right = draw(1, 8, 3, 3).requires_grad_(), draw(1, 8, 3, 3, seed=1)
    d = DISTANCE.backend("triton")(left, right)
    d.sum().backward()
    assert left.grad is not None
    assert right.grad is None


def test_registered_ops() -> None:
    from v2f_kernels.bias_prelu.triton_op import forward_op as prelu_op
    from v2f_kernels.bias_residual.triton_op import sum_op
    from v2f_kernels.unit_distance.triton_op import forward_op as distance_op

    x, y, constant = draw(2, 12, 3, 4).requires_grad_(), draw(2, 12, 3, 4, seed=1).requires_grad_(), draw(12)
    torch.library.opcheck(prelu_op, (x, draw(4, 4, 12), constant, True))
    torch.library.opcheck(sum_op, (x, constant, y))
    torch.library.opcheck(distance_op, (x, y, constant, 1e-4))
    torch.library.opcheck(distance_op, (x, y.detach(), None, 1e-4))


def test_memory_in_another_order_is_refused() -> None:
    x, constant = draw(2, 8, 3, 4).contiguous(), draw(8)
    for op, arguments in ((PRELU, (x, constant, constant)), (RESIDUAL, (x, constant, x)), (DISTANCE, (x, x))):
        with pytest.raises(ValueError, match="channels-last"):
            op.backend("triton")(*arguments)


@triton.jit
def edge_without_the_last(place, size):  # type: ignore
    return (place == 0).to(tl.int32)


@triton.jit
def unit_rows_with_a_moving_floor(x, floor):  # type: ignore
    """The clamp's gradient forgotten: every length moves."""
    length = tl.sqrt(tl.sum(x * x, 1))
    m = tl.maximum(length, floor)
    return x / m[:, None], m, length >= 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_forgotten_edge_turns_the_judge_red(
    dtype: torch.dtype, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("v2f_kernels.bias_prelu.triton_bits.edge", edge_without_the_last)
    with pytest.raises(AssertionError, match="output: rms error"):
        check(
            PRELU, {"x": draw(2, 16, 5, 5, dtype=dtype)}, bias=draw(4, 4, 16, seed=1), slope=draw(16, seed=2)
        )


def test_a_forgotten_clamp_turns_the_judge_red(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("v2f_kernels.unit_distance.triton_rows.unit_rows", unit_rows_with_a_moving_floor)
    left = draw(1, 4, 3, 3) * 1e-5
    with pytest.raises(AssertionError, match="gradient of left"):
        check(DISTANCE, {"left": left, "right": draw(1, 4, 3, 3, seed=1)})
