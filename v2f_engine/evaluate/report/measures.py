"""The measures of a report that have intervals: how each is called, written, and which way is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TOO_FEW = "too few"


@dataclass(frozen=True)
class Unit:
    """How numbers are written.

    Args:
        factor: by which they are multiplied.
        digits: behind the point.
        sign: behind a value, such as ` %`.
        of_difference: behind a difference, such as ` points`.
    """

    factor: float
    digits: int
    sign: str = ""
    of_difference: str = ""

    def bare(self, value: float) -> str:
        """The number alone; a zero has no sign."""
        text = f"{self.factor * value:.{self.digits}f}"
        return text.removeprefix("-") if float(text) == 0 else text


SHARE = Unit(100, 2, " %", " points")
COSINE = Unit(1, 3)
RATIO = Unit(1, 2)
DEGREES = Unit(1, 1, "°", " degrees")
QUALITY = Unit(1, 2)


@dataclass(frozen=True)
class Measure:
    """One measure.

    Args:
        name: in the record's `intervals`.
        title: on the page.
        unit: how it is written.
        better: 1 where more is better, -1 where less is, 0 where that depends.
        sized: whether it falls as the set grows, so that sets of two sizes do not compare.
    """

    name: str
    title: str
    unit: Unit
    better: int = 0
    sized: bool = False


MEASURES = (
    Measure("unique_share", "unique identities", SHARE, 1, sized=True),
    Measure("unique", "DCFace U", SHARE, 1, sized=True),
    Measure("eer", "equal error rate", SHARE, -1),
    Measure("true_match_at_0.01", "true matches at a false-match rate of 1 %", SHARE, 1),
    Measure("true_match_at_0.001", "true matches at 0.1 %", SHARE, 1),
    Measure("true_match_at_0.0001", "true matches at 0.01 %", SHARE, 1),
    Measure("false_non_match_rate", "genuine pairs missed at the threshold", SHARE, -1),
    Measure("fdr", "Fisher discriminant ratio", RATIO, 1),
    Measure("impostor_mean", "mean cosine of two people", COSINE),
    Measure("own_nearest", "images nearest to their own identity", SHARE, 1, sized=True),
    Measure("consistent", "DCFace C", SHARE, 1),
    Measure("pair_cosine", "mean cosine within an identity", COSINE),
    Measure("pair_cosine_p05", "its 5 % quantile over identities", COSINE),
    Measure("pair_cosine_p95", "its 95 % quantile over identities", COSINE),
    Measure("rest_cosine", "cosine with the rest of the identity", COSINE),
    Measure("leakage", "images like somebody in the gallery", SHARE, -1),
    Measure("yaw", "yaw, mean", DEGREES),
    Measure("yaw_deviation", "yaw, deviation", DEGREES),
    Measure("pitch_deviation", "pitch, deviation", DEGREES),
    Measure("quality", "quality, mean", QUALITY),
    Measure("quality_deviation", "quality, deviation", QUALITY),
)
KNOWN = {measure.name: measure for measure in MEASURES}


def value_text(measure: Measure, interval: Mapping[str, Any] | None) -> str:
    """The measured value, or that there is too little to measure."""
    return TOO_FEW if interval is None else measure.unit.bare(interval["value"]) + measure.unit.sign


def interval_text(measure: Measure, interval: Mapping[str, Any] | None) -> str:
    """`1.20 to 2.31`; why there is none, or nothing where nothing was measured."""
    if interval is None:
        return ""
    if interval["low"] is None or interval["high"] is None:
        return str(interval["why"])
    return f"{measure.unit.bare(interval['low'])} to {measure.unit.bare(interval['high'])}"


def difference_text(measure: Measure, found: Mapping[str, Any] | None) -> str:
    """A difference in words: `lower by 1.20 (0.40 to 2.00) points`, `cannot be told apart`, `too few`."""
    if found is None or found["verdict"] == "unknown":
        return TOO_FEW
    if found["verdict"] == "alike":
        return "cannot be told apart"
    ends = sorted((abs(found["low"]), abs(found["high"])))
    low, high = (measure.unit.bare(end) for end in ends)
    size = measure.unit.bare(abs(found["value"]))
    return f"{found['verdict']} by {size} ({low} to {high}){measure.unit.of_difference}"


def judged(measure: Measure, found: Mapping[str, Any] | None) -> int:
    """1 where the first set is better, -1 where it is worse, 0 where neither can be said."""
    signs = {"higher": 1, "lower": -1}
    return 0 if found is None else measure.better * signs.get(found["verdict"], 0)
