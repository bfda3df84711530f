"""Batch normalisation with PReLU: the specification against torch's layers in fp64, gradients, refusals."""

import pytest
import torch
from batch_norm_inputs import (
    BACKENDS,
    EPS,
    FORMS,
    call,
    call_through,
    given,
    layers,
    measured,
    noise,
    running,
)
from torch import nn
from v2f_kernels.batch_norm_prelu import OP


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(3, 12, 5, 7), (2, 3, 1, 1)], ids=str)
def test_agrees_with_torchs_layers_in_fp64(backend, form, shape):
    named = given(shape, form)
    expected, before = measured(layers, named, torch.float64)
    found, after = measured(lambda n, s: call(backend, n, s), named, torch.float64)
    assert (before, after) == (8, 8)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=1e-10, atol=1e-10), name
    assert found["y"].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("form", FORMS)
def test_gradients_in_fp64(backend, form):
    named = given((2, 3, 3, 2), form)
    assert torch.autograd.gradcheck(
        lambda *t: call(backend, dict(zip(named, t, strict=True)), running(3)),
        [t.requires_grad_() for t in named.values()],
    )


def test_a_cpu_computes_what_its_layers_did_bit_for_bit():
    for enabled, dtype in ((False, torch.float32), (True, torch.bfloat16)):
        named = given((3, 16, 6, 6), "both", dtype, torch.float32)
        norm, prelu = nn.BatchNorm2d(16, eps=EPS), nn.PReLU(16)
        with torch.no_grad():
            norm.weight.copy_(named["weight"])
            norm.bias.copy_(named["bias"])
            prelu.weight.copy_(named["slope"])
        state = (norm.running_mean.clone(), norm.running_var.clone(), norm.num_batches_tracked.clone())
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            expected = prelu(norm(named["x"])) + named["residual"]
            found = call("torch", named, state)
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
        layers_own = (norm.running_mean, norm.running_var, norm.num_batches_tracked)
        assert all(torch.equal(own, theirs) for own, theirs in zip(state, layers_own, strict=True))


X, W, N = noise(2, 8, 4, 4), torch.ones(8, dtype=torch.float64), torch.tensor(0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X[0], W, W, W, W, N, 0.1, EPS), r"expected a non-empty floating \[B, C, H, W\]"),
        ((X[:1, :, :1, :1], W, W, W, W, N, 0.1, EPS), "at least two pixels"),
        ((X, W, W[:4], W, W, N, 0.1, EPS), r"bias: expected a floating \[8\].* found .*\(4,\)"),
        ((X, W, W, W, W[:4], N, 0.1, EPS), r"running_var: expected a floating \[8\]"),
        ((X, W, W, W, W, W, 0.1, EPS), r"batches: expected int64 \[\]"),
        ((X, W, W, W, W, N, 1.5, EPS), "momentum: expected a number between 0 and 1, found 1.5"),
        ((X, W, W, W, W, N, 0.1, EPS, W[:3]), r"slope: expected a floating \[8\].*\(3,\)"),
        ((X, W, W, W, W, N, 0.1, EPS, W, X.float()), "residual: expected torch.float64"),
    ],
)
def test_errors_say_what_was_expected_and_found(arguments, message):
    with pytest.raises(ValueError, match=message):
        OP.backend("torch")(*arguments)


@pytest.mark.parametrize("backend", BACKENDS)
def test_x_goes_through(backend):
    found, _ = measured(lambda n, s: call_through(backend, n, s), given((2, 3, 4, 4), "both"), torch.float64)
    expected, _ = measured(
        lambda n, s: layers(n, s) + 0.5 * n["x"], given((2, 3, 4, 4), "both"), torch.float64
    )
    assert all(torch.allclose(found[name], value, rtol=1e-10, atol=1e-10) for name, value in expected.items())
