"""What each image's target is: a number, one of several, or drawn from a range, by (seed, identity, image)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import ConfigError
from v2f_engine.randomness import Purpose, uniforms

_COLUMNS = {"yaw": 0, "pitch": 1, "roll": 2, "quality": 3}
"""Which of an image's uniforms decides a goal; other attributes follow in the order they are given."""


@dataclass(frozen=True)
class Goal:
    """A distribution of targets.

    Args:
        values: one of them is drawn, each as often; one value is a fixed goal.
        low, high: where `values` is empty: uniform between them.
    """

    values: tuple[float, ...] = ()
    low: float = 0.0
    high: float = 0.0

    def __post_init__(self) -> None:
        if not all(math.isfinite(v) for v in (*self.values, self.low, self.high)) or self.low > self.high:
            raise ConfigError(f"goal: expected finite numbers, low:high in that order, found {self}.")

    @classmethod
    def of(cls, request: str | float | Sequence[float] | Goal, what: str = "goal") -> Goal:
        """From what a user says: `24`, `"24"`, `"-60:60"` (uniform), `"-45,0,45"` (one of them).

        Raises:
            ConfigError: anything else.
        """
        if isinstance(request, Goal):
            return request
        try:
            if isinstance(request, str):
                if ":" in request:
                    low, high = (float(part) for part in request.split(":"))
                    return cls((), low, high)
                return cls(tuple(float(part) for part in request.split(",")))
            if isinstance(request, (int, float)):
                return cls((float(request),))
            return cls(tuple(float(value) for value in request))
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"{what}: expected a number (24), a range (-60:60) or a list (-45,0,45), found {request!r}."
            ) from error

    def at(self, share: NDArray[np.float32]) -> NDArray[np.float32]:
        """The goals for uniforms in [0, 1), same shape."""
        if self.values:
            index = np.minimum((share * len(self.values)).astype(np.int64), len(self.values) - 1)
            return np.asarray(self.values, np.float32)[index]
        return (np.float32(self.low) + share * np.float32(self.high - self.low)).astype(np.float32)

    def describe(self) -> Any:
        """Plain values, for manifests."""
        return {"one of": list(self.values)} if self.values else {"uniform": [self.low, self.high]}


def draw_goals(
    goals: Mapping[str, Goal], seed: int, identity: NDArray[np.int64], image: NDArray[np.int64]
) -> dict[str, NDArray[np.float32]]:
    """Every image's goals, float32 `[B]` each.

    Args:
        goals: attribute -> distribution.
        seed: of the run.
        identity, image: int64 `[B]`.
    """
    others = [name for name in goals if name not in _COLUMNS]
    places = {**_COLUMNS, **{name: len(_COLUMNS) + i for i, name in enumerate(others)}}
    share = uniforms(seed, Purpose.ATTRIBUTE, identity, image, len(_COLUMNS) + len(others))
    return {name: goal.at(share[:, places[name]]) for name, goal in goals.items()}
