"""Demographic breakdown: the error rates of each group at one common threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import VectorError
from v2f_engine.evaluate.features import FeatureTable
from v2f_engine.scores import equal_error_rate, genuine_impostor

IMPOSTORS = 500_000


@dataclass(frozen=True)
class GroupErrors:
    """One group's errors; impostor pairs lie within the group, which is where people are alike.

    Args:
        name: of the group.
        identities, images: how many.
        eer: within the group.
        false_match_rate, false_non_match_rate: at the common threshold.
    """

    name: str
    identities: int
    images: int
    eer: float
    false_match_rate: float
    false_non_match_rate: float


@dataclass(frozen=True)
class Breakdown:
    """All groups at one threshold.

    Args:
        threshold: cosine.
        groups: in the order of their names.
        spread: largest minus smallest false-non-match rate.
        worst_ratio: largest over smallest false-match rate; None where the smallest is zero.
        mean_minus_deviation: of (1 - EER) over groups, the trade-off by which the FRCSyn challenges rank.
    """

    threshold: float
    groups: tuple[GroupErrors, ...]
    spread: float
    worst_ratio: float | None
    mean_minus_deviation: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure_groups(
    table: FeatureTable, groups: Sequence[str], *, threshold: float, seed: int = 0
) -> Breakdown:
    """Errors by group.

    Args:
        table: features and identities.
        groups: name of each image's group `[N]`.
        threshold: common cosine, from calibration on everybody.
        seed: of the impostor pairs drawn.

    Raises:
        VectorError: names that do not fit, or no group with two identities and a genuine pair.
    """
    names = np.asarray(groups)
    if names.shape != (len(table),):
        raise VectorError(f"expected {len(table)} group names, one per image, found {list(names.shape)}.")
    found = []
    for name in np.unique(names):
        rows = np.flatnonzero(names == name)
        labels = table.labels[rows]
        counts = np.unique(labels, return_counts=True)[1]
        if len(counts) < 2 or counts.max() < 2:
            continue
        genuine, impostor = genuine_impostor(table.features[rows], labels, impostors=IMPOSTORS, seed=seed)
        found.append(
            GroupErrors(
                str(name),
                len(counts),
                len(rows),
                equal_error_rate(genuine, impostor)[0],
                float((impostor > threshold).mean()),
                float((genuine <= threshold).mean()),
            )
        )
    if not found:
        raise VectorError("No group has two identities and two images of one; nothing to break down.")
    misses = [group.false_non_match_rate for group in found]
    matches = [group.false_match_rate for group in found]
    right = np.array([1 - group.eer for group in found])
    return Breakdown(
        threshold,
        tuple(found),
        max(misses) - min(misses),
        max(matches) / min(matches) if min(matches) else None,
        float(right.mean() - right.std()),
    )


def named_groups(values: NDArray[Any], bins: int = 3) -> list[str]:
    """Names of groups from a column of attributes: few distinct values as they are, many by equal-sized ranges."""
    column = np.asarray(values)
    if column.dtype.kind not in "fiu":
        return [str(value) for value in column]
    distinct = np.unique(column)
    if len(distinct) <= bins:
        return [f"{value:g}" for value in column]
    edges = np.quantile(column, np.linspace(0, 1, bins + 1))
    place = np.clip(np.searchsorted(edges, column, side="right") - 1, 0, bins - 1)
    return [f"{edges[p]:.3g} to {edges[p + 1]:.3g}" for p in place]
