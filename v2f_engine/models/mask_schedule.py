"""How many of the 49 image tokens are dropped and masked: the published truncated normal, drawn per image.

The published code draws ONE ratio per forward call, from numpy's global generator, so a picture depends
on which others share its batch. Here each image has its own count and its own row order, keyed by
(seed, identity, image), unless `chance` gives several the same count (`options.ImageOptions.mask_batch`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from v2f_engine.config import at_least, between, one_of
from v2f_engine.randomness import Purpose, uniforms

N_TOKENS = 49
"""Image tokens of a 7x7 grid; row 0 of the sequence, the feature row, is never masked and not counted."""


def _normal_cdf(x: float) -> float:
    return 0.5 * (1.0 + math.erf(x / math.sqrt(2.0)))


@dataclass(frozen=True)
class MaskSchedule:
    """Mask ratios `~ Normal(mean, std)` truncated to `[minimum, maximum]`.

    The `ceil(49 * minimum)` rows of smallest noise are dropped from the encoder, the `ceil(49 * ratio)`
    smallest are masked; dropped rows are a subset of the masked ones.
    """

    minimum: float
    mean: float
    std: float
    maximum: float

    def __post_init__(self) -> None:
        between("mask minimum", self.minimum, 0.0, 1.0)
        between("mask maximum", self.maximum, self.minimum, 1.0)
        at_least("mask std", self.std, 1e-6)

    @property
    def n_dropped(self) -> int:
        """Rows removed from the encoder input: fixed by the minimum, so every tensor shape is static."""
        return math.ceil(N_TOKENS * self.minimum)

    @cached_property
    def _cumulative(self) -> NDArray[np.float64]:
        """P(n_masked <= k) for k = 0..49. Only the integer count matters, so a table of 50 is exact."""
        low = _normal_cdf((self.minimum - self.mean) / self.std)
        high = _normal_cdf((self.maximum - self.mean) / self.std)
        if self.maximum == self.minimum or high == low:
            return (np.arange(N_TOKENS + 1) >= math.ceil(N_TOKENS * self.maximum)).astype(np.float64)
        ratios = np.clip(np.arange(N_TOKENS + 1) / N_TOKENS, self.minimum, self.maximum)
        table = np.array([(_normal_cdf((r - self.mean) / self.std) - low) / (high - low) for r in ratios])
        table[math.ceil(N_TOKENS * self.maximum) :] = 1.0
        return table

    def draw(
        self,
        seed: int,
        identity: NDArray[np.int64],
        image: NDArray[np.int64],
        chance: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Noise that orders the rows, and the masked count of every image.

        Args:
            seed: 64-bit seed of the run.
            identity, image: int64 `[B]`.
            chance: float32 `[B]` in [0, 1), the quantile of each image's ratio; its own by default.

        Returns:
            noise float32 `[B, 49]` in [0, 1) and n_masked int64 `[B]` in `n_dropped..49`.
        """
        noise = uniforms(seed, Purpose.MASK_ROWS, identity, image, N_TOKENS)
        if chance is None:
            chance = uniforms(seed, Purpose.MASK_COUNT, identity, image, 1)[:, 0]
        n_masked = np.searchsorted(self._cumulative, chance, side="right").astype(np.int64)
        return noise, np.clip(n_masked, self.n_dropped, N_TOKENS)


MASK_SCHEDULES = {
    "train": MaskSchedule(0.5, 0.75, 0.25, 1.0),
    "generate": MaskSchedule(0.1, 0.15, 0.25, 1.0),
    "demo": MaskSchedule(0.1, 0.15, 0.25, 0.5),
    "plus-train": MaskSchedule(0.6, 0.70, 0.10, 0.8),
    "plus-generate": MaskSchedule(0.8, 0.85, 0.05, 0.9),
}
"""The schedules in published use, by name (training, generation scripts, demo, Vec2Face+)."""

FIXED_SPREAD = 1e-6
"""Of a ratio given as a number: the narrowest normal that a schedule may have, less than a row of 49."""


def schedule_of(masks: str | MaskSchedule) -> MaskSchedule:
    """A schedule given, by name, or of one ratio for all images: `"0.4"`.

    Of a ratio as many rows are dropped as in `generate`, a tenth, or fewer where fewer are masked.

    Raises:
        ConfigError: a name that nobody knows, or a ratio outside [0, 1].
    """
    if isinstance(masks, MaskSchedule):
        return masks
    try:
        ratio = float(masks)
    except ValueError:
        return MASK_SCHEDULES[one_of("masks", masks, MASK_SCHEDULES)]
    between("mask ratio (masks, --masks)", ratio, 0.0, 1.0)
    return MaskSchedule(min(ratio, MASK_SCHEDULES["generate"].minimum), ratio, FIXED_SPREAD, 1.0)
