"""Linear layers with weights laid out once (`v2f_kernels._linear`): the bits of `F.linear`, only where it may be."""

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses import FakeTensorMode
from v2f_kernels import _linear
from v2f_kernels._linear import linear

BF16 = torch.bfloat16
usable = pytest.mark.skipif(not _linear._library(), reason="needs oneDNN with bf16 products")


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(BF16)


@usable
@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"),
    [
        ((16, 45), 768, 2304),
        ((50,), 768, 3072),
        ((7,), 3072, 768),
        ((64, 45), 192, 576),
        ((64, 50), 768, 192),
        ((1,), 192, 128),
    ],
)
@pytest.mark.parametrize("biased", [True, False])
def test_the_bits_are_those_of_torch(rows, inputs, outputs, biased):
    x, weight = drawn(*rows, inputs), drawn(outputs, inputs, seed=1)
    bias = drawn(outputs, seed=2) if biased else None
    with torch.no_grad():
        assert _linear._quicker(x, weight)
        assert torch.equal(linear(x, weight, bias), F.linear(x, weight, bias))


@usable
def test_a_weight_that_changes_is_laid_out_anew():
    x, weight = drawn(5, 64), drawn(32, 64, seed=1)
    with torch.no_grad():
        linear(x, weight)
        weight.mul_(3)
        assert torch.equal(linear(x, weight), F.linear(x, weight))


@usable
def test_a_weight_that_gets_other_memory_is_laid_out_anew():
    """`module.to(dtype)` sets `weight.data`, which counts as no change in place."""
    x, layer = drawn(5, 64), torch.nn.Linear(64, 32).to(BF16).requires_grad_(False)
    with torch.no_grad():
        for _ in range(4):  # a freed block's address is given out again at once
            linear(x, layer.weight)
            layer.weight.data = torch.randn(32, 64).to(BF16)
            assert torch.equal(linear(x, layer.weight), F.linear(x, layer.weight))
        before = linear(x, layer.weight)
        layer.float()
        layer.weight.data = layer.weight.data * 2
        layer.to(BF16)
        assert torch.equal(linear(x, layer.weight), before * 2)


@usable
def test_what_the_library_would_do_otherwise_is_torchs():
    """Other bits of a transposed input; no error for a bias in fp32; an error without sizes for wrong ones."""
    x, weight = drawn(3072, 45).t(), drawn(2304, 3072, seed=1)
    with torch.no_grad():
        assert torch.equal(linear(x, weight), F.linear(x, weight))
        x = drawn(5, 64)
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            linear(x, drawn(32, 63))
        with pytest.raises(RuntimeError, match="dtype"):
            linear(x, drawn(32, 64), torch.zeros(32))
        with pytest.raises(RuntimeError, match="64"):
            linear(x, drawn(64, 64), drawn(32))


@usable
def test_what_traces_sees_torchs_own_operator():
    x, weight = drawn(5, 64), drawn(32, 64)
    with torch.no_grad():
        linear(x, weight)
        traced = torch.jit.trace(lambda t: linear(t, weight), x)
        assert torch.equal(traced(x), F.linear(x, weight))
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            assert linear(mode.from_tensor(x), weight).shape == (5, 32)


@usable
def test_gradients_other_dtypes_and_compilers_get_torchs_own():
    x, weight = drawn(5, 64), drawn(32, 64, seed=1).requires_grad_()
    linear(x, weight).sum().backward()
    assert weight.grad is not None
    with torch.no_grad():
        assert not _linear._quicker(x.float(), weight.float())
        with torch.autocast("cpu", BF16):
            assert not _linear._quicker(x, weight)
    with torch.inference_mode():
        assert not _linear._quicker(x, weight.clone())
        assert _linear._quicker(x, weight)
