"""One cursor over a counter-based stream: every trait takes its numbers in a fixed order.

The order of the calls is part of a `WORLD_VERSION`: a number may be left unused, never skipped.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from v2f_engine.randomness import Purpose, uniforms


def draws(seed: int, purpose: Purpose, identity: int, image: int, n: int) -> NDArray[np.float32]:
    """Uniforms float32 `[n]` in [0, 1) of one (purpose, identity, image)."""
    return uniforms(seed, purpose, identity, image, n).reshape(-1)


class Draw:
    """Hands out a stream of uniforms, as the distributions the renderer needs."""

    def __init__(self, values: NDArray[np.float32]) -> None:
        self.values, self.at = values, 0

    def take(self, n: int) -> NDArray[np.float32]:
        """The next `n` uniforms."""
        self.at += n
        return self.values[self.at - n : self.at]

    def u(self, lo: float = 0.0, hi: float = 1.0) -> float:
        """Uniform in [lo, hi)."""
        self.at += 1
        return lo + (hi - lo) * float(self.values[self.at - 1])

    def n(self, mean: float = 0.0, sd: float = 1.0, clip: float = 3.0) -> float:
        """Normal, clipped at `clip` standard deviations (Box-Muller, two uniforms)."""
        a, b = self.u(), self.u()
        z = float(np.sqrt(-2 * np.log(1 - a)) * np.cos(2 * np.pi * b))
        return mean + sd * min(max(z, -clip), clip)

    def normals(self, n: int) -> NDArray[np.float64]:
        """`n` standard normals clipped at 3."""
        a, b = self.take(n).astype(np.float64), self.take(n).astype(np.float64)
        z = np.sqrt(-2 * np.log(1 - a)) * np.cos(2 * np.pi * b)
        return np.asarray(np.clip(z, -3, 3), np.float64)

    def chance(self, p: float) -> bool:
        """True with probability `p`."""
        return self.u() < p

    def pick(self, weights: Sequence[float]) -> int:
        """An index, with the given unnormalised weights."""
        w = np.cumsum(np.asarray(weights, float))
        return int(np.searchsorted(w / w[-1], self.u(), side="right"))
