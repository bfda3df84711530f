"""GroupNorm between leaky ReLUs: the specification by hand and against torch, gradients, refusals; then the kernels
under the interpreter, judged, with outputs poisoned, and with one line of them wrong.

Kernel modules are imported inside the tests: see conftest.
"""

import importlib.util
from importlib import import_module
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from v2f_kernels._judge import judge
from v2f_kernels.group_norm_leaky import OP

EPS = 1e-5
BACKENDS = ("reference", "torch")
DTYPES = (torch.float32, torch.float16)  # the interpreter computes bfloat16 wrongly: it is compiled, not run
STAGE, BLOCK = (0.1, 1.0), (1.0, 0.1)
"""Slopes before and after: of a stage's norm, which has a convolution's bias for a shift, and of a block's."""


def noise(*shape, seed=0, dtype=torch.float64, scale=1.0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    x = (torch.randn(*shape, generator=generator, dtype=torch.float64) * scale + shift).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


@pytest.mark.parametrize("backend", BACKENDS)
def test_by_hand(backend):
    # u = leaky(x + 1) = -0.2, 2.2 with slope 0.2: mean 1, deviation 1.2; z = 3 * (-1, 1) + 1, halved below zero.
    x = torch.tensor([-2.0, 1.2]).double().view(1, 1, 1, 2)
    one = torch.ones(1).double()
    y = OP.backend(backend)(x, 3 * one, one, 1, 0.0, 0.2, 0.5, one)
    torch.testing.assert_close(y.flatten(), torch.tensor([-1.0, 4.0]).double(), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("slopes", [STAGE, BLOCK, (0.3, 0.0), (1.0, 1.0)], ids=str)
@pytest.mark.parametrize("shifted", [True, False])
def test_agrees_with_torchs_layers(backend, slopes, shifted):
    x, weight, bias = noise(3, 12, 5, 7), noise(12, seed=1), noise(12, seed=2)
    shift = noise(12, seed=3) if shifted else None
    u = F.leaky_relu(x if shift is None else x + shift[:, None, None], slopes[0])
    expected = F.leaky_relu(F.group_norm(u, 3, weight, bias, EPS), slopes[1])
    y = OP.backend(backend)(x, weight, bias, 3, EPS, *slopes, shift)
    assert torch.allclose(y, expected, atol=1e-12)
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("slopes", [STAGE, BLOCK], ids=["stage", "block"])
def test_gradients_in_fp64(backend, slopes):
    inputs = [noise(2, 4, 3, 2), noise(4, seed=1), noise(4, seed=2), noise(4, seed=3)]
    assert torch.autograd.gradcheck(
        lambda x, w, b, s: OP.backend(backend)(x, w, b, 2, EPS, *slopes, s),
        [t.requires_grad_() for t in inputs],
    )


def test_a_cpu_computes_what_its_layers_did_bit_for_bit():
    """Half activations with fp32 weights under autocast, as the discriminator's layers had them."""
    x, norm = noise(2, 16, 6, 6, dtype=torch.float32), torch.nn.GroupNorm(8, 16)
    with torch.no_grad():
        norm.weight.copy_(noise(16, seed=1))
        norm.bias.copy_(noise(16, seed=2))
    for enabled, dtype in ((False, torch.float32), (True, torch.bfloat16)):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            held = x.to(dtype)
            stage = norm(F.leaky_relu(held, 0.1))
            block = F.leaky_relu(norm(held), 0.1)
            for slopes, expected in ((STAGE, stage), (BLOCK, block)):
                found = OP.backend("torch")(held, norm.weight, norm.bias, 8, norm.eps, *slopes)
                assert found.dtype == expected.dtype == dtype
                assert torch.equal(found, expected)


X, W = noise(1, 8, 4, 4), torch.ones(8, dtype=torch.float64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X[0], W, W, 2, EPS), r"expected a non-empty \[B, C, H, W\]"),
        ((X, W, W, 3, EPS), "divisor of the 8 channels of x, found 3"),
        ((X, W, W[:4], 2, EPS), r"bias: expected \[8\].* found \(4,\)"),
        ((X, W, W, 2, EPS, 0.1, 1.0, W[:3]), r"shift: expected \[8\].* found \(3,\)"),
        ((X, W, W, 2, EPS, -0.1), "before: expected a slope of at least 0, found -0.1"),
        ((X, W, W, 2, EPS, 0.1, float("nan")), "after: expected a slope of at least 0, found nan"),
    ],
)
def test_errors_say_what_was_expected_and_found(arguments, message):
    with pytest.raises(ValueError, match=message):
        OP.backend("torch")(*arguments)


def case(dtype, shape, groups, slopes, shifted):
    channels = shape[1]
    named = {
        "x": noise(*shape, dtype=dtype, scale=2, shift=1),
        "weight": noise(channels, seed=1, dtype=dtype),
        "bias": noise(channels, seed=2, dtype=dtype),
    }
    if shifted:
        named["shift"] = noise(channels, seed=3, dtype=dtype)
    upstream = noise(*shape, seed=4, dtype=dtype)
    results = {}
    for backend, width in (("triton", None), ("reference", torch.float64), ("torch", None)):
        inputs = {k: t.detach().to(width or t.dtype).requires_grad_() for k, t in named.items()}
        y = OP.backend(backend)(
            inputs["x"], inputs["weight"], inputs["bias"], groups, EPS, *slopes, inputs.get("shift")
        )
        gradients = torch.autograd.grad(y, list(inputs.values()), upstream.to(y.dtype))
        results[backend] = {"y": y, **{f"d{k}": g for k, g in zip(inputs, gradients, strict=True)}}
    return results


def assert_judged(results):
    failed = []
    for name, found in results["triton"].items():
        factor = 4.0 if found.dtype == torch.float32 else 2.0
        verdict = judge(found, results["reference"][name], results["torch"][name], factor=factor)
        failed += [] if verdict.passed else [f"{name}: {verdict}"]
    assert not failed, "; ".join(failed)


SMALL = [((3, 48, 9, 4), 8), ((2, 24, 7, 7), 2), ((1, 64, 14, 14), 8), ((2, 6, 1, 1), 2)]
LARGE = [((2, 48, 9, 4), 8), ((1, 128, 13, 5), 8), ((2, 24, 11, 3), 2)]


@pytest.mark.interpreter
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("slopes", "shifted"), [(STAGE, True), (BLOCK, False), ((0.3, 0.2), True), (STAGE, False)]
)
@pytest.mark.parametrize(("shape", "groups"), SMALL, ids=str)
def test_small_images(shape, groups, slopes, shifted, dtype):
    assert_judged(case(dtype, shape, groups, slopes, shifted))


def in_chunks(monkeypatch):
    """Images of any size take the kernels of large ones, in chunks of a tile."""
    op = import_module("v2f_kernels.group_norm_leaky.triton_op")
    monkeypatch.setattr(op, "SINGLE_PASS_PIXELS", 0)
    monkeypatch.setattr(op, "_tile", lambda config, c: {"BLOCK_P": 4, "BLOCK_C": 1 << (c - 1).bit_length()})
    monkeypatch.setattr(op, "_chunk", lambda config, c: 8)
    return op


@pytest.mark.interpreter
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("slopes", "shifted"), [(STAGE, True), (BLOCK, False), ((0.3, 0.2), True), (STAGE, False)]
)
@pytest.mark.parametrize(("shape", "groups"), LARGE, ids=str)
def test_large_images(shape, groups, slopes, shifted, dtype, monkeypatch):
    in_chunks(monkeypatch)
    assert_judged(case(dtype, shape, groups, slopes, shifted))


@pytest.mark.interpreter
def test_fp32_weights_under_half_activations_and_constants():
    """As under autocast; and where the parameters are constants only x gets a gradient."""
    x, weight = noise(2, 16, 5, 5, dtype=torch.float16), noise(16, seed=1, dtype=torch.float32)
    x.requires_grad_()
    y = OP.backend("triton")(x, weight, weight, 4, EPS, *STAGE, weight)
    exact = OP.backend("reference")(x, weight, weight, 4, EPS, *STAGE, weight)
    torch.testing.assert_close(y, exact, rtol=2e-3, atol=2e-3)
    (dx,) = torch.autograd.grad(y.float().square().sum(), x)
    (wanted,) = torch.autograd.grad(exact.float().square().sum(), x)
    torch.testing.assert_close(dx, wanted, rtol=5e-3, atol=2e-2)


@pytest.mark.interpreter
def test_a_large_mean_and_a_repeated_run(monkeypatch):
    x, one = noise(2, 16, 9, 9, dtype=torch.float32) + 300, torch.ones(16)
    exact = OP.backend("reference")(x.double(), one, one, 4, EPS, *STAGE, one)
    for chunked in (False, True):
        if chunked:
            in_chunks(monkeypatch)
        found, again = (OP.backend("triton")(x, one, one, 4, EPS, *STAGE, one) for _ in range(2))
        assert torch.equal(found, again)
        assert (found - exact).abs().max() < 1e-3
        assert torch.equal(OP.backend("triton")(x[1:], one, one, 4, EPS, *STAGE, one), found[1:])


@pytest.mark.interpreter
def test_the_registered_ops_are_sound():
    from v2f_kernels.group_norm_leaky.triton_op import backward_op, forward_op

    x, weight = noise(2, 16, 5, 5, dtype=torch.float32), noise(16, seed=1, dtype=torch.float32)
    for slopes, shift in ((STAGE, weight), (BLOCK, None)):
        arguments = (x.clone().requires_grad_(), weight, weight, 4, EPS, *slopes, shift)
        torch.library.opcheck(forward_op, arguments)
        statistics = forward_op(*arguments)[1].detach()
        torch.library.opcheck(backward_op, (x, x, weight, weight, statistics, EPS, *slopes, shift))


@pytest.mark.interpreter
def test_refuses_other_memory():
    one = torch.ones(16)
    with pytest.raises(ValueError, match="channels-last memory"):
        OP.backend("triton")(torch.ones(2, 16, 3, 3), one, one, 2, EPS)


# What breaks: (kernel, right, wrong, whether images are large).
FORWARD, BACKWARD = "triton_forward", "triton_backward"
FAULTS = {
    "the shift comes after": (FORWARD, "activated_apply_kernel", "leaky(x + shift[None, :], BEFORE)\n    z",
                              "leaky(x, BEFORE) + shift[None, :]\n    z", True),
    "padding counts": (FORWARD, "activated_single_pass_kernel", "tl.where(inside, u - mean, 0.0)", "u - mean", False),
    "the slope at the input": (BACKWARD, "backward_apply_kernel", "slope * rstd[None, :] * (weight[None, :] * dz - m1[",
                               "rstd[None, :] * (weight[None, :] * dz - m1[", True),
    "dshift forgets a mean": (BACKWARD, "backward_merge_kernel", " - m1 * sum4", "", True),
    "dshift of a small image": (BACKWARD, "backward_group_kernel", " - m2 * tl.sum(sum5, 0)", "", False),
    "gradient misses the mean": (BACKWARD, "backward_group_kernel", " - xhat * m2)", ")", False),
}  # fmt: skip


@pytest.mark.interpreter
@pytest.mark.parametrize("fault", FAULTS)
def test_an_injected_fault_is_seen(fault, tmp_path, monkeypatch):
    """With one line of one kernel wrong the same checks must fail."""
    module, kernel, right, wrong, large = FAULTS[fault]
    original = import_module(f"v2f_kernels.group_norm_leaky.{module}")
    source = Path(original.__file__).read_text()
    assert source.count(right) == 1
    path = tmp_path / "broken.py"
    path.write_text(source.replace(right, wrong))
    spec = importlib.util.spec_from_file_location("broken", path)
    broken = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(broken)
    op = in_chunks(monkeypatch) if large else import_module("v2f_kernels.group_norm_leaky.triton_op")
    monkeypatch.setattr(op, kernel, getattr(broken, kernel))
    shape, groups = (LARGE if large else SMALL)[0]
    with pytest.raises(AssertionError):
        assert_judged(case(torch.float32, shape, groups, (0.3, 0.2), True))
    monkeypatch.setattr(op, kernel, getattr(original, kernel))
    assert_judged(case(torch.float32, shape, groups, (0.3, 0.2), True))
