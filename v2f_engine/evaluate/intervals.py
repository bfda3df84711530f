"""Intervals of 95 %: of a share, of a resampled measure, of a quantile, and of the difference of two sets.

Three ways, none of which counts pairs as trials, since those of one person share that person.

wilson      of a rate: Wilson's interval (1927) for as many independent trials as have the rate's own variance, which
            comes from resampling identities. It has a width where nothing, or everything, was counted.
percentile  of a mean or another number: the quantiles of its resamples, around the measured value.
order       of a quantile over identities: the two values between which it lies whatever their distribution (by the
            binomial distribution of how many are below).

A difference is that of two independent sets, by the square-and-add rule (Newcombe 1998, method 10; Zou and Donner
2008): it needs the two intervals only. Two sets of the same identities are told apart more cautiously than they could
be.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.config import at_least, between

LEVEL = 0.95
NORMAL = 1.959963984540054
"""Of a normal distribution 95 % lie so many deviations around its mean, or nearer."""
FEWEST = 10
"""Identities below which no interval is told: resampling nine people says little about people."""


@dataclass(frozen=True)
class Interval:
    """A measured value with the ends of its interval.

    Args:
        value: as measured; a share in [0, 1], a cosine or degrees.
        low, high: ends; both None where there is too little to tell.
        identities: that it was told by.
        method: `wilson`, `percentile` or `order`.
        why: what was too little, or empty.
    """

    value: float
    low: float | None
    high: float | None
    identities: int
    method: str
    why: str = ""

    @property
    def known(self) -> bool:
        """Whether there are ends."""
        return self.low is not None and self.high is not None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def wilson(value: float, trials: float) -> tuple[float, float]:
    """Wilson's interval of a share seen in so many independent trials, which may be a fraction.

    Raises:
        ConfigError: a share outside [0, 1], or less than one trial.
    """
    between("share", value, 0.0, math.nextafter(1.0, 2.0))
    at_least("trials", trials, 1)
    square = NORMAL * NORMAL
    middle = (value + square / (2 * trials)) / (1 + square / trials)
    half = NORMAL / (1 + square / trials) * math.sqrt(value * (1 - value) / trials + square / (4 * trials**2))
    return min(value, max(0.0, middle - half)), max(value, min(1.0, middle + half))


def of_rate(value: float, resamples: NDArray[np.float64], identities: int) -> Interval:
    """The interval of a share whose resamples over identities are given.

    Args:
        value: as measured.
        resamples: float64 `[R]`.
        identities: that were resampled. Where the resamples are all alike, each counts as one trial.
    """
    if identities < FEWEST:
        return too_few(value, identities, "wilson")
    variance = float(resamples.var(ddof=1))
    spread = value * (1 - value)
    trials = spread / variance if spread > 0 and variance > 1e-18 else float(identities)
    return Interval(value, *wilson(value, max(1.0, trials)), identities, "wilson")


def of_number(value: float, resamples: NDArray[np.float64], base: float, identities: int) -> Interval:
    """The interval of any other number.

    Args:
        value: as measured.
        resamples: float64 `[R]`.
        base: the resampled statistic of the set as it is; where it is a thinned one, it differs from the value.
        identities: that were resampled.
    """
    if identities < FEWEST:
        return too_few(value, identities, "percentile")
    low, high = np.quantile(resamples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    ends = value + float(low) - base, value + float(high) - base
    return Interval(value, min(value, ends[0]), max(value, ends[1]), identities, "percentile")


def of_quantile(value: float, values: NDArray[np.floating], share: float) -> Interval:
    """The interval of the quantile `share`, in (0, 1), over identities of which each has one of `values` `[I]`."""
    count = len(values)
    below = _binomial(count, share)
    low = (
        int(np.searchsorted(below, (1 - LEVEL) / 2, side="right")) - 1
    )  # P(fewer than low + 1 below) <= 2.5 %
    high = int(np.searchsorted(below, (1 + LEVEL) / 2))
    if low < 0 or high + 1 > count - 1:
        needed = math.ceil(math.log((1 - LEVEL) / 2) / math.log(max(share, 1 - share)))
        return too_few(value, count, "order", f"too few: {count} identities, {needed} needed")
    ranked = np.sort(values)
    return Interval(
        value, min(value, float(ranked[low])), max(value, float(ranked[high + 1])), count, "order"
    )


def _binomial(trials: int, share: float) -> NDArray[np.float64]:
    """float64 `[trials + 1]`: probabilities of so many successes or fewer."""
    odds = math.log(share) - math.log1p(-share)
    steps = np.arange(1, trials + 1)
    ratio = np.log((trials - steps + 1) / steps) + odds
    log = trials * math.log1p(-share) + np.append(0.0, np.cumsum(ratio))
    found: NDArray[np.float64] = np.cumsum(np.exp(log))
    return found


def too_few(value: float, identities: int, method: str, why: str = "") -> Interval:
    """A value of which no interval is told."""
    return Interval(
        value, None, None, identities, method, why or f"too few: {identities} identities, {FEWEST} needed"
    )


@dataclass(frozen=True)
class Difference:
    """The first set's value less the other's.

    Args:
        value: of the two values.
        low, high: ends of its interval; None where one of the two has none.
    """

    value: float
    low: float | None
    high: float | None

    @property
    def verdict(self) -> str:
        """`higher`, `lower`, `alike` (cannot be told apart) or `unknown` (too few)."""
        if self.low is None or self.high is None:
            return "unknown"
        if self.low > 0:
            return "higher"
        return "lower" if self.high < 0 else "alike"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict}


def difference(one: Interval, other: Interval) -> Difference:
    """`one` less `other`, of two independent sets."""
    value = one.value - other.value
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return Difference(value, None, None)
    below = math.hypot(one.value - one.low, other.high - other.value)
    above = math.hypot(one.high - one.value, other.value - other.low)
    return Difference(value, value - below, value + above)
