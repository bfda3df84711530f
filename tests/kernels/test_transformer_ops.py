"""LayerNorm, linear + GELU and token expansion: references against closed forms and gradcheck, bad input."""

import math

import pytest
import torch
import torch.nn.functional as F
from v2f_kernels.expand_tokens import OP as EXPAND
from v2f_kernels.gelu_linear import OP as GELU
from v2f_kernels.layer_norm import OP as NORM

EPS = 1e-6
BACKENDS = ["reference", "torch"]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def expansion(batch: int, kept: int, width: int) -> dict[str, torch.Tensor]:
    order = torch.rand((batch, 49), generator=torch.Generator().manual_seed(batch)).argsort(1)
    return {
        "feature": draw(batch, width, seed=1),
        "weight": draw(49, seed=2),
        "bias": draw(49, seed=3),
        "masked": torch.rand((batch, 49), generator=torch.Generator().manual_seed(4)) < 0.4,
        "kept": order[:, :kept].sort(1).values,
        "position": draw(50, width, seed=5),
        "norm_weight": draw(width, seed=6),
        "norm_bias": draw(width, seed=7),
    }


@pytest.mark.parametrize("backend", BACKENDS)
def test_norm_of_two_values_is_plus_minus_one(backend: str) -> None:
    x = torch.tensor([[3.0, 7.0], [-1.0, 1.0]], dtype=torch.float64)
    ones, zeros = torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    expected = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    expected = torch.stack([expected * 2 / math.sqrt(4 + EPS), expected / math.sqrt(1 + EPS)])
    torch.testing.assert_close(NORM.backend(backend)(x, ones, zeros, EPS), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_norm_with_residual(backend: str) -> None:
    x, residual, weight, bias = draw(2, 3, 8), draw(2, 3, 8, seed=1), draw(8, seed=2), draw(8, seed=3)
    y, total = NORM.backend(backend)(x, weight, bias, EPS, residual=residual)
    assert torch.equal(total, x + residual)
    torch.testing.assert_close(y, F.layer_norm(x + residual, (8,), weight, bias, EPS))


def test_norm_sum_keeps_the_wider_dtype() -> None:
    x, residual, line = draw(2, 8).bfloat16(), draw(2, 8, seed=1).float(), torch.ones(8)
    for backend in BACKENDS:
        y, total = NORM.backend(backend)(x, line, line, EPS, residual=residual)
        assert (y.dtype, total.dtype) == (torch.bfloat16, torch.float32)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gelu_is_the_erf_form(backend: str) -> None:
    x = torch.tensor([[-1.5], [0.3], [2.0]], dtype=torch.float64)
    one, half = torch.ones((1, 1), dtype=torch.float64), torch.full((1,), 0.5, dtype=torch.float64)
    expected = [z * (1 + math.erf(z / math.sqrt(2))) / 2 for z in (-1.0, 0.8, 2.5)]
    torch.testing.assert_close(GELU.backend(backend)(x, one, half)[:, 0].tolist(), expected)
    tanh_form = F.gelu(torch.tensor(-1.0, dtype=torch.float64), approximate="tanh").item()
    assert abs(tanh_form - expected[0]) > 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_expansion_row_by_row(backend: str) -> None:
    inputs = expansion(2, 5, 8)
    tokens = EXPAND.backend(backend)(**inputs, eps=EPS)
    norm = (8,), inputs["norm_weight"], inputs["norm_bias"], EPS
    for b in range(2):
        f = inputs["feature"][b]
        torch.testing.assert_close(tokens[b, 0], F.layer_norm(f + inputs["position"][0], *norm))
        for k, r in enumerate(inputs["kept"][b].tolist()):
            row = f if inputs["masked"][b, r] else inputs["weight"][r] * f + inputs["bias"][r]
            expected = F.layer_norm(row + inputs["position"][1 + r], *norm)
            torch.testing.assert_close(tokens[b, 1 + k], expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients(backend: str) -> None:
    def leaves(*tensors: torch.Tensor) -> list[torch.Tensor]:
        return [t.requires_grad_() for t in tensors]

    norm, gelu, expand = (op.backend(backend) for op in (NORM, GELU, EXPAND))
    rows, line = leaves(draw(3, 5), draw(3, 5, seed=1)), leaves(draw(5, seed=2), draw(5, seed=3))
    assert torch.autograd.gradcheck(lambda x, w, b: norm(x, w, b, EPS), (rows[0], *line))
    assert torch.autograd.gradcheck(lambda x, r, w, b: norm(x, w, b, EPS, residual=r), (*rows, *line))
    assert torch.autograd.gradcheck(gelu, leaves(draw(3, 5), draw(4, 5, seed=1), draw(4, seed=2)))
    inputs = expansion(2, 3, 4)
    names = [name for name, value in inputs.items() if value.is_floating_point()]

    def by_name(*values: torch.Tensor) -> torch.Tensor:
        return expand(**(inputs | dict(zip(names, values, strict=True))), eps=EPS)

    assert torch.autograd.gradcheck(by_name, leaves(*(inputs[name] for name in names)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_bad_shapes_are_named(backend: str) -> None:
    x, line = torch.zeros(2, 8), torch.zeros(8)
    norm, gelu, expand = (op.backend(backend) for op in (NORM, GELU, EXPAND))
    with pytest.raises(ValueError, match=r"weight: expected \[8\]"):
        norm(x, line[:4], line, EPS)
    with pytest.raises(ValueError, match="residual: expected the shape of x"):
        norm(x, line, line, EPS, residual=x[:1])
    with pytest.raises(ValueError, match=r"weight: expected \[M, 8\]"):
        gelu(x, torch.zeros(3, 7), torch.zeros(3))
    with pytest.raises(ValueError, match="bias: expected"):
        gelu(x, torch.zeros(3, 8), torch.zeros(2))
    good = expansion(2, 3, 4)
    for name, bad in [
        ("weight", good["weight"][:48]),
        ("masked", good["masked"].to(torch.int64)),
        ("kept", good["kept"].to(torch.int32)),
        ("kept", good["kept"][:1]),
        ("position", good["position"][:49]),
    ]:
        with pytest.raises(ValueError, match=f"{name}: expected"):
            expand(**(good | {name: bad}), eps=EPS)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_kernels_refuse_the_cpu() -> None:
    pytest.importorskip("triton")
    from v2f_kernels import BackendUnavailable

    x, line = torch.zeros(2, 8), torch.zeros(8)
    with pytest.raises(BackendUnavailable, match="layer_norm/triton needs CUDA"):
        NORM.backend("triton")(x, line, line, EPS)
    with pytest.raises(BackendUnavailable, match="gelu_linear/triton needs CUDA"):
        GELU.backend("triton")(x, torch.zeros(8, 8), line)
    with pytest.raises(BackendUnavailable, match="expand_tokens/triton needs CUDA"):
        EXPAND.backend("triton")(**expansion(2, 3, 4), eps=EPS)
