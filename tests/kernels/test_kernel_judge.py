"""The judge: what it passes, what it fails, and that NaN never passes."""

import pytest
import torch
from v2f_kernels._judge import judge


def numbers(n: int = 1000) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_torchs_own_error_passes_and_thrice_it_fails() -> None:
    oracle = numbers()
    native = oracle.half() * 1.01
    assert judge(native, oracle, native).passed
    assert not judge((oracle * 1.03).half(), oracle, native).passed


def test_one_rounding_is_allowed_where_torch_is_exact() -> None:
    oracle = numbers()
    assert judge(oracle.half(), oracle, oracle.half()).passed
    assert judge(oracle.float(), oracle.half().double(), oracle.half().float()).passed is False


def test_one_wrong_element_fails_though_the_mean_error_is_small() -> None:
    oracle = numbers(100_000)
    native = oracle.half()
    wrong = native.clone()
    wrong[17] += 0.25
    verdict = judge(wrong, oracle, native)
    assert verdict.rms < 1e-3
    assert not verdict.passed


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_what_nobody_wrote_fails(poison: float) -> None:
    oracle = numbers()
    candidate = oracle.float()
    candidate[3] = poison
    assert not judge(candidate, oracle, oracle.float()).passed


def test_different_quantities_are_refused() -> None:
    oracle = numbers()
    with pytest.raises(ValueError, match="shape"):
        judge(oracle[:-1].half(), oracle, oracle.half())
    with pytest.raises(ValueError, match="plain torch in"):
        judge(oracle.half(), oracle, oracle.bfloat16())
