"""LayerNorm, linear + GELU and token expansion under Triton's interpreter: outputs and gradients by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from v2f_kernels._op import Op
from v2f_kernels._triton.launch import LaunchConfig
from v2f_kernels.attention import OP as ATTENTION
from v2f_kernels.expand_tokens import OP as EXPAND
from v2f_kernels.gelu_linear import OP as GELU
from v2f_kernels.layer_norm import OP as NORM

triton = pytest.importorskip("triton")
import triton.language as tl  # noqa: E402

pytestmark = [pytest.mark.interpreter, pytest.mark.usefixtures("poisoned")]

EPS = 1e-6
DTYPES = [torch.float32, torch.float16]
Judge = Callable[..., None]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def normed(shape: tuple[int, ...], dtype: torch.dtype, parameters: torch.dtype) -> dict[str, torch.Tensor]:
    # A mean of 2 and weights around 1: what LayerNorm sees in a transformer, and a test of its centring.
    return {
        "x": draw(*shape).add(2.0).to(dtype),
        "weight": draw(shape[-1], seed=1).mul(0.2).add(1.0).to(parameters),
        "bias": draw(shape[-1], seed=2).to(parameters),
    }


def expansion(batch: int, kept: int, width: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(batch * kept)
    return {
        "feature": draw(batch, width, seed=1, dtype=dtype),
        "weight": draw(49, seed=2, dtype=dtype),
        "bias": draw(49, seed=3, dtype=dtype),
        "masked": torch.rand((batch, 49), generator=random) < 0.4,
        "kept": torch.rand((batch, 49), generator=random).argsort(1)[:, :kept].sort(1).values,
        "position": draw(50, width, seed=4, dtype=dtype),
        "norm_weight": draw(width, seed=5).mul(0.2).add(1.0).to(dtype),
        "norm_bias": draw(width, seed=6, dtype=dtype),
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 192), (3, 5, 48), (7, 100), (2, 1280)], ids=str)
def test_layer_norm(shape: tuple[int, ...], dtype: torch.dtype, judge_op: Judge) -> None:
    judge_op(NORM, normed(shape, dtype, dtype), eps=EPS)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 25, 192), (1, 3, 100)], ids=str)
def test_layer_norm_with_residual(shape: tuple[int, ...], dtype: torch.dtype, judge_op: Judge) -> None:
    judge_op(NORM, normed(shape, dtype, dtype) | {"residual": draw(*shape, seed=3, dtype=dtype)}, eps=EPS)


def test_layer_norm_of_many_rows_a_program(judge_op: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    """13 rows on 3 programs of 2 rows a step: the last program has one row, and sums run over steps."""
    backward = LaunchConfig(4, 1, {"ROWS": 2, "PROGRAMS": 3}, "test")
    forward = LaunchConfig(4, 1, {"ROWS": 4}, "test")
    monkeypatch.setattr(
        "v2f_kernels.layer_norm.triton_op.launch_config",
        lambda op, kernel, *_: {"forward": forward, "backward": backward}[kernel],
    )
    judge_op(NORM, normed((13, 16), torch.float32, torch.float32), eps=EPS)


def test_layer_norm_mixed_dtypes() -> None:
    inputs = normed((3, 48), torch.float16, torch.float32) | {"residual": draw(3, 48, seed=3)}
    y, total = NORM.backend("triton")(**inputs, eps=EPS)
    expected, exact_total = NORM.backend("reference")(**inputs, eps=EPS)
    assert (y.dtype, total.dtype) == (torch.float16, torch.float32)
    assert torch.equal(total, exact_total)
    torch.testing.assert_close(y, expected, rtol=2**-10, atol=2**-10)


def test_layer_norm_gradient_of_the_sum_alone() -> None:
    inputs = normed((3, 48), torch.float32, torch.float32)
    x, residual = (draw(3, 48, seed=s).requires_grad_() for s in (3, 4))
    _, total = NORM.backend("triton")(x, inputs["weight"], inputs["bias"], EPS, residual=residual)
    total.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))
    assert torch.equal(residual.grad, torch.ones_like(x))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(1, 64, 40), (130, 72, 200), (3, 8, 16)], ids=str)
def test_gelu_linear(sizes: tuple[int, int, int], dtype: torch.dtype, judge_op: Judge) -> None:
    rows, inner, width = sizes
    weight = (draw(width, inner, seed=1) / inner**0.5).to(dtype)
    judge_op(GELU, {"x": draw(rows, inner, dtype=dtype), "weight": weight, "bias": draw(width, dtype=dtype)})


def test_gelu_linear_without_gradients_saves_nothing() -> None:
    from bench.candidates.gelu_linear.triton_op import forward_op

    x, weight, bias = draw(2, 3, 16), draw(8, 16, seed=1), draw(8, seed=2)
    y, z = forward_op(x, weight, bias, False)
    assert z.numel() == 0
    torch.testing.assert_close(y, GELU.backend("reference")(x, weight, bias))
    with pytest.raises(RuntimeError, match="save=True"):
        forward_op(x.requires_grad_(), weight, bias, False)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(1, 44, 48), (3, 24, 100), (18, 5, 16), (2, 0, 16)], ids=str)
def test_expand_tokens(sizes: tuple[int, int, int], dtype: torch.dtype, judge_op: Judge) -> None:
    judge_op(EXPAND, expansion(*sizes, dtype), eps=EPS)


def test_registered_ops() -> None:
    from v2f_kernels.expand_tokens.triton_op import forward_op as expand_op
    from v2f_kernels.layer_norm.triton_op import add_norm_op, norm_op

    from bench.candidates.gelu_linear.triton_op import forward_op as gelu_op

    def leaves(tensors: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        return [t.requires_grad_() if t.is_floating_point() else t for t in tensors.values()]

    line = normed((3, 16), torch.float32, torch.float32)
    torch.library.opcheck(norm_op, (*leaves(line), EPS))
    x, weight, bias = leaves(line)
    torch.library.opcheck(add_norm_op, (x, draw(3, 16, seed=9), weight, bias, EPS))
    torch.library.opcheck(gelu_op, (x, draw(8, 16).requires_grad_(), draw(8), True))
    torch.library.opcheck(expand_op, (*leaves(expansion(2, 3, 16, torch.float32)), EPS))


CALLS: dict[str, tuple[Op, dict[str, torch.Tensor], dict[str, float]]] = {
    "attention": (ATTENTION, {"qkv": draw(2, 3, 3, 1, 16)}, {"dropout": 0.3, "seed": 4}),
    "layer_norm": (NORM, normed((3, 16), torch.float32, torch.float32), {"eps": EPS}),
    "add_layer_norm": (
        NORM,
        normed((3, 16), torch.float32, torch.float32) | {"residual": draw(3, 16, seed=3)},
        {"eps": EPS},
    ),
    "gelu_linear": (GELU, {"x": draw(3, 8), "weight": draw(16, 8), "bias": draw(16)}, {}),
    "expand_tokens": (EXPAND, expansion(2, 3, 16, torch.float32), {"eps": EPS}),
}


@pytest.mark.parametrize("name", CALLS)
def test_traces_into_one_graph(name: str) -> None:
    """fullgraph: no wrapper breaks the graph, forward or backward; the kernels inside are the same."""
    op, tensors, fixed = CALLS[name]
    kernel = op.backend("triton")

    @torch.compile(fullgraph=True, backend="aot_eager")
    def traced(values: dict[str, torch.Tensor]) -> object:
        return kernel(**values, **fixed)

    def run(function: Callable[[dict[str, torch.Tensor]], object]) -> list[torch.Tensor]:
        leaves = {k: v.clone().requires_grad_(v.is_floating_point()) for k, v in tensors.items()}
        made = function(leaves)
        outputs = made if isinstance(made, tuple) else (made,)
        sum(o.square().sum() for o in outputs).backward()
        return [*outputs, *(leaf.grad for leaf in leaves.values() if leaf.requires_grad)]

    for eager, compiled in zip(run(lambda v: kernel(**v, **fixed)), run(traced), strict=True):
        assert torch.equal(eager, compiled)


@triton.jit
def biased_moments(x, inside, eps, D: tl.constexpr):  # type: ignore
    """LayerNorm's moments with the padding lanes forgotten: they add mean^2 each to the variance."""
    mean = tl.sum(x, 1) / D
    centred = x - mean[:, None]
    rstd = tl.rsqrt(tl.sum(centred * centred, 1) / D + eps)
    return tl.where(inside, centred, 0.0) * rstd[:, None], rstd


@pytest.mark.parametrize("dtype", DTYPES)
def test_missing_mask_turns_the_judge_red(
    dtype: torch.dtype, judge_op: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("v2f_kernels.layer_norm.triton_norm.row_moments", biased_moments)
    with pytest.raises(AssertionError, match="output 0: rms error"):
        judge_op(NORM, normed((3, 100), dtype, dtype), eps=EPS)


def test_tanh_gelu_turns_the_judge_red(judge_op: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    # sqrt(1/2) -> the constant of the logistic approximation's scale: a wrong epilogue, nearly right to the eye.
    monkeypatch.setattr("bench.candidates.gelu_linear.triton_gelu.SQRT_HALF", tl.constexpr(0.70))
    tensors = {"x": draw(5, 16), "weight": draw(8, 16, seed=1) / 4, "bias": draw(8, seed=2)}
    with pytest.raises(AssertionError, match="output 0: rms error"):
        judge_op(GELU, tensors)
