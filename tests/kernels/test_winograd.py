"""Convolutions with fewer products than taps (`v2f_kernels._winograd`): judged beside torch, exact where they can be,
and each image's bits its own."""

import gc

import pytest
import torch
from v2f_kernels._judge import judge
from v2f_kernels.conv3x3 import OP as CONV
from v2f_kernels.upsample_conv3x3 import FOLDED
from v2f_kernels.upsample_conv3x3.fold import fold_weights

_winograd = pytest.importorskip(
    "v2f_kernels._winograd",
    reason="needs the compiled extension on a CPU with avx512_bf16",
    exc_type=ImportError,
)
BF16 = torch.bfloat16


def noise(*shape, seed=0, scale=1.0):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale
    x = x.to(BF16)
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def taps(outputs, channels, seed=1):
    return noise(outputs, channels, 3, 3, seed=seed, scale=(9 * channels) ** -0.5)


@pytest.mark.parametrize("normed", [False, True], ids=["plain", "norm"])
@pytest.mark.parametrize(
    ("batch", "channels", "outputs", "height", "width"),
    [
        (5, 64, 128, 7, 7),
        (2, 128, 64, 28, 28),
        (1, 32, 64, 1, 1),
        (3, 96, 64, 5, 8),
        (2, 64, 64, 1, 13),
        (1, 64, 192, 31, 2),
    ],
)
def test_a_convolution_is_at_most_twice_as_wrong_as_torch(batch, channels, outputs, height, width, normed):
    x, weight = noise(batch, channels, height, width) + 0.5, taps(outputs, channels)
    residual, bias = noise(batch, outputs, height, width, seed=2), noise(outputs, seed=3)
    norm = (noise(channels, seed=4) + 1, noise(channels, seed=5), channels // 8, 1e-6) if normed else None
    for extra in ({}, {"bias": bias, "residual": residual}):
        wide = {name: value.double() for name, value in extra.items()}
        exact = CONV.backend("reference")(
            x.double(), weight.double(), norm=norm and (*(n.double() for n in norm[:2]), *norm[2:]), **wide
        )
        native = CONV.backend("torch")(x, weight, norm=norm, **extra)
        found = CONV.backend("winograd")(x, weight, norm=norm, **extra)
        assert found.is_contiguous(memory_format=torch.channels_last)
        verdict = judge(found, exact, native)
        assert verdict.passed, verdict


@pytest.mark.parametrize(
    ("batch", "channels", "outputs", "side"), [(3, 64, 64, 7), (1, 32, 128, 1), (2, 128, 64, 20)]
)
def test_an_upsampling_is_at_most_twice_as_wrong_as_torch(batch, channels, outputs, side):
    x, folded = noise(batch, channels, side, side + 2), fold_weights(taps(outputs, channels), BF16)
    for bias in (None, noise(outputs, seed=3)):
        exact = FOLDED.backend("reference")(
            x.double(), folded.double(), None if bias is None else bias.double()
        )
        found = FOLDED.backend("winograd")(x, folded, bias)
        verdict = judge(found, exact, FOLDED.backend("torch")(x, folded, bias))
        assert verdict.passed, verdict


def test_small_whole_numbers_come_out_exactly():
    """Windows of even numbers below 16 and taps of multiples of 4: nothing is rounded anywhere but at the end."""
    generator = torch.Generator().manual_seed(0)
    x = (
        torch.randint(-3, 4, (2, 32, 6, 9), generator=generator)
        .to(BF16)
        .contiguous(memory_format=torch.channels_last)
    )
    weight = (torch.randint(-1, 2, (64, 32, 3, 3), generator=generator) * 4).to(BF16)
    exact = CONV.backend("reference")(x.double(), weight.double())
    assert torch.equal(CONV.backend("winograd")(x, weight), exact.to(BF16))
    folded = fold_weights(weight)
    assert torch.equal(
        FOLDED.backend("winograd")(x, folded),
        FOLDED.backend("reference")(x.double(), folded.double()).to(BF16),
    )


def test_statistics_that_are_given_are_used():
    x, weight = noise(2, 64, 9, 9), taps(64, 64)
    norm = (torch.ones(64), torch.zeros(64), 8, 0.0)
    given = torch.stack([torch.full((2, 8), 0.25), torch.full((2, 8), 4.0)], 2)
    z = torch.nn.functional.silu((x.double() - 0.25) / 2)
    exact = CONV.backend("reference")(z, weight.double())
    found = CONV.backend("winograd")(x, weight, norm=norm, statistics=given)
    assert judge(found, exact, CONV.backend("torch")(z.to(BF16), weight)).passed


@pytest.mark.parametrize("side", [7, 28])
def test_an_images_bits_are_its_own(side):
    """They depend neither on its batch, its place there, nor the number of threads."""
    x, weight = noise(7, 64, side, side), taps(64, 64)
    folded, norm = fold_weights(weight), (noise(64, seed=4), noise(64, seed=5), 8, 1e-6)
    before = torch.get_num_threads()
    made = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        made.append((CONV.backend("winograd")(x, weight, norm=norm), FOLDED.backend("winograd")(x, folded)))
    torch.set_num_threads(before)
    for conv, up in made[1:]:
        assert torch.equal(conv, made[0][0])
        assert torch.equal(up, made[0][1])
    for rows in (slice(0, 1), slice(4, 7)):
        assert torch.equal(CONV.backend("winograd")(x[rows], weight, norm=norm), made[0][0][rows])
        assert torch.equal(FOLDED.backend("winograd")(x[rows], folded), made[0][1][rows])


def test_what_is_not_finite_does_not_come_out_finite():
    x, weight = noise(2, 64, 6, 6), taps(64, 64)
    x[1, 3, 2, 2] = float("nan")
    norm = (torch.ones(64), torch.zeros(64), 8, 1e-6)
    for made in (CONV.backend("winograd")(x, weight), CONV.backend("winograd")(x, weight, norm=norm)):
        assert torch.isfinite(made[0]).all()
        assert not torch.isfinite(made[1]).all()


def test_a_weight_that_changes_is_packed_anew_and_one_that_goes_takes_its_form_along():
    x, weight = noise(1, 32, 4, 4), taps(64, 32)
    conv = CONV.backend("winograd")
    before = conv(x, weight)
    weight.mul_(2)
    assert torch.equal(conv(x, weight), before * 2)
    gc.collect()
    kept = len(_winograd.of_taps._made)
    del weight
    gc.collect()
    assert len(_winograd.of_taps._made) == kept - 1


def test_weights_of_inference_mode_are_not_kept():
    with torch.inference_mode():
        x, weight = noise(1, 32, 4, 4), taps(64, 32)
        conv = CONV.backend("winograd")
        before = conv(x, weight)
        weight.mul_(2)
        assert torch.equal(conv(x, weight), before * 2)


def test_refusals():
    conv, up = CONV.backend("winograd"), FOLDED.backend("winograd")
    x, weight = noise(1, 32, 4, 4), taps(64, 32)
    with pytest.raises(ValueError, match="bfloat16"):
        conv(x.float(), weight.float())
    with pytest.raises(ValueError, match="multiple of 32 in and of 64 out, found 32 and 32"):
        conv(x, taps(32, 32))
    with pytest.raises(ValueError, match="found 16 and 64"):
        up(noise(1, 16, 4, 4), fold_weights(taps(64, 16)))
    with pytest.raises(RuntimeError, match="no gradients"):
        conv(x, weight.requires_grad_())
    with torch.no_grad():
        conv(x, weight)
