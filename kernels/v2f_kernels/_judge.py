"""The judge: a kernel may be at most twice as wrong as plain torch in the same dtype.

Both are measured against the same oracle (the op's reference in fp32 or fp64). The rule is applied to the
root mean square error and to the largest error, so neither a systematic drift nor one bad element passes.
One rounding of the output is always allowed: torch's error on a handful of elements can be zero by luck.
Rule as in FlashAttention's tests; any NaN or infinity that the oracle does not have fails.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

FACTOR = 2.0


@dataclass(frozen=True)
class Verdict:
    """Errors of a candidate, and what was allowed; relative to the oracle's largest value."""

    rms: float
    rms_allowed: float
    largest: float
    largest_allowed: float

    @property
    def passed(self) -> bool:
        return self.rms <= self.rms_allowed and self.largest <= self.largest_allowed  # False for NaN

    def __str__(self) -> str:
        return (
            f"rms error {self.rms:.3e} (allowed {self.rms_allowed:.3e}), "
            f"largest {self.largest:.3e} (allowed {self.largest_allowed:.3e})"
        )


def judge(
    candidate: torch.Tensor, oracle: torch.Tensor, native: torch.Tensor, factor: float = FACTOR
) -> Verdict:
    """Compares `candidate` with `oracle`, allowing `factor` times the error of `native`.

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
    mine = (candidate.detach().double() - exact).abs() / scale
    theirs = (native.detach().double() - exact).abs() / scale
    return Verdict(
        rms=float(mine.square().mean().sqrt()),
        rms_allowed=factor * float(theirs.square().mean().sqrt()) + rounding * _rms(exact) / scale,
        largest=float(mine.max()),
        largest_allowed=factor * float(theirs.max()) + rounding,
    )


def _rms(x: torch.Tensor) -> float:
    return float(x.square().mean().sqrt())
