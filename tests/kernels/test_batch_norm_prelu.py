"""Batch normalisation with PReLU: the specification against torch's layers in fp64, gradients, refusals; then the
kernels under the interpreter, judged, with outputs poisoned, and with one line of them wrong.

Kernel modules are imported inside the tests: see conftest.
"""

import importlib.util
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn
from v2f_kernels._judge import judge
from v2f_kernels.batch_norm_prelu import OP

EPS, MOMENTUM = 1e-5, 0.1
BACKENDS = ("reference", "torch")
DTYPES = (torch.float32, torch.float16)  # the interpreter computes bfloat16 wrongly: it is compiled, not run
FORMS = {"norm": (False, False), "PReLU": (True, False), "residual": (False, True), "both": (True, True)}
"""Whether there is a slope, and a residual."""


def noise(*shape, seed=0, dtype=torch.float64, scale=1.0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    x = (torch.randn(*shape, generator=generator, dtype=torch.float64) * scale + shift).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def running(channels, dtype=torch.float64):
    """Statistics of earlier batches and their number."""
    mean, variance = noise(channels, seed=5, dtype=dtype), noise(channels, seed=6, dtype=dtype).abs() + 0.5
    return mean, variance, torch.tensor(7)


def given(shape, form, dtype=torch.float64, weights=None):
    """Name -> tensor that gets a gradient."""
    channels, (sloped, added) = shape[1], FORMS[form]
    named = {
        "x": noise(*shape, dtype=dtype, scale=2, shift=1),
        "weight": noise(channels, seed=1, dtype=weights or dtype),
        "bias": noise(channels, seed=2, dtype=weights or dtype),
    }
    if sloped:
        named["slope"] = noise(channels, seed=3, dtype=weights or dtype, scale=0.3)
    if added:
        named["residual"] = noise(*shape, seed=4, dtype=dtype)
    return named


def call(backend, named, state):
    x, weight, bias = named["x"], named["weight"], named["bias"]
    slope, residual = named.get("slope"), named.get("residual")
    return OP.backend(backend)(x, weight, bias, *state, MOMENTUM, EPS, slope, residual)


def layers(named, state):
    """What `nn.BatchNorm2d`, `nn.PReLU` and an addition make of it in training; they change `state`."""
    channels = named["x"].shape[1]
    norm = nn.BatchNorm2d(channels, eps=EPS, momentum=MOMENTUM).double()
    (norm.running_mean, norm.running_var, norm.num_batches_tracked) = state
    y = torch.func.functional_call(norm, {"weight": named["weight"], "bias": named["bias"]}, (named["x"],))
    if "slope" in named:
        y = torch.func.functional_call(nn.PReLU(channels).double(), {"weight": named["slope"]}, (y,))
    return y + named["residual"] if "residual" in named else y


def measured(function, named, dtype=None):
    """Name -> y, gradients and running statistics of a call, and the counter."""
    inputs = {k: t.detach().to(dtype or t.dtype).requires_grad_() for k, t in named.items()}
    shape = named["x"].shape
    state = running(shape[1], torch.float64 if dtype == torch.float64 else torch.float32)
    y = function(inputs, state)
    gradients = torch.autograd.grad(y, list(inputs.values()), noise(*shape, seed=9, dtype=y.dtype))
    made = {"y": y.detach(), **{f"d{k}": g for k, g in zip(inputs, gradients, strict=True)}}
    return {**made, "running_mean": state[0], "running_var": state[1]}, int(state[2])


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


def judged(shape, form, dtype, weights=torch.float32):
    """What the judge refuses of the kernels, by name."""
    named = given(shape, form, dtype, weights)
    exact, count = measured(lambda n, s: call("reference", n, s), named, torch.float64)
    found, own = measured(lambda n, s: call("triton", n, s), named)
    native, _ = measured(lambda n, s: call("torch", n, s), named)
    failed = [] if own == count else [f"count: {own} instead of {count}"]
    for name, value in found.items():
        verdict = judge(value, exact[name], native[name], factor=4.0 if value.dtype == torch.float32 else 2.0)
        failed += [] if verdict.passed else [f"{name}: {verdict}"]
    return failed


def in_chunks(monkeypatch):
    """Small images are cut into many chunks, the last of them short."""
    op = import_module("v2f_kernels.batch_norm_prelu.triton_op")
    monkeypatch.setattr(op, "_tile", lambda config, c: {"BLOCK_P": 4, "BLOCK_C": 1 << (c - 1).bit_length()})
    monkeypatch.setattr(op, "_chunks", lambda config, rows, c: (8, -(-rows // 8)))
    return op


SHAPES = [(3, 48, 9, 4), (2, 24, 7, 7), (1, 64, 13, 5), (2, 6, 1, 1)]


@pytest.mark.interpreter
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernels_are_judged(shape, chunked, form, dtype, monkeypatch):
    if chunked:
        in_chunks(monkeypatch)
    assert not judged(shape, form, dtype)


@pytest.mark.interpreter
def test_a_large_mean_and_a_repeated_run(monkeypatch):
    in_chunks(monkeypatch)
    x, one = noise(2, 16, 9, 9, dtype=torch.float32) + 300, torch.ones(16)
    named = {"x": x, "weight": one, "bias": one, "slope": 0.25 * one}
    exact, _ = measured(lambda n, s: call("reference", n, s), named, torch.float64)
    (found, _), (again, _) = (measured(lambda n, s: call("triton", n, s), named) for _ in range(2))
    assert all(torch.equal(value, again[name]) for name, value in found.items())
    for name in ("y", "dx", "running_var"):
        assert (found[name] - exact[name]).abs().max() < 1e-3, name


@pytest.mark.interpreter
def test_a_gradient_in_other_memory():
    """As `flatten` sends it back: NCHW."""
    named = {k: t.requires_grad_() for k, t in given((2, 16, 3, 3), "both", torch.float32).items()}
    y = call("triton", named, running(16, torch.float32))
    dy = noise(2, 16, 3, 3, seed=9, dtype=torch.float32)
    last = torch.autograd.grad(y, list(named.values()), dy, retain_graph=True)
    plain = torch.autograd.grad(y, list(named.values()), dy.contiguous())
    assert all(torch.equal(a, b) for a, b in zip(last, plain, strict=True))
    assert plain[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.interpreter
def test_the_registered_ops_are_sound():
    from v2f_kernels.batch_norm_prelu.triton_op import backward_op, forward_op, statistics_op

    x, weight = noise(2, 16, 5, 5, dtype=torch.float32), noise(16, seed=1, dtype=torch.float32)
    torch.library.opcheck(statistics_op, (x, *running(16, torch.float32), MOMENTUM))
    statistics = statistics_op(x, *running(16, torch.float32), MOMENTUM)
    for slope, residual in ((weight, None), (None, x.clone()), (weight, x.clone())):
        arguments = (x.clone().requires_grad_(), weight, weight, statistics, EPS, slope, residual)
        torch.library.opcheck(forward_op, arguments)
        torch.library.opcheck(backward_op, (x, x, weight, weight, statistics, EPS, slope))


@pytest.mark.interpreter
def test_refuses_other_memory_and_fp64():
    one = torch.ones(16)
    with pytest.raises(ValueError, match="channels-last memory"):
        OP.backend("triton")(torch.ones(2, 16, 3, 3), one, one, one, one, N, MOMENTUM, EPS)
    with pytest.raises(ValueError, match="float16, bfloat16 or float32"):
        call("triton", given((2, 16, 3, 3), "norm"), running(16))


# What breaks: (kernel, right, wrong).
FORWARD, BACKWARD = "triton_forward", "triton_backward"
FAULTS = {
    "padding counts": (FORWARD, "batch_moments_kernel", "tl.where(inside, x - near[None, :], 0.0)",
                       "x - near[None, :]"),
    "a short chunk weighs as a whole one": (FORWARD, "batch_merge_kernel",
                                            "tl.minimum(N - n.to(tl.int64) * CHUNK, CHUNK)", "CHUNK"),
    "chunks' means are one": (FORWARD, "batch_merge_kernel", "m2 + rows[:, None] * away * away", "m2"),
    "the biased variance is kept": (FORWARD, "batch_merge_kernel", "variance * (total / (total - 1.0))", "variance"),
    "nothing is counted": (FORWARD, "batch_merge_kernel", "tl.load(count_ptr) + 1", "tl.load(count_ptr)"),
    "the residual bends": (FORWARD, "batch_apply_kernel", "tl.where(y > 0, y, y * slope[None, :])\n    if ADDED:",
                           "tl.where(y > 0, y, y + slope[None, :])\n    if ADDED:"),
    "gradient misses the mean": (BACKWARD, "batch_backward_apply_kernel", "dz - m1[None, :]", "dz"),
    "gradient misses the deviation": (BACKWARD, "batch_backward_apply_kernel", " - xhat * m2[None, :]", ""),
    "slopes learn above zero": (BACKWARD, "batch_backward_sums_kernel", "tl.where(z > 0, 0.0, dy * z)", "dy * z"),
}  # fmt: skip


@pytest.mark.interpreter
@pytest.mark.parametrize("fault", FAULTS)
def test_an_injected_fault_is_seen(fault, tmp_path, monkeypatch):
    """With one line of one kernel wrong the same checks must fail."""
    module, kernel, right, wrong = FAULTS[fault]
    original = import_module(f"v2f_kernels.batch_norm_prelu.{module}")
    source = Path(original.__file__).read_text()
    assert source.count(right) == 1
    path = tmp_path / "broken.py"
    path.write_text(source.replace(right, wrong))
    spec = importlib.util.spec_from_file_location("broken", path)
    broken = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(broken)
    op = in_chunks(monkeypatch)
    monkeypatch.setattr(op, kernel, getattr(broken, kernel))
    assert judged((3, 24, 5, 3), "both", torch.float32)
    monkeypatch.setattr(op, kernel, getattr(original, kernel))
    assert not judged((3, 24, 5, 3), "both", torch.float32)
