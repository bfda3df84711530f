"""Similarity scores: what a threshold accepts, and where genuine and impostor errors meet."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import ConfigError

TELLING = 10
"""Impostor pairs above a threshold before its rate is one to rely on: +-32 % (one standard error)."""


def genuine_impostor(
    features: NDArray[np.float32], labels: NDArray[np.int64], *, impostors: int = 2_000_000, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosines of all pairs of one label, and of a sample of pairs of two.

    Args:
        features: float32 `[N, D]`, any norm above zero.
        labels: int64 `[N]`.
        impostors: pairs drawn (with replacement; pairs of one label are dropped).
        seed: of the draw.

    Returns:
        genuine float32 `[G]`, impostor float32 `[I]`.
    """
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    order = np.argsort(labels, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    genuine = []
    for group in groups:
        similarity = unit[group] @ unit[group].T
        genuine.append(similarity[np.triu_indices(len(group), 1)])
    generator = np.random.Generator(np.random.Philox(key=seed))
    pairs = generator.integers(0, len(features), (impostors, 2))
    pairs = pairs[labels[pairs[:, 0]] != labels[pairs[:, 1]]]
    chunks = [
        np.einsum("nd,nd->n", unit[part[:, 0]], unit[part[:, 1]])
        for part in np.array_split(pairs, max(1, len(pairs) // 100_000))
    ]
    return np.concatenate(genuine).astype(np.float32), np.concatenate(chunks).astype(np.float32)


def equal_error_rate(genuine: NDArray[np.float32], impostor: NDArray[np.float32]) -> tuple[float, float]:
    """(error rate, threshold) where false matches and false non-matches are equally frequent.

    The rate is the mean of both errors at the threshold where they cross, both being step functions.
    """
    if not len(genuine) or not len(impostor):
        raise ConfigError(
            f"EER needs both kinds of pairs, found {len(genuine)} genuine, {len(impostor)} impostor."
        )
    g, i = np.sort(genuine), np.sort(impostor)
    thresholds = np.unique(np.concatenate([g, i]))
    miss = np.searchsorted(g, thresholds, side="left") / len(g)
    false = 1.0 - np.searchsorted(i, thresholds, side="left") / len(i)
    at = int(np.argmin(np.abs(miss - false)))
    return float((miss[at] + false[at]) / 2), float(thresholds[at])


def require_pairs(pairs: int, fmr: float, telling: int = TELLING) -> None:
    """Raises ConfigError unless `fmr` is in (0, 1) and `telling` of that many impostor pairs are above it."""
    if not 0 < fmr < 1:
        raise ConfigError(f"fmr must lie between 0 and 1, found {fmr!r}.")
    if pairs * fmr < telling:
        raise ConfigError(
            f"A false-match rate of {fmr:g} needs {math.ceil(telling / fmr):,} pairs of different identities "
            f"or more, found {pairs:,}. Give more identities or a higher rate."
        )


def threshold_at_fmr(impostor: NDArray[np.float32], fmr: float) -> float:
    """The lowest threshold at which at most a share `fmr` of impostor pairs scores at or above it.

    Raises:
        ConfigError: fewer than `1 / fmr` impostor pairs; to set a limit by, have TELLING times as many.
    """
    require_pairs(len(impostor), fmr, telling=1)
    allowed = int(np.floor(len(impostor) * fmr))
    ranked = np.sort(impostor)[::-1]
    return float(np.nextafter(ranked[allowed], np.float32(np.inf)))


class ScoreHistogram:
    """Cosines of any number of pairs in 2**20 bins over [-1, 1]: `threshold_at_fmr` to 2e-6 in 8 MiB."""

    BINS = 2**20

    def __init__(self) -> None:
        self._counts = np.zeros(self.BINS, np.int64)

    @property
    def count(self) -> int:
        """Pairs added."""
        return int(self._counts.sum())

    def add(self, cosines: NDArray[np.float32]) -> None:
        """Adds cosines of any shape; rounding beyond [-1, 1] counts as the end."""
        bins = ((cosines.ravel() + np.float32(1)) * np.float32(self.BINS / 2)).astype(np.int64)
        self._counts += np.bincount(np.clip(bins, 0, self.BINS - 1), minlength=self.BINS)

    def threshold_at_fmr(self, fmr: float) -> tuple[float, float]:
        """(lowest threshold that at most a share `fmr` reaches, the share that reaches it).

        Raises:
            ConfigError: as `require_pairs`.
        """
        require_pairs(self.count, fmr)
        reaching = np.append(np.cumsum(self._counts[::-1])[::-1], 0)  # pairs in bin b or above
        first = int(np.argmax(reaching <= fmr * self.count))
        return first * 2 / self.BINS - 1, float(reaching[first] / self.count)
