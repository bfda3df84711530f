"""Whether rows that should be a person each show people again and again: features of images, given for centres.

A fit on images is another fit: of 4,000 people with ten images each the rows are 21.9 long where centres are 18.9, and
the covariance holds how one person's images differ, so that people are drawn too long and too far from each other.
Length alone does not tell (a factor of 1.16). Rows of one person do: they lie at a cosine of about 0.7, and people do
not. So pairs of rows are counted that are more alike than `ALIKE`, and those among as many draws of the fit itself,
which knows the same mean and covariance and no one twice.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import V2FWarning
from v2f_engine.randomness import Purpose, normals

ALIKE = 0.5
"""Cosine between two images of one person: 0.7 in the mean; above the limit of every recogniser here (0.3 to 0.491)."""
LOOKED_AT = 4096
"""Rows compared with each other: of 4.2 million images of 206 thousand people they show 40 pairs."""
BESIDE = 64
"""Rows in a row, at as many places: files keep a person's images together."""
SURE, TIMES = 8, 4
"""Pairs beyond those of the fit, and times as many as those, that a chance does not give."""


class Repeats:
    """Looks at some of the rows while they pass.

    Args:
        total: rows in all.
    """

    def __init__(self, total: int) -> None:
        runs = min(LOOKED_AT // BESIDE, max(1, total // BESIDE))
        starts = np.linspace(0, max(0, total - BESIDE), runs).astype(np.int64)
        self._wanted = np.unique((starts[:, None] + np.arange(min(BESIDE, total))).ravel())
        self._rows: list[NDArray[np.float32]] = []

    def add(self, first: int, rows: NDArray[np.float32]) -> None:
        """Rows `[N, D]`, of which the first is number `first`."""
        low, high = np.searchsorted(self._wanted, (first, first + len(rows)))
        if high > low:
            self._rows.append(rows[self._wanted[low:high] - first].copy())

    def warn(self, what: str, mean: NDArray[np.float64], factor: NDArray[np.float32]) -> None:
        """Says so where the rows repeat people; `mean` `[D]` and `factor` `[D, K]` are of the fit on all rows.

        Warns:
            V2FWarning: with the pairs found and expected, and the length found and expected of centres.
        """
        rows = np.concatenate(self._rows)
        if len(rows) < 2:
            return
        z = normals(0, Purpose.IDENTITY_VECTOR, np.arange(len(rows)), 0, factor.shape[1])
        found, within = _alike(rows)
        expected, _ = _alike((z @ factor.T + mean).astype(np.float32))
        if found < expected + SURE or found < TIMES * expected:
            return
        length = float(np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64)).mean())
        warnings.warn(
            f"{what}: rows show people again and again: {found:,} pairs of {len(rows):,} rows looked at are more alike "
            f"than {ALIKE} (cosine {within:.2f} in the mean), of as many people it would be about {expected:,}. These "
            f"look like features of images, {length:.3g} long; centres of such people would be about "
            f"{length * np.sqrt(within):.3g} long, and the fit is of people: draws come out too long and too varied. "
            "Give --labels (v2f ids fit, v2f ids centres), or ignore this where every row is a person.",
            V2FWarning,
            stacklevel=3,
        )


def _alike(rows: NDArray[np.float32]) -> tuple[int, float]:
    """(pairs with a cosine above `ALIKE`, their mean cosine)."""
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    count, total = 0, 0.0
    for start in range(0, len(units), 512):
        cosines = units[start : start + 512] @ units.T
        near = (cosines > ALIKE) & (np.arange(len(units)) > np.arange(start, start + len(cosines))[:, None])
        count += int(near.sum())
        total += float(cosines[near].sum())
    return count, total / max(1, count)
