"""The judge: what it passes, what it fails, and that NaN never passes."""

import math
from functools import cache

import pytest
import torch
from v2f_kernels._judge import REFUSED, Verdict, judge, tail

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
MILLION = 1_000_000


def numbers(n: int = 1000, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def products(n: int, seed: int) -> torch.Tensor:
    """Errors as `tail` takes them to be, rms 1: Gaussian, with a scale that is Gaussian from element to element."""
    return numbers(n, seed) * numbers(n, seed + 1)


def honest(oracle: torch.Tensor, dtype: torch.dtype, seed: int) -> torch.Tensor:
    """`oracle` as a sound implementation gives it: fp32 sums of rms 1 whose error has an rms of 2e-7, then `dtype`."""
    return (oracle + 2e-7 * products(len(oracle), seed)).to(dtype)


@cache
def _million(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    oracle = numbers(MILLION)
    return honest(oracle, dtype, 1), oracle, honest(oracle, dtype, 3)


def million(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(candidate, oracle, native) of a million values with rms 1; the candidate and the native are equally good."""
    candidate, oracle, native = _million(dtype)
    return candidate.clone(), oracle, native


def test_torchs_own_error_passes_and_thrice_it_fails() -> None:
    oracle = numbers()
    native = oracle.half() * 1.01
    assert judge(native, oracle, native).passed
    assert not judge((oracle * 1.03).half(), oracle, native).passed


def test_one_rounding_is_allowed_where_torch_is_exact() -> None:
    oracle = numbers()
    assert judge(oracle.half(), oracle, oracle.half()).passed
    assert judge(oracle.float(), oracle.half().double(), oracle.half().float()).passed is False


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_equally_good_kernel_passes(dtype: torch.dtype) -> None:
    assert judge(*million(dtype)).passed


SEEN_FROM = {torch.float16: 0.008, torch.bfloat16: 0.06, torch.float32: 1.1e-5}
"""One wrong element among a million, in units of the tensor's rms, is seen from here on at the latest. One product
left out of a sum of 768 is 0.036: seen in float16 and float32; in bfloat16 one of 256 is."""


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_wrong_element_in_a_million_fails_though_the_mean_error_is_small(dtype: torch.dtype) -> None:
    candidate, oracle, native = million(dtype)
    size = SEEN_FROM[dtype]
    places = [0, 17, MILLION - 1, int(oracle.abs().argmin()), int(oracle.abs().argmax())]
    for place in places:
        wrong = candidate.clone()
        # half a unit in the last place more, so that rounding to `dtype` does not take the error away
        error = size + torch.finfo(dtype).eps / 2 * float(oracle[place].abs() + size)
        wrong[place] = oracle[place] + error
        verdict = judge(wrong, oracle, native)
        assert verdict.rms <= verdict.rms_allowed  # the first rule is blind to it
        assert not verdict.passed
        wrong[place] = oracle[place] + size / 4
        assert judge(
            wrong, oracle, native
        ).passed  # the size stated is that of this rule, not ten times too large


@pytest.mark.parametrize(
    ("dtype", "share"), [(torch.float32, 1e-2), (torch.float16, 1e-2), (torch.bfloat16, 3e-2)]
)
def test_an_element_off_by_a_share_of_itself_fails(dtype: torch.dtype, share: float) -> None:
    """An element of twice the rms, 1 % off, or 3 % in bfloat16, whose own rounding is 0.4 %."""
    candidate, oracle, native = million(dtype)
    place = int((oracle - 2.0).abs().argmin())
    candidate[place] = oracle[place] * (1.0 + share)
    assert not judge(candidate, oracle, native).passed


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("poison", [0.0, 1.0])
def test_one_element_that_nobody_wrote_fails(dtype: torch.dtype, poison: float) -> None:
    candidate, oracle, native = million(dtype)
    candidate[int((oracle + 0.5).abs().argmin())] = poison
    assert not judge(candidate, oracle, native).passed


def test_a_drift_of_thrice_the_rms_fails() -> None:
    """Too small for the largest error to show it, so the first rule has to."""
    candidate, oracle, native = million(torch.float32)
    drift = 3.0 * float((native.double() - oracle).square().mean().sqrt())
    verdict = judge((oracle + drift).float(), oracle, native)
    assert verdict.largest < verdict.largest_allowed
    assert not verdict.passed
    assert judge(candidate, oracle, native).passed


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_drift_of_five_roundings_fails_in_half_precision(dtype: torch.dtype) -> None:
    """Where torch only rounds, its rms and one rounding allowed add up to 4.4 times that rms."""
    _, oracle, native = million(dtype)
    drift = 5.0 * float((native.double() - oracle).square().mean().sqrt())
    assert not judge((oracle + drift).to(dtype), oracle, native).passed


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_wrong_column_fails(dtype: torch.dtype) -> None:
    candidate, oracle, native = (x[:998_400].reshape(1300, 768) for x in million(dtype))
    candidate[:, 767] = candidate[:, 766]
    assert not judge(candidate, oracle, native).passed


# What sound kernels showed on a card in fp32 and were refused for: elements, factor, rms error and the rms allowed,
# largest error and the largest that was allowed when it was factor * torch's own + one rounding.
REFUSED_ON_A_CARD = {
    "dx of upsample_conv3x3, 256 channels, 14x14, H100": (
        100_352,
        4.0,
        2.547e-7,
        2.852e-7,
        3.165e-6,
        1.752e-6,
    ),
    "dx of upsample_conv3x3, 512 channels, 7x7, H100": (50_176, 4.0, 2.984e-7, 3.324e-7, 3.060e-6, 1.591e-6),
    "gelu_linear, 1 row, 192 to 768, H200": (768, 2.0, 3.916e-8, 4.048e-8, 2.872e-7, 1.973e-7),
}


@pytest.mark.parametrize("name", REFUSED_ON_A_CARD)
def test_what_torchs_luck_refused_passes(name: str) -> None:
    """Tensors with the recorded errors, whose native is as lucky as torch was."""
    n, factor, rms, rms_allowed, largest, allowed_then = REFUSED_ON_A_CARD[name]
    rounding = torch.finfo(torch.float32).eps / 2
    oracle = numbers(n).float().double()  # exact in fp32, so that the errors below are the only ones
    scale = float(oracle.abs().max())
    native_rms = (rms_allowed - rounding * float(oracle.square().mean().sqrt()) / scale) / factor
    native_largest = (allowed_then - rounding) / factor

    def with_errors(error: torch.Tensor, rms: float, largest: float) -> torch.Tensor:
        """fp32 values whose errors have this rms and this largest, in units of `scale`."""
        error = (error / error.square().mean().sqrt() * rms).clamp(-0.9 * largest, 0.9 * largest)
        error[int(oracle.abs().argmin())] = largest  # small there, so that fp32 holds it
        return (oracle + error * scale).float()

    candidate = with_errors(products(n, 1), rms, largest)
    native = with_errors(numbers(n, 5), native_rms, native_largest)
    verdict = judge(candidate, oracle, native, factor)
    assert verdict.largest == pytest.approx(largest, rel=1e-3)
    assert verdict.rms == pytest.approx(rms, rel=0.05)
    assert verdict.rms_allowed == pytest.approx(rms_allowed, rel=0.05)
    assert verdict.largest > factor * native_largest + rounding  # the old rule refuses
    assert verdict.passed
    assert (
        verdict.largest > math.sqrt(2 * math.log(2 * n / REFUSED)) * verdict.rms
    )  # so would a Gaussian's tail


def test_the_tail_holds_for_the_errors_it_is_derived_from() -> None:
    """Of 300 tensors of 10,000 errors none is refused (0.3 expected at most); a Gaussian's bound refuses nearly all."""
    n = 10_000
    largest = [float(products(n, 10 * seed).abs().max()) for seed in range(300)]
    assert max(largest) < tail(n) < 1.5 * max(largest)
    assert sum(x > math.sqrt(2 * math.log(2 * n / REFUSED)) for x in largest) > 250


def test_a_few_elements_are_judged_by_their_rms() -> None:
    oracle = numbers(8)
    native = (oracle + 1e-6 * products(8, 1)).float()
    wrong = native.clone()
    wrong[3] += 2e-5
    verdict = judge(wrong, oracle, native)
    assert verdict.rms > verdict.rms_allowed
    assert not verdict.passed


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_what_nobody_wrote_fails(poison: float) -> None:
    oracle = numbers()
    candidate = oracle.float()
    candidate[3] = poison
    assert not judge(candidate, oracle, oracle.float()).passed
    assert not judge(
        oracle.float(), oracle, candidate
    ).passed  # nothing can be said beside a torch that overflowed
    assert not judge(candidate, candidate.double(), candidate).passed
    assert not Verdict(rms=1.0, rms_allowed=poison, largest=1.0, largest_allowed=poison).passed


def test_different_quantities_are_refused() -> None:
    oracle = numbers()
    with pytest.raises(ValueError, match="shape"):
        judge(oracle[:-1].half(), oracle, oracle.half())
    with pytest.raises(ValueError, match="plain torch in"):
        judge(oracle.half(), oracle, oracle.bfloat16())
