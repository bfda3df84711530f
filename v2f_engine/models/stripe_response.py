"""How far a faint stripe over a face turns a recogniser's feature: the resonances of its strided layers.

A generator whose loss is a frozen recogniser climbs them: the third edition of `mini` drew a comb of period 4 over
every face, where its extractor's feature turned most. A recogniser that judges by faces keeps a cosine near 1 at
every period.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from v2f_engine.config import at_least
from v2f_engine.errors import ConfigError, VectorError
from v2f_engine.models.embedder import Embedder
from v2f_engine.models.feature_health import judge_features
from v2f_engine.models.features import extract_features

PERIODS = (2, 3, 4, 5, 6, 8, 10, 12, 14, 16)
"""Pixels of an image of 112."""
LEVELS = 6.0
"""Grey levels that a stripe adds at its crest and takes away in its trough: seen on skin, hardly on hair."""
DIRECTIONS = ("columns", "rows")
"""What a stripe alternates over: `columns` are vertical bars."""
PHASES = 2
"""Positions of the stripes, a share of a period apart: a strided layer hears some better than others."""
FACES = 64
"""Faces that are enough: 64 others of a set move the worst cosine of `mini` by 0.01."""


@dataclass(frozen=True)
class StripeResponse:
    """Mean cosine of a face's feature with and without stripes.

    Args:
        levels: amplitude in grey levels of 255.
        images: faces looked at.
        cosines: direction -> period in pixels -> mean cosine over faces and phases.
    """

    levels: float
    images: int
    cosines: dict[str, dict[int, float]]

    @property
    def worst(self) -> tuple[float, str, int]:
        """(cosine, direction, period) of the lowest."""
        return min((c, name, period) for name, row in self.cosines.items() for period, c in row.items())

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a card."""
        rows = {name: {str(p): round(c, 4) for p, c in row.items()} for name, row in self.cosines.items()}
        cosine, direction, period = self.worst
        return {
            "levels": self.levels,
            "images": self.images,
            "cosine_by_period_px": rows,
            "worst": {"cosine": round(cosine, 4), "direction": direction, "period_px": period},
        }

    def lines(self) -> list[str]:
        """A table for people: a row a direction, a column a period, and the worst."""
        periods = next(iter(self.cosines.values()))
        cosine, direction, period = self.worst
        return [
            "period, px" + "".join(f"{period:6d}" for period in periods),
            *(
                f"{name:<10}" + "".join(f"{c:6.2f}" for c in row.values())
                for name, row in self.cosines.items()
            ),
            f"worst {cosine:.3f}, {period} px across {direction}",
        ]


def striped(
    images: NDArray[np.uint8], period: float, direction: str, levels: float, phase: float
) -> NDArray[np.uint8]:
    """Images `[N, H, W, 3]` with a sinusoidal stripe of `levels` on all channels, rounded and clipped.

    Args:
        period: pixels.
        direction: in `DIRECTIONS`.
        phase: share of a period, 0..1.
    """
    side = images.shape[2 if direction == "columns" else 1]
    wave = levels * np.cos(2 * np.pi * (np.arange(side) / period + phase))
    shape = (1, 1, side, 1) if direction == "columns" else (1, side, 1, 1)
    return np.asarray(np.rint(np.clip(images + wave.reshape(shape), 0, 255)), np.uint8)


def stripe_response(
    model: nn.Module | Embedder,
    images: NDArray[np.uint8],
    *,
    periods: tuple[int, ...] = PERIODS,
    levels: float = LEVELS,
    batch: int = 128,
    progress: Callable[[int, int], object] | None = None,
) -> StripeResponse:
    """Reads every face with stripes of every period and direction.

    Args:
        model: a recogniser, as in `extract_features`.
        images: uint8 `[N, H, W, 3]`, RGB, aligned.
        periods: pixels.
        levels: amplitude in grey levels.
        batch: images a call.
        progress: called with (images read, of how many).

    Raises:
        ConfigError: no images, or a period below two pixels.
        VectorError: features that are not finite or have no direction.
    """
    if not len(images):
        raise ConfigError("A stripe response needs faces: expected at least one image, found none.")
    for period in periods:
        at_least("period", period, 2)
    done, whole = 0, len(images) * (1 + len(DIRECTIONS) * len(periods) * PHASES)

    def read(seen: NDArray[np.uint8]) -> NDArray[np.float64]:
        nonlocal done
        directions = _directions(extract_features(model, seen, batch=batch))
        done += len(seen)
        if progress is not None:
            progress(done, whole)
        return directions

    plain = read(images)
    cosines: dict[str, dict[int, float]] = {name: {} for name in DIRECTIONS}
    for name in DIRECTIONS:
        for period in periods:
            found = [
                (plain * read(striped(images, period, name, levels, k / 2 / PHASES))).sum(1)
                for k in range(PHASES)
            ]
            cosines[name][period] = float(np.mean(found))
    return StripeResponse(levels, len(images), cosines)


def _directions(features: NDArray[np.float32]) -> NDArray[np.float64]:
    health = judge_features(features)
    if len(health.non_finite) or len(health.zero):
        raise VectorError(f"stripe response: {'; '.join(health.faults())}.")
    wide = features.astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True))
