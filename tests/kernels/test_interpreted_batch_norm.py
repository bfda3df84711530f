"""The kernels of batch normalisation with PReLU under the interpreter: judged, with outputs poisoned, and with one line
wrong.

Kernel modules are imported inside the tests: see conftest.
"""

import importlib.util
from importlib import import_module
from pathlib import Path

import pytest
import torch
from batch_norm_inputs import (
    DTYPES,
    EPS,
    FORMS,
    MOMENTUM,
    call,
    call_through,
    given,
    measured,
    noise,
    running,
)
from v2f_kernels._judge import judge
from v2f_kernels.batch_norm_prelu import OP

pytestmark = pytest.mark.interpreter


def judged(shape, form, dtype, weights=torch.float32, how=call):
    """What the judge refuses of the kernels, by name."""
    named = given(shape, form, dtype, weights)
    exact, count = measured(lambda n, s: how("reference", n, s), named, torch.float64)
    found, own = measured(lambda n, s: how("triton", n, s), named)
    native, _ = measured(lambda n, s: how("torch", n, s), named)
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


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernels_are_judged(shape, chunked, form, dtype, monkeypatch):
    if chunked:
        in_chunks(monkeypatch)
    assert not judged(shape, form, dtype)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
def test_another_gradient_of_x_joins(form, dtype, monkeypatch):
    in_chunks(monkeypatch)
    assert not judged((3, 24, 5, 3), form, dtype, how=call_through)
    named = {k: t.requires_grad_() for k, t in given((2, 16, 3, 3), form, dtype).items()}
    x, weight, bias = named["x"], named["weight"], named["bias"]
    state = running(16, torch.float32)
    y, same = OP.backend("triton")(x, weight, bias, *state, MOMENTUM, EPS, through=True)
    assert torch.equal(same, x)
    assert torch.equal(torch.autograd.grad(same.sum(), x, retain_graph=True)[0], torch.ones_like(x))
    alone = OP.backend("triton")(x, weight, bias, *running(16, torch.float32), MOMENTUM, EPS)
    assert torch.equal(*(torch.autograd.grad(v.float().square().sum(), x)[0] for v in (y, alone)))


def test_a_large_mean_and_a_repeated_run(monkeypatch):
    in_chunks(monkeypatch)
    x, one = noise(2, 16, 9, 9, dtype=torch.float32) + 300, torch.ones(16)
    named = {"x": x, "weight": one, "bias": one, "slope": 0.25 * one}
    exact, _ = measured(lambda n, s: call("reference", n, s), named, torch.float64)
    (found, _), (again, _) = (measured(lambda n, s: call("triton", n, s), named) for _ in range(2))
    assert all(torch.equal(value, again[name]) for name, value in found.items())
    for name in ("y", "dx", "running_var"):
        assert (found[name] - exact[name]).abs().max() < 1e-3, name


def test_a_gradient_in_other_memory():
    """As `flatten` sends it back: NCHW."""
    named = {k: t.requires_grad_() for k, t in given((2, 16, 3, 3), "both", torch.float32).items()}
    y = call("triton", named, running(16, torch.float32))
    dy = noise(2, 16, 3, 3, seed=9, dtype=torch.float32)
    last = torch.autograd.grad(y, list(named.values()), dy, retain_graph=True)
    plain = torch.autograd.grad(y, list(named.values()), dy.contiguous())
    assert all(torch.equal(a, b) for a, b in zip(last, plain, strict=True))
    assert plain[0].is_contiguous(memory_format=torch.channels_last)


def test_the_registered_ops_are_sound():
    from v2f_kernels.batch_norm_prelu.triton_op import backward_op, forward_op, statistics_op

    x, weight = noise(2, 16, 5, 5, dtype=torch.float32), noise(16, seed=1, dtype=torch.float32)
    torch.library.opcheck(statistics_op, (x, *running(16, torch.float32), MOMENTUM))
    statistics = statistics_op(x, *running(16, torch.float32), MOMENTUM)
    for slope, residual in ((weight, None), (None, x.clone()), (weight, x.clone())):
        arguments = (x.clone().requires_grad_(), weight, weight, statistics, EPS, slope, residual)
        torch.library.opcheck(forward_op, arguments)
        torch.library.opcheck(backward_op, (x, x, weight, weight, statistics, EPS, slope, residual))


def test_refuses_other_memory_and_fp64():
    one = torch.ones(16)
    with pytest.raises(ValueError, match="channels-last memory"):
        OP.backend("triton")(torch.ones(2, 16, 3, 3), one, one, one, one, torch.tensor(0), MOMENTUM, EPS)
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
    "another gradient is forgotten": (BACKWARD, "batch_backward_apply_kernel", "dx += tl.load(", "dx += 0 * tl.load("),
    "slopes learn above zero": (BACKWARD, "batch_backward_sums_kernel", "tl.where(z > 0, 0.0, dy * z)", "dy * z"),
}  # fmt: skip


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
    assert judged((3, 24, 5, 3), "both", torch.float32, how=call_through)
    monkeypatch.setattr(op, kernel, getattr(original, kernel))
    assert not judged((3, 24, 5, 3), "both", torch.float32, how=call_through)
