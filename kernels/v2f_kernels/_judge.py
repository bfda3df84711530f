"""The judge: a kernel may be at most twice as wrong as plain torch in the same dtype.

Both are measured against the same oracle (the op's reference in fp32 or fp64). Two rules, so that neither a systematic
drift nor one bad element passes; the first is that of FlashAttention's tests:

    rms error     <= factor * torch's + one rounding
    largest error <= max(factor * torch's, tail(n) * (factor * rms of torch's excess + one fp32 rounding))
                     + one rounding

One rounding of the output is always allowed: torch's error on a handful of elements can be zero by luck. The excess is
the error beyond half a unit in the last place of the exact value: output rounding is bounded element by element and has
no tail, so in half precision it does not widen the second rule; sums are in fp32, and their rounding has one. A NaN or
an infinity in any of the three fails.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

FACTOR = 2.0
REFUSED = 1e-3
"""Share of tensors, at most, in which the largest of honest errors is refused although their rms passes."""


def tail(n: int, refused: float = REFUSED) -> float:
    """How many times the rms the largest of n honest errors may be: ln(n / refused); 13.6 for 768, 20.7 for a million.

    An error is e = s * g. g, a sum of many roundings, is Gaussian at worst. Its scale s differs from element to
    element: it grows with the terms that were summed there, and across elements those are Gaussian too. The product
    of two standard normals has rms 1 and P(|e| > t) = 2/pi * (integral of K0 from t on) <= exp(-t), so by the union
    bound P(largest of n > t) <= n exp(-t), which is `refused` at t = ln(n / refused).

    Were every scale the same, sqrt(2 ln(2 n / refused)) would do, 6.5 for a million. Real errors are not like that:
    torch's own on a CPU in fp32 reach 10.5 times their rms in attention (38,400 elements) and 10.8 in gelu_linear
    (60,200), where a Gaussian's largest is 4.3; sound kernels measured on an H100 and an H200 reached 12.4 of 100,352
    elements, 10.3 of 50,176 and 7.3 of 768, where the largest of such products is typically 10.1, 9.4 and 5.5.

    The largest of n errors is at most sqrt(n) times their rms, so below some 150 elements the rms rule decides alone:
    there one wrong element moves the rms itself.
    """
    return math.log(max(n, 1) / refused)


@dataclass(frozen=True)
class Verdict:
    """Errors of a candidate, and what was allowed; relative to the oracle's largest value."""

    rms: float
    rms_allowed: float
    largest: float
    largest_allowed: float

    @property
    def passed(self) -> bool:
        # False for NaN, and where torch itself overflows
        return self.rms <= self.rms_allowed < math.inf and self.largest <= self.largest_allowed < math.inf

    def __str__(self) -> str:
        return (
            f"rms error {self.rms:.3e} (allowed {self.rms_allowed:.3e}), "
            f"largest {self.largest:.3e} (allowed {self.largest_allowed:.3e})"
        )


def judge(
    candidate: torch.Tensor, oracle: torch.Tensor, native: torch.Tensor, factor: float = FACTOR
) -> Verdict:
    """Compares `candidate` with `oracle`, allowing `factor` times the error of `native` (the rules: this module).

    Args:
        candidate: the kernel's result.
        oracle: the same values in fp32 or fp64.
        native: plain torch's result in the candidate's dtype.

    Raises:
        ValueError: shapes or dtypes that cannot be the same quantity.
    """
    if candidate.shape != oracle.shape or native.shape != oracle.shape:
        raise ValueError(
            f"expected the oracle's shape {tuple(oracle.shape)}, found {tuple(candidate.shape)} "
            f"and {tuple(native.shape)}"
        )
    if candidate.dtype != native.dtype:
        raise ValueError(f"expected plain torch in {candidate.dtype}, found {native.dtype}")
    exact = oracle.detach().double()
    scale = float(exact.abs().max().clamp_min(torch.finfo(torch.float64).tiny))
    rounding = torch.finfo(candidate.dtype).eps / 2
    of_sums = min(rounding, torch.finfo(torch.float32).eps / 2)
    mine = (candidate.detach().double() - exact).abs() / scale
    theirs = (native.detach().double() - exact).abs() / scale
    excess = (theirs - rounding * exact.abs() / scale).clamp_min(0.0)
    size = _rms(exact) / scale
    typical = factor * _rms(excess) + of_sums * size
    return Verdict(
        rms=_rms(mine),
        rms_allowed=factor * _rms(theirs) + rounding * size,
        largest=float(mine.max()),
        largest_allowed=max(factor * float(theirs.max()), tail(exact.numel()) * typical) + rounding,
    )


def _rms(x: torch.Tensor) -> float:
    return float(x.square().mean().sqrt())
