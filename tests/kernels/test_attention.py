"""Attention: the reference against closed forms and gradcheck, plain torch against the reference, bad input."""

import numpy as np
import pytest
import torch
from v2f_kernels.attention import OP
from v2f_kernels.attention.checks import drop_below
from v2f_kernels.attention.reference import dropout_mask
from v2f_kernels.philox.reference import philox4x32

reference = OP.backend("reference")


def random_qkv(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def test_equal_keys_average_the_values() -> None:
    qkv = random_qkv(2, 5, 3, 2, 16)
    qkv[:, :, 1] = 1.0
    expected = qkv[:, :, 2].mean(1, keepdim=True).expand(2, 5, 2, 16).flatten(2)
    torch.testing.assert_close(reference(qkv), expected)


def test_one_token_returns_its_value() -> None:
    qkv = random_qkv(3, 1, 3, 2, 16)
    torch.testing.assert_close(reference(qkv), qkv[:, :, 2].flatten(2))


def test_against_a_written_out_sum() -> None:
    qkv = random_qkv(1, 4, 3, 2, 16)
    q, k, v = (qkv[0, :, part].numpy() for part in range(3))
    for head in range(2):
        for i in range(4):
            weights = np.exp([q[i, head] @ k[j, head] / 4.0 for j in range(4)])
            expected = sum(w * v[j, head] for j, w in enumerate(weights)) / weights.sum()
            np.testing.assert_allclose(reference(qkv)[0, i, head * 16 : head * 16 + 16], expected, rtol=1e-12)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("backend", ["reference", "torch", "torch_products"])
def test_gradient(backend: str, dropout: float) -> None:
    qkv = random_qkv(1, 5, 3, 2, 16).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: OP.backend(backend)(x, dropout=dropout, seed=3), qkv)


@pytest.mark.parametrize("backend", ["torch", "torch_products"])
@pytest.mark.parametrize("dropout", [0.0, 0.25])
@pytest.mark.parametrize(("tokens", "heads", "depth"), [(1, 2, 48), (25, 2, 64), (50, 1, 48)])
def test_plain_torch_agrees(backend: str, tokens: int, heads: int, depth: int, dropout: float) -> None:
    qkv = random_qkv(3, tokens, 3, heads, depth)
    expected = reference(qkv, dropout=dropout, seed=2**63 + 5)
    torch.testing.assert_close(OP.backend(backend)(qkv, dropout=dropout, seed=2**63 + 5), expected)


def test_mask_is_the_contracts_word() -> None:
    batch, heads, tokens, seed, dropout = 3, 2, 50, 0x1234_5678_9ABC_DEF0, 0.3
    mask = dropout_mask(batch, heads, tokens, dropout, seed)
    key = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32)
    for b, h, i, j in [(0, 0, 0, 0), (0, 1, 3, 7), (2, 1, 49, 49), (1, 0, 10, 46)]:
        c = ((b * heads + h) * 64 + i) * 64 + j
        word = philox4x32(np.array([c // 4, 0, 0, 0], np.uint32), key)[c % 4]
        assert mask[b, h, i, j] == (word >= drop_below(dropout))


def test_mask_has_its_rate_and_depends_on_the_seed_alone() -> None:
    mask = dropout_mask(4, 4, 64, 0.1, 7)
    rate = 1.0 - mask.double().mean().item()
    assert abs(rate - 0.1) < 4 * (0.1 * 0.9 / mask.numel()) ** 0.5
    assert torch.equal(mask[:2], dropout_mask(2, 4, 64, 0.1, 7))
    assert torch.equal(mask[:, :, :50, :50], dropout_mask(4, 4, 50, 0.1, 7))
    assert not torch.equal(mask, dropout_mask(4, 4, 64, 0.1, 8))
    assert torch.equal(mask, dropout_mask(4, 4, 64, 0.1, torch.tensor(7)))


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((2, 5, 2, 2, 16), {}, r"\[B, N, 3, H, d\]"),
        ((2, 65, 3, 2, 16), {}, "1 to 64 tokens"),
        ((2, 5, 3, 2, 16), {"dropout": 1.0}, r"\[0, 1\)"),
        ((2, 5, 3, 2, 16), {"seed": 2**64}, "2\\*\\*64"),
        ((2, 5, 3, 2, 16), {"seed": torch.tensor(1.0)}, "one int64"),
    ],
)
@pytest.mark.parametrize("backend", ["reference", "torch", "torch_products"])
def test_bad_input_is_named(
    backend: str, shape: tuple[int, ...], arguments: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        OP.backend(backend)(torch.zeros(shape), **arguments)


def test_kernel_refuses_what_it_cannot_run() -> None:
    pytest.importorskip("triton")
    from v2f_kernels import BackendUnavailable
    from v2f_kernels.attention.triton_op import tile_width

    if not torch.cuda.is_available():
        with pytest.raises(BackendUnavailable, match="CUDA"):
            OP.backend("triton")(torch.zeros(1, 5, 3, 2, 16))
    widths = {1: 32, 16: 32, 32: 32, 33: 64, 48: 64, 64: 64, 65: 128, 80: 128, 128: 128}
    assert {depth: tile_width(depth) for depth in widths} == widths
    for depth in (0, 129, 160):
        with pytest.raises(ValueError, match=f"1 to 128, found {depth}; use the backend 'torch'"):
            tile_width(depth)
