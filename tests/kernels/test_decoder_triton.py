"""The decoder's Triton kernels under the interpreter: results judged, odd sizes, poison, faults.

Kernel modules are imported inside the tests: see conftest.
"""

import importlib.util
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
import torch
from v2f_kernels._judge import judge
from v2f_kernels.conv3x3 import OP as CONV
from v2f_kernels.group_norm_silu import OP as NORM
from v2f_kernels.group_norm_silu import STATISTICS
from v2f_kernels.to_uint8 import OP as TAIL
from v2f_kernels.upsample_conv3x3 import FOLDED
from v2f_kernels.upsample_conv3x3 import OP as UPSAMPLE
from v2f_kernels.upsample_conv3x3.fold import fold_weights

pytestmark = pytest.mark.interpreter

EPS = 1e-6
DTYPES = (torch.float32, torch.float16)  # the interpreter computes bfloat16 wrongly: it is compiled, not run


def noise(*shape, seed=0, dtype=torch.float32, scale=1.0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    x = (torch.randn(*shape, generator=generator) * scale + shift).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def assert_judged(named):
    """Every (candidate, oracle, native) by name: half precision within twice plain torch's error, fp32 within four
    times, since orders of summation alone differ by that much on a handful of elements."""
    failed = []
    for name, (candidate, oracle, native) in named.items():
        verdict = judge(candidate, oracle, native, factor=4.0 if candidate.dtype == torch.float32 else 2.0)
        failed += [] if verdict.passed else [f"{name}: {verdict}"]
    assert not failed, "; ".join(failed)


def outputs_and_gradients(function, named, upstream):
    """{"y", "statistics", "d<name>": ...} of function(**named); gradients for every tensor of `named`."""
    inputs = {name: t.detach().clone().requires_grad_() for name, t in named.items()}
    result = function(**inputs)
    y, statistics = result if isinstance(result, tuple) else (result, None)
    gradients = torch.autograd.grad(y, list(inputs.values()), upstream.to(y.dtype))
    found = {"y": y, **{f"d{name}": g for name, g in zip(inputs, gradients, strict=True)}}
    return found if statistics is None else found | {"statistics": statistics}


def judged(op, call, named, upstream):
    """name -> (triton, fp64 reference, torch in the same dtype) for `assert_judged`."""
    wide = {name: t.double() for name, t in named.items()}
    found, oracle, native = (
        outputs_and_gradients(partial(call, op.backend(backend)), inputs, upstream)
        for backend, inputs in (("triton", named), ("reference", wide), ("torch", named))
    )
    return {name: (found[name], oracle[name], native[name]) for name in found}


def norm_case(dtype, batch=3, channels=48, height=9, width=4, groups=8):
    named = {
        "x": noise(batch, channels, height, width, dtype=dtype, scale=2, shift=5),
        "weight": noise(channels, seed=1, dtype=dtype),
        "bias": noise(channels, seed=2, dtype=dtype),
    }
    upstream = noise(batch, channels, height, width, seed=3, dtype=dtype)
    return judged(NORM, lambda f, x, weight, bias: f(x, weight, bias, groups, EPS), named, upstream)


def conv_case(dtype, batch=2, channels=32, out=48, height=5, width=7, groups=4, norm=True, rest=True):
    named = {
        "x": noise(batch, channels, height, width, dtype=dtype, shift=1),
        "weight": noise(out, channels, 3, 3, seed=1, dtype=dtype, scale=(9 * channels) ** -0.5),
    }
    if rest:
        named["bias"] = noise(out, seed=2, dtype=dtype)
        named["residual"] = noise(batch, out, height, width, seed=3, dtype=dtype)
    if norm:
        named["scale"] = noise(channels, seed=4, dtype=dtype)
        named["shift"] = noise(channels, seed=5, dtype=dtype)

    def call(f, x, weight, bias=None, residual=None, scale=None, shift=None):
        normalise = None if scale is None else (scale, shift, groups, EPS)
        return f(x, weight, bias, residual, normalise, out_groups=groups)

    return judged(CONV, call, named, noise(batch, out, height, width, seed=6, dtype=dtype))


def upsample_case(dtype, batch=2, channels=32, out=48, height=5, width=7, groups=4):
    named = {
        "x": noise(batch, channels, height, width, dtype=dtype, shift=1),
        "weight": noise(out, channels, 3, 3, seed=1, dtype=dtype, scale=(9 * channels) ** -0.5),
        "bias": noise(out, seed=2, dtype=dtype),
    }
    upstream = noise(batch, out, 2 * height, 2 * width, seed=3, dtype=dtype)
    return judged(UPSAMPLE, lambda f, **inputs: f(**inputs, out_groups=groups), named, upstream)


def tail_levels(dtype, batch=2, channels=48, height=5, width=9, groups=8):
    """Largest difference in levels between the kernel and the reference, and the share of differing bytes."""
    weight = noise(3, channels, 3, 3, seed=1, dtype=dtype, scale=(9 * channels) ** -0.5)
    arguments = (
        noise(batch, channels, height, width, dtype=dtype, scale=2, shift=1),
        noise(channels, seed=2),
        noise(channels, seed=3),
        groups,
        EPS,
        weight,
        noise(3, seed=4, scale=0.2),
    )
    found, exact = (TAIL.backend(name)(*arguments).int() for name in ("triton", "reference"))
    assert found.shape == (batch, height, width, 3)
    assert exact.float().std() > 20
    difference = (found - exact).abs()
    return int(difference.max()), float((difference > 0).float().mean())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("single_pass_pixels", [0, 1024])
@pytest.mark.parametrize(
    "shape",
    [(1, 32, 3, 5, 8), (3, 48, 9, 4, 8), (1, 128, 7, 11, 32), (2, 64, 2, 2, 1)],
    ids=lambda shape: "x".join(map(str, shape)),
)
def test_norm(shape, single_pass_pixels, dtype, poisoned, monkeypatch):
    """One pass and two; chunks so small that several are merged, the last one partly filled."""
    gpu = import_module("v2f_kernels.group_norm_silu.triton_op")
    monkeypatch.setattr(gpu, "SINGLE_PASS_PIXELS", single_pass_pixels)
    monkeypatch.setattr(gpu, "_chunk", lambda config, channels: 32)
    monkeypatch.setattr(gpu, "_tile", lambda config, channels: {"BLOCK_P": 16, "BLOCK_C": 128})
    assert_judged(norm_case(dtype, *shape))


def test_statistics_alone_and_given(poisoned, monkeypatch):
    gpu = import_module("v2f_kernels.group_norm_silu.triton_op")
    monkeypatch.setattr(gpu, "_chunk", lambda config, channels: 16)
    monkeypatch.setattr(gpu, "_tile", lambda config, channels: {"BLOCK_P": 16, "BLOCK_C": 64})
    x, weight, bias = noise(2, 48, 7, 9, shift=30), noise(48, seed=1), noise(48, seed=2)
    exact = STATISTICS.backend("reference")(x.double(), 8)
    found = STATISTICS.backend("triton")(x, 8)
    y = NORM.backend("triton")(x, weight, bias, 8, EPS, found)
    oracle = NORM.backend("reference")(x.double(), weight.double(), bias.double(), 8, EPS)
    assert_judged(
        {
            "statistics": (found, exact, STATISTICS.backend("torch")(x, 8)),
            "y": (y, oracle, NORM.backend("torch")(x, weight, bias, 8, EPS)),
        }
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_gradients_with_known_statistics(poisoned, dtype):
    """As of a norm that sums itself: the forward pass skips the sums, the backward pass nothing."""

    def call(f, x, weight, bias):
        statistics = STATISTICS.backend("reference")(x.detach(), 8)
        return f(x, weight, bias, 8, EPS, statistics)

    named = {
        "x": noise(3, 48, 9, 4, dtype=dtype, scale=2, shift=5),
        "weight": noise(48, seed=1, dtype=dtype),
        "bias": noise(48, seed=2, dtype=dtype),
    }
    assert_judged(judged(NORM, call, named, noise(3, 48, 9, 4, seed=3, dtype=dtype)))


@pytest.mark.parametrize("backend", ["triton", "triton_resident"])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_kept_input_has_both_gradients_in_one_pass(poisoned, backend, known, dtype):
    """Of the norm and of the other reader, here a factor of two; summed in fp32 and rounded once."""

    def call(f, x, weight, bias):
        given = STATISTICS.backend("reference")(x.detach(), 8) if known else None
        y, kept = f(x, weight, bias, 8, EPS, given, keep=True)
        return y + 2 * kept

    named = {
        "x": noise(3, 48, 9, 4, dtype=dtype, scale=2, shift=5),
        "weight": noise(48, seed=1, dtype=dtype),
        "bias": noise(48, seed=2, dtype=dtype),
    }
    upstream = noise(3, 48, 9, 4, seed=3, dtype=dtype)
    backends = {
        "found": (backend, named),
        "oracle": ("reference", {name: t.double() for name, t in named.items()}),
        "native": ("torch", named),
    }
    found, oracle, native = (
        outputs_and_gradients(partial(call, NORM.backend(name)), inputs, upstream)
        for name, inputs in backends.values()
    )
    assert_judged({name: (found[name], oracle[name], native[name]) for name in found})


def test_of_a_kept_input_one_reader_may_be_missing():
    """Autograd tells of a reader that nobody differentiates with None."""
    x, weight = noise(1, 16, 4, 4).requires_grad_(), noise(16, seed=1)
    y, kept = NORM.backend("triton")(x, weight, weight, 4, EPS, keep=True)
    assert torch.equal(torch.autograd.grad(kept.sum(), x)[0], torch.ones_like(x))
    y, _ = NORM.backend("triton")(x, weight, weight, 4, EPS, keep=True)
    plain = NORM.backend("triton")(x, weight, weight, 4, EPS)
    assert torch.equal(*(torch.autograd.grad(one.square().sum(), x)[0] for one in (y, plain)))


def test_statistics_of_an_outlier_first_pixel():
    """The sums are taken around the first pixel: `triton_moments` where that is as wrong as can be."""
    x = noise(1, 16, 16, 16) * 1e-3
    x[:, :, 0, 0] += 100.0
    exact, found = (
        STATISTICS.backend(n)(t, 4).double() for n, t in (("reference", x.double()), ("triton", x))
    )
    assert torch.allclose(found, exact, rtol=256 * 2**-20, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "options",
    [
        {"batch": 1, "channels": 16, "out": 16, "norm": False, "rest": False},
        {"batch": 3, "channels": 48, "out": 3, "norm": False},
        {"height": 11, "width": 13, "groups": 8, "rest": False},
        {"batch": 1, "channels": 64, "out": 32, "height": 9, "width": 17},
    ],
    ids=lambda options: " ".join(f"{k}={v}" for k, v in options.items()),
)
def test_convolution(options, dtype, poisoned):
    options = {"groups": 1} | options if options.get("out") == 3 else options
    assert_judged(conv_case(dtype, **options))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "options",
    [{"batch": 1, "channels": 16, "out": 16, "height": 1, "width": 3}, {"height": 9, "width": 11}],
    ids=str,
)
def test_upsampling(options, dtype, poisoned):
    assert_judged(upsample_case(dtype, **options))


def test_folded_upsampling_is_the_same_kernel():
    x, weight, bias = noise(1, 32, 3, 5), noise(16, 32, 3, 3, seed=1), noise(16, seed=2)
    folded = FOLDED.backend("triton")(x, fold_weights(weight), bias)
    assert torch.equal(folded, UPSAMPLE.backend("triton")(x, weight, bias))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [(1, 16, 17, 7, 4), (2, 48, 3, 20, 8), (1, 128, 5, 9, 32)], ids=lambda s: "x".join(map(str, s))
)
def test_tail(shape, dtype, poisoned):
    largest, share = tail_levels(dtype, *shape)
    assert (largest, share) <= ((0, 0.0) if dtype == torch.float32 else (1, 0.05))


def test_tail_of_non_finite_features_is_black():
    x = noise(1, 16, 4, 4)
    x[0, 3, 1, 1] = float("nan")  # makes its group's statistics NaN, so every pixel
    one, zero = torch.ones(16), torch.zeros(16)
    images = TAIL.backend("triton")(x, one, zero, 4, EPS, noise(3, 16, 3, 3), zero[:3])
    assert images.max() == 0


def test_an_image_does_not_depend_on_its_batch():
    x = noise(3, 32, 6, 7, dtype=torch.float16)
    weight = noise(32, 32, 3, 3, seed=1, dtype=torch.float16, scale=1 / 17)
    norm = (noise(32, seed=2), noise(32, seed=3), 8, EPS)
    calls = {
        "norm": lambda x: NORM.backend("triton")(x, *norm),
        "conv": lambda x: CONV.backend("triton")(x, weight, norm=norm, out_groups=4),
        "upsample": lambda x: UPSAMPLE.backend("triton")(x, weight, out_groups=4),
        "tail": lambda x: TAIL.backend("triton")(x, *norm, weight[:3], torch.zeros(3)),
    }
    for name, call in calls.items():
        whole, again, alone = call(x), call(x), call(x[1:2])
        results = (r if isinstance(r, tuple) else (r,) for r in (whole, again, alone))
        for a, b, c in zip(*results, strict=True):
            assert torch.equal(a, b), f"{name}: a second run differs"
            assert torch.equal(a[1:2], c), f"{name}: image 1 differs alone"


def test_registered_ops_pass_opcheck():
    norm = import_module("v2f_kernels.group_norm_silu.triton_op")
    conv = import_module("bench.candidates.conv3x3.triton_op")
    upsample = import_module("v2f_kernels.upsample_conv3x3.triton_op")
    tail = import_module("v2f_kernels.to_uint8.triton_op")
    x, weight = noise(1, 16, 2, 3).requires_grad_(), noise(16, 16, 3, 3).requires_grad_()
    scale, shift = noise(16, seed=1).requires_grad_(), noise(16, seed=2).requires_grad_()
    folded = fold_weights(weight.detach()).requires_grad_()
    statistics, to_rgb = norm.statistics_op(x.detach(), 4), weight.detach()[:3]
    for op, arguments in (
        (norm.statistics_op, (x.detach(), 4)),
        (norm.forward_op, (x, scale, shift, 4, EPS)),
        (norm.given_op, (x.detach(), scale.detach(), shift.detach(), statistics, EPS)),
        (conv.conv_op, (x, weight, scale, x.detach(), scale, shift, statistics, EPS, 4)),
        (conv.conv_op, (x, weight, None, None, None, None, None, 0.0, 0)),
        (upsample.upsample_op, (x, folded, scale, 4)),
        (
            tail.tail_op,
            (*(t.detach() for t in (x, scale, shift)), statistics, EPS, to_rgb, to_rgb[:, 0, 0, 0]),
        ),
    ):
        torch.library.opcheck(op, arguments)


def test_compiles_in_one_graph():
    norm, conv = NORM.backend("triton"), CONV.backend("triton")

    def block(x, weight, scale, shift):
        return conv(norm(x, scale, shift, 4, EPS), weight, residual=x).square().mean()

    tensors = noise(1, 16, 2, 3), noise(16, 16, 3, 3, seed=1), noise(16, seed=2), noise(16, seed=3)
    tensors = [t.requires_grad_() for t in tensors]
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    expected, found = (torch.autograd.grad(f(*tensors), tensors) for f in (block, compiled))
    for name, a, b in zip(("x", "weight", "scale", "shift"), expected, found, strict=True):
        assert torch.equal(a, b), name


def test_refusals():
    one, kernel = torch.ones(16), noise(3, 16, 3, 3)
    with pytest.raises(ValueError, match="channels-last memory"):
        NORM.backend("triton")(torch.ones(2, 16, 3, 3), one, one, 2, EPS)
    with pytest.raises(ValueError, match="multiple of 16 channels, found 24"):
        CONV.backend("triton")(noise(1, 24, 4, 4), noise(4, 24, 3, 3))
    with pytest.raises(ValueError, match="at most 256 columns"):
        TAIL.backend("triton")(noise(1, 16, 1, 257), one, one, 4, EPS, kernel, one[:3])


# What breaks: (kernel file, kernel, right, wrong).
FAULTS = {
    "scale missing": ("v2f_kernels.group_norm_silu.triton_apply", "apply_kernel", "(rstd * weight)", "rstd"),
    "variance of means not weighted": (
        "v2f_kernels.group_norm_silu.triton_moments",
        "merge_moments_kernel",
        "away * away * count[:, None]",
        "away * away",
    ),
    "gradient misses the mean": (
        "v2f_kernels.group_norm_silu.triton_apply",
        "backward_apply_kernel",
        " - xhat * mean2[None, :]",
        "",
    ),
    "slope of SiLU": (
        "v2f_kernels.group_norm_silu.triton_apply",
        "backward_sums_kernel",
        "(1.0 + z * (1.0 - s))",
        "(1.0 + z * s)",
    ),
    "padding before SiLU": (
        "bench.candidates.conv3x3.triton_implicit_gemm",
        "conv3x3_kernel",
        "tl.where(seen[:, None], z, 0.0)",
        "z",
    ),
    "kernel upside down": (
        "bench.candidates.conv3x3.triton_implicit_gemm",
        "conv3x3_kernel",
        "down = tap // 3 - 1",
        "down = 1 - tap // 3",
    ),
    "phases swapped": (
        "v2f_kernels.upsample_conv3x3.triton_phases",
        "upsample_conv3x3_kernel",
        "p = phase // 2",
        "p = phase % 2",
    ),
    "row edge wraps": (
        "v2f_kernels.to_uint8.triton_tail",
        "to_uint8_kernel",
        "tl.where(reaches,",
        "tl.where(reaches | True,",
    ),
    "rounds half up": (
        "v2f_kernels.to_uint8.triton_tail",
        "to_uint8_kernel",
        "8388608.0) - 8388608.0",
        "0.5)",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_injected_fault_is_seen(fault, tmp_path, monkeypatch):
    """With one line of one kernel wrong the same checks must fail."""
    home, kernel, right, wrong = FAULTS[fault]
    original = import_module(home)
    launcher = import_module(f"{home.rpartition('.')[0]}.triton_op")
    source = Path(original.__file__).read_text()
    assert source.count(right) == 1
    path = tmp_path / f"{kernel}.py"
    path.write_text(source.replace(right, wrong))
    spec = importlib.util.spec_from_file_location(f"broken_{kernel}", path)
    broken = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(broken)
    monkeypatch.setattr(launcher, kernel, getattr(broken, kernel))
    norm = import_module("v2f_kernels.group_norm_silu.triton_op")
    monkeypatch.setattr(norm, "SINGLE_PASS_PIXELS", 0)
    monkeypatch.setattr(norm, "_chunk", lambda config, channels: norm._tile(config, channels)["BLOCK_P"])

    def checks():
        if "group_norm_silu" in home:
            assert_judged(norm_case(torch.float32, channels=128, height=5, width=7))
        elif ".conv3x3." in home:
            assert_judged(conv_case(torch.float32))
        elif "upsample" in home:
            assert_judged(upsample_case(torch.float32))
        else:
            assert tail_levels(torch.float32) == (0, 0.0)
            assert_ties_go_to_even()

    with pytest.raises(AssertionError):
        checks()
    monkeypatch.setattr(launcher, kernel, getattr(original, kernel))
    checks()


def assert_ties_go_to_even():
    """Images of exactly k + 1/2 levels: no features reach the output, only the convolution's bias."""
    halves = torch.arange(128, 255) + 0.5
    biases = halves / 127.5 - 1
    tied = biases[(biases + 1) * 127.5 == halves][:9]
    x, zero, weight = noise(1, 16, 1, 1), torch.zeros(16), torch.zeros(3, 16, 3, 3)
    for bias in tied.view(3, 3):
        levels = TAIL.backend("triton")(x, zero, zero, 4, EPS, weight, bias)
        assert not (levels % 2).any(), f"{bias.tolist()} became {levels.tolist()}"
