"""What can be slid, in one table: the page draws it, the server refuses what lies outside, tests walk through it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from v2f_engine.config import between, whole_number
from v2f_engine.errors import ConfigError


@dataclass(frozen=True)
class Slider:
    """One number that a user may set.

    Args:
        low, high, step: its range, ends included.
        begins: where the slider stands before anybody moves it.
        unit: behind the number, for people.
        whole: whether it is a whole number.
    """

    low: float
    high: float
    step: float
    begins: float
    unit: str = ""
    whole: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or not self.low <= self.begins <= self.high or not self.step > 0:
            raise ConfigError(f"slider: expected low < high, begins between them and a step, found {self}.")

    def checked(self, name: str, value: Any) -> float:
        """The value as a number in range.

        Raises:
            ConfigError: anything else.
        """
        if self.whole:
            value = whole_number(name, value)
        between(name, value, self.low, self.high)
        return int(value) if self.whole else float(value)


SLIDERS: Mapping[str, Slider] = {
    "yaw": Slider(-60, 60, 1, 0, "°"),
    "pitch": Slider(-30, 30, 1, 0, "°"),
    "quality": Slider(20, 36, 0.5, 28),
    "sigma": Slider(0, 1.2, 0.05, 0.5),
    "cosine": Slider(0.5, 1, 0.01, 0.85),
    "masks": Slider(0.1, 1, 0.05, 0.3),
    "images": Slider(1, 24, 1, 8, whole=True),
}
"""Name -> range. The ends of yaw and pitch are those that the embedded estimators know; the end of sigma leaves a
cosine of 0.67 to the person's vector, at the length of `mini`'s people."""
COUNTS: Mapping[str, Slider] = {
    "seed": Slider(0, 2**32 - 1, 1, 0, whole=True),
    "variation": Slider(0, 2**32 - 1, 1, 0, whole=True),
    "number": Slider(0, 9_999, 1, 0, whole=True),
    "images_per_person": Slider(1, 1_000, 1, 10, whole=True),
}
"""Numbers that are typed."""
