"""Similarity scores: what a threshold accepts, and where genuine and impostor errors meet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import ConfigError


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


def threshold_at_fmr(impostor: NDArray[np.float32], fmr: float) -> float:
    """The lowest threshold at which at most a share `fmr` of impostor pairs scores at or above it.

    Raises:
        ConfigError: fewer than `1 / fmr` impostor pairs, too few to say.
    """
    if len(impostor) * fmr < 1.0:
        raise ConfigError(
            f"A false-match rate of {fmr:g} needs {1 / fmr:.0f} impostor pairs, found {len(impostor)}."
        )
    allowed = int(np.floor(len(impostor) * fmr))
    ranked = np.sort(impostor)[::-1]
    return float(np.nextafter(ranked[allowed], np.float32(np.inf)))
