"""How far a faint stripe over a face turns a recogniser's feature: the resonances of its strided layers.

A generator whose loss is a frozen recogniser climbs them: the third edition of `mini` drew a comb of period 4 over
every face, where its extractor's feature turned most. A recogniser that judges by faces keeps a cosine near 1 at
every period.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.config import at_least
from v2f_engine.errors import ConfigError
from v2f_engine.models.embedder import Embedder
from v2f_engine.models.features import extract_features

PERIODS = (2, 3, 4, 5, 6, 8, 10, 12, 14, 16)
"""Pixels of an image of 112."""
LEVELS = 6.0
"""Grey levels that a stripe adds at its crest and takes away in its trough: seen on skin, hardly on hair."""
DIRECTIONS = ("columns", "rows")
"""What a stripe alternates over: `columns` are vertical bars."""
PHASES = 2
"""Positions of the stripes, a share of a period apart: a strided layer hears some better than others."""


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
        return {"levels": self.levels, "images": self.images, "cosine_by_period_px": rows}


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
    model: Embedder, images: NDArray[np.uint8], *, periods: tuple[int, ...] = PERIODS, levels: float = LEVELS
) -> StripeResponse:
    """Reads every face with stripes of every period and direction.

    Args:
        model: a recogniser.
        images: uint8 `[N, H, W, 3]`, RGB, aligned.
        periods: pixels.
        levels: amplitude in grey levels.

    Raises:
        ConfigError: no images, or a period below two pixels.
    """
    if not len(images):
        raise ConfigError("A stripe response needs faces: expected at least one image, found none.")
    for period in periods:
        at_least("period", period, 2)
    plain = _directions(extract_features(model, images))
    cosines: dict[str, dict[int, float]] = {name: {} for name in DIRECTIONS}
    for name in DIRECTIONS:
        for period in periods:
            found = [
                (
                    plain
                    * _directions(
                        extract_features(model, striped(images, period, name, levels, k / 2 / PHASES))
                    )
                ).sum(1)
                for k in range(PHASES)
            ]
            cosines[name][period] = float(np.mean(found))
    return StripeResponse(levels, len(images), cosines)


def _directions(features: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = features.astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True).clip(1e-12))
