"""The discriminator's stem: every form is the three convolutions, forward and in every gradient; refusals; the kernels
under the interpreter, with outputs poisoned and with one line of them wrong.

Kernel modules are imported inside the tests: see conftest.
"""

import importlib.util
from importlib import import_module
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from v2f_kernels._judge import judge
from v2f_kernels.multi_scale_stem import OP

NAMES = ("x", "weight3", "bias3", "weight7", "bias7", "weight15", "bias15")


def noise(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 and shape[1] == 3 else x


def inputs_of(dtype=torch.float64, batch=2, height=9, width=18, widths=(4, 2, 3), weights=None):
    made = [noise(batch, 3, height, width, dtype=dtype)]
    for kernel, out in zip((3, 7, 15), widths, strict=True):
        weight = noise(out, 3, kernel, kernel, seed=kernel, dtype=weights or dtype) / (3 * kernel**2) ** 0.5
        made += [weight, noise(out, seed=kernel + 1, dtype=weights or dtype)]
    return made


def with_gradients(function, inputs):
    leaves = [t.detach().clone().requires_grad_() for t in inputs]
    y = function(*leaves)
    upstream = noise(*y.shape, seed=9).to(y.dtype)
    gradients = torch.autograd.grad(y, leaves, upstream)
    return {"y": y.detach(), **{f"d{n}": g for n, g in zip(NAMES, gradients, strict=True)}}


def three(x, *parameters):
    pairs = zip(parameters[::2], parameters[1::2], (1, 3, 7), strict=True)
    return torch.cat([F.conv2d(x, w, b, padding=p) for w, b, p in pairs], 1)


def assert_the_three_convolutions(function, inputs):
    found, wanted = (with_gradients(f, inputs) for f in (function, three))
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-12, msg=name)


@pytest.mark.parametrize("backend", ["reference", "torch", "torch_one"])
@pytest.mark.parametrize(("height", "width"), [(9, 18), (1, 1), (20, 3)])
def test_is_the_three_convolutions_with_every_gradient(backend, height, width):
    assert_the_three_convolutions(OP.backend(backend), inputs_of(height=height, width=width))


def test_a_cpu_computes_what_its_layers_did_bit_for_bit():
    inputs = inputs_of(torch.float32)
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found, wanted = (with_gradients(f, inputs) for f in (OP.backend("torch"), three))
        assert found["y"].dtype == (torch.bfloat16 if enabled else torch.float32)
        for name, value in wanted.items():
            assert torch.equal(found[name], value), name


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, noise(3, 4, 4), r"x: expected a non-empty floating \[B, C, H, W\]"),
        (1, noise(4, 3, 5, 5), r"weight3: expected \[O, 3, 3, 3\], found \(4, 3, 5, 5\)"),
        (4, noise(5), r"bias7: expected \[2\], found \(5,\)"),
        (5, noise(3, 4, 15, 15), r"weight15: expected \[O, 3, 15, 15\]"),
    ],
)
def test_errors_say_what_was_expected_and_found(place, value, message):
    inputs = inputs_of()
    inputs[place] = value
    with pytest.raises(ValueError, match=message):
        OP.backend("torch")(*inputs)


@pytest.mark.interpreter
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("height", "width"), [(9, 18), (1, 1), (20, 3)])
def test_unfolded_rows_are_the_three_convolutions_with_every_gradient(height, width):
    assert_the_three_convolutions(OP.backend("triton"), inputs_of(height=height, width=width))


@pytest.mark.interpreter
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_is_as_good_as_its_dtype(dtype):
    inputs = inputs_of(dtype)
    found, native = (with_gradients(OP.backend(name), inputs) for name in ("triton", "torch"))
    exact = with_gradients(OP.backend("reference"), [t.double() for t in inputs])
    for name, value in exact.items():
        verdict = judge(found[name], value, native[name], factor=4.0)
        assert verdict.passed, f"{name}: {verdict}"
        assert found[name].dtype == dtype


@pytest.mark.interpreter
def test_takes_autocasts_dtype_and_gives_gradients_in_the_pictures():
    """The unfolded rows are written in autocast's dtype straight from fp32 pictures."""
    inputs = inputs_of(torch.float32)
    with torch.autocast("cpu", torch.float16):
        found = with_gradients(OP.backend("triton"), inputs)
    exact = with_gradients(three, inputs)
    assert found["y"].dtype == torch.float16
    for name, value in exact.items():
        torch.testing.assert_close(found[name].float(), value, rtol=2e-2, atol=2e-2, msg=name)
        assert name == "y" or found[name].dtype == torch.float32


@pytest.mark.interpreter
def test_the_registered_ops_are_sound():
    from v2f_kernels.multi_scale_stem.triton_op import fold_op, unfold_op

    x = inputs_of(torch.float32)[0]
    torch.library.opcheck(unfold_op, (x.clone().requires_grad_(), torch.float32))
    torch.library.opcheck(fold_op, (unfold_op(x, torch.float32), 3, torch.float32))
    with pytest.raises(ValueError, match="channels-last memory"):
        OP.backend("triton")(torch.ones(2, 3, 4, 4), *inputs_of(torch.float32)[1:])


# What breaks: (kernel, right, wrong).
FAULTS = {
    "a window wraps around": ("unfold_rows_kernel", "(column >= 0) & (column < W) & ", ""),
    "no bias": ("unfold_rows_kernel", "== KERNEL * C)[None, :], 1.0,", "== KERNEL * C)[None, :], 0.0,"),
    "gradients wrap around": ("fold_rows_kernel", "((column >= 0) & (column < W))[:, None]", "(column > -99)[:, None]"),
    "the wrong window": ("fold_rows_kernel", "(pixel + KERNEL // 2 - tap) * WIDTH", "(pixel) * WIDTH"),
}  # fmt: skip


@pytest.mark.interpreter
@pytest.mark.parametrize("fault", FAULTS)
def test_an_injected_fault_is_seen(fault, tmp_path, monkeypatch):
    """With one line of one kernel wrong the same checks must fail."""
    kernel, right, wrong = FAULTS[fault]
    original = import_module("v2f_kernels.multi_scale_stem.triton_rows")
    source = Path(original.__file__).read_text()
    assert source.count(right) == 1
    path = tmp_path / "broken.py"
    path.write_text(source.replace(right, wrong))
    spec = importlib.util.spec_from_file_location("broken", path)
    broken = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(broken)
    op = import_module("v2f_kernels.multi_scale_stem.triton_op")
    monkeypatch.setattr(op, kernel, getattr(broken, kernel))
    # Three pictures of which the middle one is kept: a window that leaves it stays in memory.
    inputs = inputs_of(batch=3)
    inputs[0] = inputs[0][1:2]
    with pytest.raises(AssertionError):
        assert_the_three_convolutions(OP.backend("triton"), inputs)
    monkeypatch.setattr(op, kernel, getattr(original, kernel))
    assert_the_three_convolutions(OP.backend("triton"), inputs)
